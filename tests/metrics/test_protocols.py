from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from vultus.metrics.catalogue import METRICS
from vultus.metrics.image import mean_absolute_error, psnr, psnr_foreground, ssim
from vultus.metrics.protocols import PROTOCOLS, Protocol
from vultus.nets.perceptual import LpipsNetwork

SIZE = 256


@dataclass(frozen=True)
class Maps:
    """Stands in for a rendering and for a frame."""

    rgb: Tensor
    mask: Tensor | None = None
    face_mask: Tensor | None = None
    normals: Tensor | None = None
    depth: Tensor | None = None

    @property
    def image(self) -> Tensor:
        return self.rgb

    @property
    def surface_depth(self) -> Tensor | None:
        return self.depth

    @property
    def alpha(self) -> Tensor:
        assert self.mask is not None
        return self.mask


def pair(size: int = SIZE) -> tuple[Maps, Maps]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, size, size, generator=generator)
    rgb = (target + 0.1 * torch.rand(1, 3, size, size, generator=generator)).clamp(0, 1)
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 :, :] = 1.0
    normals = torch.nn.functional.normalize(torch.rand_like(target) + 0.1, dim=1)
    depth = torch.rand(1, 1, size, size, generator=generator) + 1.0
    return (
        Maps(rgb, mask, normals=normals, depth=depth + 0.002),
        Maps(target, mask, normals=normals * mask, depth=depth * mask),
    )


def test_every_metric_of_every_protocol_is_in_the_catalogue() -> None:
    assert all(name in METRICS for p in PROTOCOLS.values() for name in p.metrics)
    assert all(PROTOCOLS[name].id == name for name in PROTOCOLS)


def test_values_are_those_of_the_metric_functions() -> None:
    output, frame = pair()
    values = PROTOCOLS["demo-v1"].measure(output, frame).values
    assert frame.mask is not None
    assert values["psnr"] == pytest.approx(float(psnr(output.rgb, frame.rgb)))
    inside = psnr_foreground(output.rgb, frame.rgb, frame.mask > 0.5)
    assert values["psnr_foreground"] == pytest.approx(float(inside))
    assert values["mask_iou"] == 1.0
    assert values["normal_cosine"] == pytest.approx(1.0, abs=1e-5)
    assert values["depth_error_mm"] == pytest.approx(2.0, rel=1e-3)


def test_masked_metrics_see_black_outside_the_mask() -> None:
    output, frame = pair(64)
    assert frame.mask is not None
    values = PROTOCOLS["surfhead-v1"].measure(output, frame).values
    expected = psnr(output.rgb * frame.mask, frame.rgb * frame.mask)
    assert values["psnr_masked"] == pytest.approx(float(expected))
    assert values["psnr_masked"] > values["psnr"]


def test_masked_metrics_look_at_the_face_where_it_is_known() -> None:
    output, frame = pair(64)
    protocol = PROTOCOLS["surfhead-v1"]
    face = torch.zeros(1, 1, 64, 64)
    face[..., 20:40, 20:40] = 1.0
    by_foreground = protocol.measure(output, frame)
    by_face = protocol.measure(output, replace(frame, face_mask=face))
    by_nothing = protocol.measure(output, replace(frame, mask=None))
    assert [m.mask for m in (by_foreground, by_face, by_nothing)] == ["foreground", "face", "none"]
    for name, function in (("psnr", psnr), ("l1", mean_absolute_error), ("ssim", ssim)):
        expected = function(output.rgb * face, frame.rgb * face)
        assert by_face.values[f"{name}_masked"] == pytest.approx(float(expected))
        assert by_face.values[name] == by_foreground.values[name]
        assert f"{name}_masked" in by_nothing.unavailable
    # What is compared with the silhouette or with true normals is not the face alone.
    assert by_face.values["normal_cosine"] == by_foreground.values["normal_cosine"]
    iou = PROTOCOLS["held-out-v1"].measure(output, replace(frame, face_mask=face))
    assert iou.values["mask_iou"] == 1.0


def test_each_metric_has_either_a_value_or_a_reason() -> None:
    output, frame = pair()
    bare = replace(frame, mask=None, normals=None, depth=None)
    for protocol in PROTOCOLS.values():
        for truth in (frame, bare):
            found = protocol.measure(output, truth)
            assert sorted([*found.values, *found.unavailable]) == sorted(protocol.metrics)


def test_missing_truth_and_weights_are_the_reasons() -> None:
    output, frame = pair()
    bare = replace(frame, mask=None, normals=None, depth=None)
    reasons = PROTOCOLS["demo-v1"].measure(output, bare).unavailable
    assert reasons == {
        "psnr_foreground": "no mask of the frame",
        "lpips_alex": "weights of LPIPS (alex) are not imported",
        "mask_iou": "no mask of the frame",
        "normal_cosine": "no true normals",
        "normal_angle_deg": "no true normals",
        "depth_error_mm": "no true depth",
    }


def test_truth_that_is_unknown_everywhere_is_unavailable_not_nan() -> None:
    output, frame = pair()
    assert frame.normals is not None
    blank = replace(frame, normals=torch.zeros_like(frame.normals))
    found = PROTOCOLS["demo-v1"].measure(output, blank)
    assert found.unavailable["normal_cosine"] == "no pixel to measure"


def test_imported_network_makes_lpips_available() -> None:
    output, frame = pair()
    network = LpipsNetwork("alex")
    found = PROTOCOLS["demo-v1"].measure(output, frame, {"alex": network})
    assert found.values["lpips_alex"] == pytest.approx(float(network(output.rgb, frame.rgb)))


def test_colours_outside_the_range_are_clamped_before_measuring() -> None:
    output, frame = pair()
    bright = replace(output, rgb=output.rgb + 10.0)
    values = PROTOCOLS["demo-v1"].measure(bright, frame).values
    assert values["psnr"] == pytest.approx(float(psnr(torch.ones_like(frame.rgb), frame.rgb)))


def test_sizes_must_agree_with_each_other_and_with_the_protocol() -> None:
    (output, frame), (small, small_frame) = pair(), pair(64)
    with pytest.raises(ValueError, match="the rendering is 64 x 64, the image 256 x 256 pixels"):
        PROTOCOLS["demo-v1"].measure(small, frame)
    with pytest.raises(ValueError, match="demo-v1 measures 256 x 256 images, got 64 x 64"):
        PROTOCOLS["demo-v1"].measure(small, small_frame)
    assert PROTOCOLS["surfhead-v1"].measure(small, small_frame).values["l1"] > 0
    assert output.rgb.shape[-1] == SIZE


def test_unknown_metric_is_rejected() -> None:
    with pytest.raises(ValueError, match="protocol x-v1: unknown metric 'vmaf'"):
        Protocol("x-v1", "", "", (1.0, 1.0, 1.0), ("psnr", "vmaf"))

"""Maps of a rendered wall of surfels, whose depth and normal are known."""

from __future__ import annotations

import pytest
import torch

from tolerances import assert_close
from triton_support import triton_device
from vultus.geometry.cameras import Camera, look_at, pixel_directions
from vultus.geometry.rotations import axis_angle_to_quaternion, quaternion_to_matrix
from vultus.kernels.surfel_raster import SurfelImages
from vultus.render import surfels
from vultus.render.output import RenderOutput
from vultus.render.surfels import render_surfels

TILT = torch.tensor([[0.3, -0.4, 0.2]]).double()
SIZE = 24


def camera() -> Camera:
    intrinsics = torch.tensor([[[30.0, 0, 12], [0, 30, 12], [0, 0, 1]]]).double()
    eye = torch.tensor([[0.2, 0.1, 2.0]]).double()
    return Camera(look_at(eye, torch.zeros(3).double()), intrinsics, SIZE, SIZE)


def normal() -> torch.Tensor:
    return quaternion_to_matrix(axis_angle_to_quaternion(TILT))[0, :, 2]


def render_wall(opacity: float = 0.95, **options) -> tuple[RenderOutput, dict[str, torch.Tensor]]:
    """Three huge surfels in one tilted plane through the origin."""
    inputs = {
        "means": torch.zeros(1, 3, 3).double(),
        "quats": axis_angle_to_quaternion(TILT).expand(1, 3, 4).clone(),
        "scales": torch.full((1, 3, 2), 50.0).double(),
        "opacities": torch.full((1, 3), opacity).double(),
    }
    for value in inputs.values():
        value.requires_grad_()
    output = render_surfels(
        *inputs.values(), camera(), features=torch.ones(1, 3, 1).double(), **options
    )
    return output, inputs


def wall_depth() -> torch.Tensor:
    """Camera z of the plane through each pixel centre."""
    to_world = camera().camera_to_world[0]
    rays = pixel_directions(camera())[0] @ to_world[:3, :3].T
    return -(to_world[:3, 3] @ normal()) / (rays @ normal())


def test_depth_is_that_of_the_plane_whatever_the_opacity() -> None:
    for opacity in (0.95, 0.5):
        output, _ = render_wall(opacity)
        for depth in (output.depth, output.median_depth):
            assert depth is not None
            assert_close(depth[0, 0], wall_depth())


def test_blended_normals_are_world_normals_times_alpha() -> None:
    output, _ = render_wall(0.5)
    expected = normal()[None, :, None, None] * output.alpha
    assert_close(output.require("normals"), expected)


@pytest.mark.parametrize("depth_ratio", [0.0, 0.3, 1.0])
def test_normals_of_depth_agree_with_those_of_the_surfels(depth_ratio: float) -> None:
    output, _ = render_wall(0.5, depth_ratio=depth_ratio)
    inner = (..., slice(1, -1), slice(1, -1))
    assert_close(output.require("depth_normals")[inner], output.require("normals")[inner])
    assert float(output.require("depth_normals").detach()[..., 0, :].abs().max()) == 0.0


def test_alpha_gets_no_gradient_from_depth_normals() -> None:
    output, inputs = render_wall(0.5)
    output.require("depth_normals").square().sum().backward()
    grad = inputs["opacities"].grad
    assert grad is not None
    assert_close(grad, torch.zeros_like(grad))


def test_depth_is_zero_with_finite_gradients_where_nothing_is() -> None:
    output, inputs = render_wall(0.001)
    assert float(output.alpha.detach().max()) == 0.0
    assert float(output.require("depth").detach().abs().max()) == 0.0
    (output.require("depth").sum() + output.require("depth_normals").sum()).backward()
    for value in inputs.values():
        assert value.grad is None or bool(value.grad.isfinite().all())


def test_maps_that_were_not_asked_for_are_absent() -> None:
    output, _ = render_wall(outputs=("depth",))
    assert output.depth is not None
    assert output.normals is None
    assert output.depth_normals is None
    assert output.distortion is None
    with pytest.raises(ValueError, match="holds no normals"):
        output.require("normals")


@pytest.mark.parametrize(
    ("depth_ratio", "outputs"), [(0.0, ("depth",)), (1.0, ("normal", "median_depth"))]
)
def test_normals_of_depth_need_only_the_depth_that_was_chosen(depth_ratio, outputs) -> None:
    output, _ = render_wall(0.5, depth_ratio=depth_ratio, outputs=outputs)
    complete, _ = render_wall(0.5, depth_ratio=depth_ratio)
    assert (output.depth is None) == ("depth" not in outputs)
    assert torch.equal(output.require("depth_normals"), complete.require("depth_normals"))


def test_normals_of_blended_depth_need_both_depths() -> None:
    output, _ = render_wall(0.5, depth_ratio=0.3, outputs=("normal", "median_depth"))
    assert output.depth_normals is None


@pytest.mark.triton
@pytest.mark.parametrize("depth_ratio", [0.0, 0.3, 1.0])
def test_kernels_make_the_same_normals(depth_ratio: float, monkeypatch) -> None:
    device, generator = triton_device(), torch.Generator().manual_seed(0)
    maps = [torch.rand(1, c, SIZE, SIZE, generator=generator).to(device) for c in (1, 1, 1, 3)]
    alpha, depth_sum, median, view_normals = maps
    empty = torch.zeros(1, 0, 4, device=device)
    raw = SurfelImages(
        view_normals, alpha, empty[..., 0].int(), empty[..., :2], depth_sum, view_normals, median
    )
    monkeypatch.setattr(surfels, "rasterize_surfels", lambda *_, **__: raw)
    lens, found = camera(), []
    lens = Camera(lens.world_to_camera.float(), lens.intrinsics.float(), SIZE, SIZE).to(device)
    for is_for_kernels in (True, False):
        monkeypatch.setattr(surfels, "_is_for_kernels", lambda *_, chosen=is_for_kernels: chosen)
        output = render_surfels(
            empty[..., :3], empty, empty[..., :2], empty[..., 0], lens, depth_ratio=depth_ratio
        )
        found.append((output.require("normals"), output.require("depth_normals")))
    for mine, theirs in zip(*found, strict=True):
        assert_close(mine, theirs, looser=5, reason="differences of points lose digits")


@pytest.mark.parametrize("depth_ratio", [-1.0, 1.5])
def test_depth_ratios_outside_of_the_unit_interval_are_rejected(depth_ratio: float) -> None:
    with pytest.raises(ValueError, match=r"depth_ratio must lie in \[0, 1\]"):
        render_wall(depth_ratio=depth_ratio)

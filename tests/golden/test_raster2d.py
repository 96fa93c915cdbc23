"""Golden images and gradients of the surfel rasterizer, in both conventions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from triton_support import triton_device
from vultus.geometry.cameras import Camera
from vultus.kernels.surfel_raster import SurfelImages, rasterize_surfels

OUTPUTS = ("depth", "normal", "median_depth", "distortion")
INPUTS = ("means3D", "rotations_wxyz", "scales", "opacities", "colors", "jacobians")
DEGENERATE_ROWS = [0, 1, 4]
"""Sub-pixel, needle and edge-on surfels, which the fixture excludes from float32 comparisons."""
pytestmark = pytest.mark.golden("raster2d/surfel_scene_*.safetensors")


@pytest.fixture(
    params=["ref", "cpu", pytest.param("gpu", marks=[pytest.mark.triton, pytest.mark.slow])]
)
def backend(request):
    return request.param


def device_of(backend: str) -> torch.device:
    return triton_device() if backend == "gpu" else torch.device("cpu")


def dtype_of(backend: str) -> torch.dtype:
    return torch.float64 if backend == "ref" else torch.float32


def golden_camera(golden: dict[str, Tensor], dtype: torch.dtype) -> Camera:
    width, height = golden["in.size_wh"].tolist()
    tan_x, tan_y = golden["in.tanfov_xy"].tolist()
    intrinsics = torch.tensor(
        [[width / (2 * tan_x), 0, width / 2], [0, height / (2 * tan_y), height / 2], [0, 0, 1]],
        dtype=torch.float64,
    )
    return Camera(golden["in.w2c"][None].to(dtype), intrinsics[None].to(dtype), width, height)


def rasterize(
    golden: dict[str, Tensor], backend: str, **options: Any
) -> tuple[dict[str, Tensor], SurfelImages]:
    dtype, device = dtype_of(backend), device_of(backend)
    inputs = {
        name: golden[f"in.{name}"][None].to(device, dtype).requires_grad_()
        for name in INPUTS
        if f"in.{name}" in golden
    }
    images = rasterize_surfels(
        inputs["means3D"],
        inputs["rotations_wxyz"],
        inputs["scales"],
        inputs["opacities"][..., 0],
        golden_camera(golden, dtype).to(device),
        features=inputs["colors"],
        jacobians=inputs.get("jacobians"),
        background=golden["in.bg"].to(device, dtype),
        convention="surfhead" if "jacobians" in inputs else "2dgs",
        outputs=OUTPUTS,
        backend=backend,
        **options,
    )
    return inputs, images


def stacked_maps(images: SurfelImages) -> Tensor:
    """The published order: depth, alpha, normal, median depth, distortion."""
    assert images.depth_sum is not None
    assert images.normal_view_sum is not None
    assert images.median_depth is not None
    assert images.distortion is not None
    parts = [images.depth_sum, images.alpha, images.normal_view_sum, images.median_depth]
    return torch.cat([*parts, images.distortion], dim=1)[0]


@pytest.mark.parametrize(("cull", "suffix"), [("3sigma", ""), ("exact", "_notile")])
def test_images_agree_with_the_fixture(golden, backend, cull, suffix):
    _, images = rasterize(golden, backend, cull=cull)
    tolerance = 1e-10 if backend == "ref" else 1e-4
    for actual, expected in (
        (images.image[0], golden[f"out.rgb{suffix}"]),
        (stacked_maps(images), golden[f"out.allmap{suffix}"]),
    ):
        torch.testing.assert_close(actual.double().cpu(), expected, rtol=0, atol=tolerance)


def test_radii_agree_with_the_fixture(golden, backend):
    _, images = rasterize(golden, backend, cull="3sigma")
    assert torch.equal(images.radii[0].cpu(), golden["pre.radii"])


@pytest.mark.parametrize(
    ("loss", "detached"),
    [
        ("rgb", None),
        ("depth_alpha_normal", None),
        ("median", None),
        ("dist_full", False),
        ("dist_detached_weights", True),
    ],
)
def test_gradients_agree_with_the_fixture(golden, backend, loss, detached):
    inputs, images = rasterize(golden, backend, cull="3sigma", detach_distortion_weights=detached)
    maps, device = stacked_maps(images), images.image.device
    weights = golden["w.allmap"].to(device)
    {
        "rgb": lambda: images.image[0] * golden["w.rgb"].to(device),
        "depth_alpha_normal": lambda: maps[:5] * weights[:5],
        "median": lambda: maps[5] * weights[5],
    }.get(loss, lambda: maps[6] * golden["w.dist"][0].to(device))().sum().backward()
    rows = torch.ones(len(golden["in.means3D"]), dtype=torch.bool)
    tolerance = 1e-9
    if backend != "ref":
        rows[DEGENERATE_ROWS] = False
        # One pixel of the first scene lies on a threshold and dominates its small distortion.
        tolerance = 1e-3 if loss.startswith("dist") else 1e-4
    largest = max(float(golden[f"grad.{loss}.{name}"].abs().max()) for name in inputs)
    for name, tensor in inputs.items():
        assert tensor.grad is not None
        expected = golden[f"grad.{loss}.{name}"][rows]
        # Scales slide along their plane: their gradients of depth alone are rounding of zero.
        scale = max(float(expected.abs().max()), 1e-6 * largest)
        error = float((tensor.grad[0].cpu()[rows] - expected).abs().max()) / scale
        assert error < tolerance, f"{name}: {error}"


def test_screen_gradient_is_the_densification_signal_of_the_fixture(golden, backend):
    _, images = rasterize(golden, backend, cull="3sigma")
    (images.image[0] * golden["w.rgb"].to(images.image.device)).sum().backward()
    expected = golden["densify.grad2d_rgb"]
    assert images.screen_gradient.grad is not None
    error = (images.screen_gradient.grad[0].cpu() - expected).abs().max() / expected.abs().max()
    assert error < (1e-9 if backend == "ref" else 1e-3)


def test_default_distortion_gradient_follows_the_convention(golden, backend):
    inputs, images = rasterize(golden, backend, cull="3sigma")
    (stacked_maps(images)[6] * golden["w.dist"][0].to(images.image.device)).sum().backward()
    kind = "dist_detached_weights" if "jacobians" in inputs else "dist_full"
    expected = golden[f"grad.{kind}.means3D"]
    assert inputs["means3D"].grad is not None
    error = (inputs["means3D"].grad[0].cpu() - expected).abs().max() / expected.abs().max()
    assert error < (1e-9 if backend == "ref" else 2e-3)


@pytest.mark.triton
def test_gpu_agrees_with_a_window_of_the_fixture(golden):
    """Small enough for Triton's interpreter: a camera that sees 16 x 16 pixels of the image."""
    device, (x, y), size = triton_device(), (20, 28), 16
    camera = golden_camera(golden, torch.float32)
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, 0, 2] -= x
    intrinsics[:, 1, 2] -= y
    inputs = {name: golden[f"in.{name}"][None].float().to(device) for name in INPUTS[:5]}
    jacobians = golden.get("in.jacobians")
    images = rasterize_surfels(
        inputs["means3D"], inputs["rotations_wxyz"], inputs["scales"], inputs["opacities"][..., 0],
        Camera(camera.world_to_camera, intrinsics, size, size).to(device),
        features=inputs["colors"],
        jacobians=None if jacobians is None else jacobians[None].float().to(device),
        background=golden["in.bg"].float().to(device),
        convention="2dgs" if jacobians is None else "surfhead",
        outputs=OUTPUTS,
        backend="gpu",
    )  # fmt: skip
    for actual, name in ((images.image[0], "rgb"), (stacked_maps(images), "allmap")):
        expected = golden[f"out.{name}_notile"][:, y : y + size, x : x + size]
        torch.testing.assert_close(actual.double().cpu(), expected, rtol=0, atol=1e-4)

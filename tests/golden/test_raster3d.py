"""Golden images and gradients of the Gaussian rasterizer, in both gradient conventions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from triton_support import is_interpreting, triton_device
from vultus.geometry.cameras import Camera
from vultus.kernels.gaussian_raster import Backend, GaussianImages, rasterize_gaussians, ref

INPUTS = ("means3D", "rotations", "scales", "cov3D_precomp", "opacities", "shs", "colors_precomp")
PIXELS_TO_INTERPRET = 1024
LOSSES = ("color", "colorofficial", "depth", "alpha", "feat")
pytestmark = pytest.mark.golden("raster3d/*.safetensors")


@pytest.fixture(params=["ref", "cpu", pytest.param("gpu", marks=pytest.mark.triton)])
def backend(request, golden, monkeypatch):
    """The oracle has to agree to ten digits, so it gets two habits of the published program.

    It divides by depth + 1e-7, and its projection and camera position are inputs that were rounded
    to float32 on their own.
    """
    if request.param == "gpu":
        triton_device()
        if is_interpreting() and golden["safe_pixels"].numel() > PIXELS_TO_INTERPRET:
            pytest.skip("too large an image for Triton's interpreter")
    if request.param == "ref":

        def pixel_positions(points: Tensor, intrinsics: Tensor, size: Tensor) -> Tensor:
            matrix = torch.linalg.inv(golden["in_viewmatrix"]) @ golden["in_projmatrix"]
            clip = torch.nn.functional.pad(points, (0, 1), value=1.0) @ matrix
            return (clip[:, :2] / (clip[:, 3:] + 1e-7) + 1) * size / 2

        monkeypatch.setattr(ref, "_pixel_positions", pixel_positions)
        monkeypatch.setattr(ref, "camera_centers", lambda camera: golden["in_campos"][None])
    return request.param


def device_of(backend: str) -> torch.device:
    return triton_device() if backend == "gpu" else torch.device("cpu")


def golden_camera(golden: dict[str, Tensor], dtype: torch.dtype) -> Camera:
    height, width = golden["in_HW"].tolist()
    fx, fy, cx, cy = golden["in_intrinsics"].tolist()
    intrinsics = torch.tensor([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]], dtype=dtype)
    return Camera(golden["in_viewmatrix"].T[None].to(dtype), intrinsics, width, height)


def rasterize(
    golden: dict[str, Tensor], backend: Backend, **options: Any
) -> tuple[dict[str, Tensor], GaussianImages]:
    """Colours and the five extra channels in one pass; there is a background behind colour only."""
    dtype = torch.float64 if backend == "ref" else torch.float32
    device = device_of(backend)
    inputs = {
        name: golden[f"in_{name}"][None].to(device, dtype).requires_grad_()
        for name in (*INPUTS, "features")
        if f"in_{name}" in golden
    }
    if "cov3D_precomp" in inputs:
        inputs.pop("scales", None)
        inputs.pop("rotations", None)
    if "colors_precomp" in inputs:
        inputs.pop("shs", None)
    colors = [inputs[name] for name in ("colors_precomp", "features") if name in inputs]
    images = rasterize_gaussians(
        inputs["means3D"],
        inputs.get("rotations"),
        inputs.get("scales"),
        inputs["opacities"][..., 0],
        golden_camera(golden, dtype).to(device),
        covariances=inputs.get("cov3D_precomp"),
        features=torch.cat(colors, dim=-1),
        sh_coeffs=inputs.get("shs"),
        sh_degree=int(golden["in_sh_degree"]) if "shs" in inputs else None,
        background=torch.cat([golden["in_bg"], torch.zeros(5)]).to(device, dtype),
        scale_modifier=float(golden["in_scale_modifier"]),
        normalize_quats=False,
        outputs=("depth",),
        backend=backend,
        **options,
    )
    return inputs, images


def maps_of(images: GaussianImages) -> dict[str, Tensor]:
    assert images.depth_sum is not None
    return {
        "color": images.image[0, :3],
        "features": images.image[0, 3:],
        "depth": images.depth_sum[0],
        "alpha": images.alpha[0],
    }


@pytest.mark.parametrize(("cull", "suffix"), [("3sigma", ""), ("exact", "_nocull")])
def test_images_agree_with_the_fixture(golden, backend, cull, suffix):
    if cull == "exact":
        # The untiled fixture, too, leaves out the Gaussians whose square misses the image.
        seen = golden["out_radii"][:, None] > 0
        golden = {**golden, "in_opacities": golden["in_opacities"] * seen}
    _, images = rasterize(golden, backend, cull=cull)
    for name, actual in maps_of(images).items():
        if f"out_{name}{suffix}" not in golden:
            continue
        tolerance = 1e-10 if backend == "ref" else 1e-4 if name == "depth" else 2e-5
        error = actual.cpu() - golden[f"out_{name}{suffix}"]
        error = error[..., golden["safe_pixels"] > 0].abs().max()
        assert error < tolerance, f"{name}: {error}"


def test_radii_agree_with_the_fixture(golden, backend):
    _, images = rasterize(golden, backend)
    assert torch.equal(images.radii[0].cpu(), golden["out_radii"])


def test_inverse_depth_is_a_feature(golden, backend):
    inverse = {"in_features": (1 / golden["mid_viewz"])[:, None].expand(-1, 5)}
    _, images = rasterize({**golden, **inverse}, backend, cull="3sigma")
    safe = golden["safe_pixels"] > 0
    error = (images.image[0, 3].cpu() - golden["out_invdepth"][0])[safe].abs().max()
    assert error < (1e-10 if backend == "ref" else 2e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_agree_with_the_fixture(golden, backend, loss):
    rule = "published" if loss == "colorofficial" else "exact"
    inputs, images = rasterize(golden, backend, cull="3sigma", gradients=rule)
    name = {"feat": "features", "colorofficial": "color"}.get(loss, loss)
    weights = golden[f"in_dL_d{name}"].to(images.image.device)
    (maps_of(images)[name] * weights).sum().backward()
    gradients = {key: value.grad for key, value in inputs.items()}
    gradients["means2D"] = images.screen_gradient.grad
    compared = 0
    for key, gradient in gradients.items():
        expected = golden.get(f"grad_{loss}_{key}")
        assert gradient is not None
        if expected is None:  # fixtures leave out what is zero
            assert not gradient.any(), key
            continue
        if key == "means2D":
            expected = expected[:, :2]
        error = (gradient[0].cpu() - expected).abs().max() / expected.abs().max()
        assert error < (1e-9 if backend == "ref" else 2e-4), f"{key}: {error}"
        compared += 1
    assert compared >= 3

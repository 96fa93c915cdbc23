"""Golden picture, depth and gradients of the rasterizer with a camera of GSHeadRelight."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.kernels.gaussian_raster import Backend, rasterize_gaussians

INPUTS = ("means", "quats", "scales", "opacity", "dc")
SIZE = 40


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "gsheadrelight" / "rasterizer_ref.safetensors")


@pytest.mark.parametrize(("backend", "tolerance"), [("ref", 1e-5), ("cpu", 1e-4)])
def test_pictures_and_gradients_are_the_published_ones(
    golden: dict[str, Tensor], backend: Backend, tolerance: float
) -> None:
    dtype = torch.float64 if backend == "ref" else torch.float32
    leaves = {name: golden[f"in.{name}"].to(dtype).requires_grad_() for name in INPUTS}
    focal = 0.5 * SIZE / float(golden["in.tanfov"])
    intrinsics = torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]], dtype=dtype)
    matrix = golden["in.world_view_transform"].T.to(dtype)
    images = rasterize_gaussians(
        leaves["means"][None],
        leaves["quats"][None],
        leaves["scales"][None],
        leaves["opacity"][None, :, 0],
        Camera(matrix[None], intrinsics[None], SIZE, SIZE),
        sh_coeffs=leaves["dc"][None, :, None],
        sh_degree=0,
        background=golden["in.bg"].to(dtype),
        normalize_quats=False,
        cull="3sigma",
        gradients="published",
        outputs=("depth",),
        backend=backend,
    )
    assert images.depth_sum is not None
    made = {"image": images.image[0], "depth": images.depth_sum[0], "alpha": images.alpha[0]}
    for name, values in made.items():
        assert_near(values, golden[f"out.{name}"], tolerance)
    assert torch.equal(images.radii[0], golden["out.radii"].to(images.radii.dtype))
    total = torch.stack([(v * golden[f"cot.{n}"].to(dtype)).sum() for n, v in made.items()]).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    for name, gradient in zip(leaves, gradients, strict=True):
        assert_near(gradient, golden[f"grad.{name}"], 10.0 * tolerance)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare with the largest value as the scale."""
    assert actual.shape == expected.shape
    error = float((actual.detach() - expected).abs().max())
    assert error <= tolerance * max(1.0, float(expected.abs().max()))

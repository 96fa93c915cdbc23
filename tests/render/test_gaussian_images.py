"""Images and depth of Gaussians with a volume."""

from __future__ import annotations

import torch

from vultus.geometry.cameras import Camera, look_at
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.render.gaussians import render_gaussians
from vultus.render.output import RenderOutput

DISTANCE, SLOPE = 2.0, 0.4


def wall(**options) -> tuple[RenderOutput, dict, Camera]:
    """A slanted wall of flat, opaque Gaussians: z = SLOPE x."""
    steps = torch.linspace(-1, 1, 60)
    x, y = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    means = torch.stack([x, y, SLOPE * x], dim=-1)[None]
    half = 0.5 * torch.atan(torch.tensor(-SLOPE))
    quat = torch.stack([half.cos(), torch.tensor(0.0), half.sin(), torch.tensor(0.0)])
    num = means.shape[1]
    inputs = {
        "quats": quat.expand(1, num, 4),
        "scales": torch.tensor([0.03, 0.03, 1e-4]).expand(1, num, 3),
        "opacities": torch.full((1, num), 0.95),
        "sh_coeffs": torch.rand(1, num, 4, 3, generator=torch.Generator().manual_seed(0)),
    }
    eye, up = torch.tensor([[0.0, 0.0, DISTANCE]]), torch.tensor([[0.0, 1.0, 0.0]])
    intrinsics = torch.tensor([[[60.0, 0, 20], [0, 60, 20], [0, 0, 1]]])
    camera = Camera(look_at(eye, torch.zeros(1, 3), up), intrinsics, 40, 40)
    output = render_gaussians(
        means,
        inputs["quats"],
        inputs["scales"],
        inputs["opacities"],
        camera,
        sh_coeffs=inputs["sh_coeffs"],
        sh_degree=1,
        background=torch.ones(3),
        **options,
    )
    return output, {"means": means, **inputs}, camera


def test_depth_is_that_of_the_surface_and_normals_are_its_slope() -> None:
    output, _, _ = wall()
    middle = (slice(None), slice(None), slice(10, 30), slice(10, 30))
    assert output.alpha[middle].min() > 0.9
    columns = (torch.arange(40) + 0.5 - 20) / 60
    # Along the ray (c, ., -1): DISTANCE - t = SLOPE c t.
    expected = (DISTANCE / (1 + SLOPE * columns)).expand(40, 40)[None, None]
    for name in ("depth", "median_depth"):
        error = (output.require(name) - expected)[middle].abs()
        assert error.max() < 0.05, name
        # Gaussians have the depth of their centres, and overlap.
        assert error.mean() < 0.02, name
    normal = torch.tensor([-SLOPE, 0.0, 1.0]) / (1 + SLOPE**2) ** 0.5
    found = torch.nn.functional.normalize(output.require("normals")[middle].mean((0, 2, 3)), dim=0)
    assert float(found @ normal) > 0.99


def test_without_depth_there_are_image_and_alpha_alone() -> None:
    output, inputs, camera = wall(outputs=())
    assert output.depth is output.median_depth is output.normals is None
    means = inputs.pop("means")
    raw = rasterize_gaussians(means, camera=camera, sh_degree=1, background=torch.ones(3), **inputs)
    assert torch.equal(output.image, raw.image)
    assert torch.equal(output.radii, raw.radii)

"""Surfels to images, depth and normals.

Reference: Huang et al., 2D Gaussian Splatting, 2024, section 5; derived maps as in SurFhead.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.geometry.depth import depth_to_normals, rotate_maps
from vultus.kernels.surfel_raster import (
    Backend,
    Convention,
    Cull,
    OutputName,
    SurfelImages,
    rasterize_surfels,
)
from vultus.render.output import RenderOutput

__all__ = ["render_surfels"]


def render_surfels(
    means: Float[Tensor, "b n 3"],
    quats: Float[Tensor, "b n 4"],
    scales: Float[Tensor, "b n 2"],
    opacities: Float[Tensor, "b n"],
    camera: Camera,
    *,
    features: Float[Tensor, "b n c"] | None = None,
    sh_coeffs: Float[Tensor, "b n k 3"] | None = None,
    sh_degree: int | None = None,
    jacobians: Float[Tensor, "b n 3 3"] | None = None,
    jacobian_grad: bool = True,
    background: Float[Tensor, " channels"] | None = None,
    convention: Convention = "2dgs",
    cull: Cull = "exact",
    outputs: Collection[OutputName] = ("depth", "normal", "median_depth"),
    depth_ratio: float = 1.0,
    backend: Backend = "auto",
) -> RenderOutput:
    """Rasterize surfels and derive depth and normals in the world.

    All arguments but ``depth_ratio`` are those of ``kernels.surfel_raster.rasterize_surfels``;
    ``depth_ratio`` chooses the depth behind ``depth_normals``: 0 the expected, 1 the median one.

    Raises:
        ValueError: If ``depth_ratio`` is outside [0, 1], or as the kernel says.
    """
    if not 0.0 <= depth_ratio <= 1.0:
        raise ValueError(f"depth_ratio must lie in [0, 1], got {depth_ratio}")
    raw = rasterize_surfels(
        means,
        quats,
        scales,
        opacities,
        camera,
        features=features,
        sh_coeffs=sh_coeffs,
        sh_degree=sh_degree,
        jacobians=jacobians,
        jacobian_grad=jacobian_grad,
        background=background,
        convention=convention,
        cull=cull,
        outputs=outputs,
        backend=backend,
    )
    expected = None if raw.depth_sum is None else _expected_depth(raw.depth_sum, raw.alpha)
    return RenderOutput(
        image=raw.image,
        alpha=raw.alpha,
        radii=raw.radii,
        screen_gradient=raw.screen_gradient,
        depth=expected,
        median_depth=raw.median_depth,
        normals=_world_normals(raw, camera),
        depth_normals=_depth_normals(raw, expected, camera, depth_ratio),
        distortion=raw.distortion,
    )


def _expected_depth(depth_sum: Tensor, alpha: Tensor) -> Tensor:
    seen = alpha > 0
    return torch.where(seen, depth_sum / torch.where(seen, alpha, 1.0), 0.0)


def _world_normals(raw: SurfelImages, camera: Camera) -> Tensor | None:
    if raw.normal_view_sum is None:
        return None
    return rotate_maps(camera.world_to_camera[:, :3, :3], raw.normal_view_sum)


def _depth_normals(
    raw: SurfelImages, expected: Tensor | None, camera: Camera, depth_ratio: float
) -> Tensor | None:
    if expected is None or raw.median_depth is None:
        return None
    depth = (1.0 - depth_ratio) * expected + depth_ratio * raw.median_depth
    return depth_to_normals(depth, camera) * raw.alpha.detach()

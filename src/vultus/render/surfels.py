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
from vultus.kernels.derived_maps import derive_normals
from vultus.kernels.dispatch import are_for_kernels
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
    ``depth_ratio`` chooses the depth behind ``depth_normals``: 0 the expected, 1 the median one,
    between them a blend; they are made if ``outputs`` hold what that takes.

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
    depth_normals, normals = _world_normals(
        raw, _depth_of_normals(raw, expected, depth_ratio), camera
    )
    return RenderOutput(
        image=raw.image,
        alpha=raw.alpha,
        radii=raw.radii,
        screen_gradient=raw.screen_gradient,
        depth=expected,
        median_depth=raw.median_depth,
        normals=normals,
        depth_normals=depth_normals,
        distortion=raw.distortion,
    )


def _expected_depth(depth_sum: Tensor, alpha: Tensor) -> Tensor:
    seen = alpha > 0
    return torch.where(seen, depth_sum / torch.where(seen, alpha, 1.0), 0.0)


def _depth_of_normals(
    raw: SurfelImages, expected: Tensor | None, depth_ratio: float
) -> Tensor | None:
    if depth_ratio == 1.0:
        return raw.median_depth
    if depth_ratio == 0.0:
        return expected
    if expected is None or raw.median_depth is None:
        return None
    return (1.0 - depth_ratio) * expected + depth_ratio * raw.median_depth


def _is_for_kernels(alpha: Tensor, camera: Camera) -> bool:
    is_constant = not (camera.world_to_camera.requires_grad or camera.intrinsics.requires_grad)
    return are_for_kernels(alpha) and is_constant


def _world_normals(
    raw: SurfelImages, depth: Tensor | None, camera: Camera
) -> tuple[Tensor | None, Tensor | None]:
    """Normals of depth times alpha, and blended normals."""
    alpha, view_normals = raw.alpha, raw.normal_view_sum
    if _is_for_kernels(alpha, camera):
        opacity = None if depth is None else alpha
        return derive_normals(camera, depth=depth, alpha=opacity, view_normals=view_normals)
    depth_normals = normals = None
    if depth is not None:
        depth_normals = depth_to_normals(depth, camera) * alpha.detach()
    if view_normals is not None:
        normals = rotate_maps(camera.world_to_camera[:, :3, :3], view_normals)
    return depth_normals, normals

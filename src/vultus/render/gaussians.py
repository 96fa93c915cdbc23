"""Gaussians with a volume to images and depth.

Reference: Kerbl et al., 3D Gaussian Splatting, 2023.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.geometry.depth import depth_to_normals
from vultus.kernels.gaussian_raster import (
    Backend,
    Cull,
    Gradients,
    OutputName,
    rasterize_gaussians,
)
from vultus.render.output import RenderOutput

__all__ = ["render_gaussians"]


def render_gaussians(
    means: Float[Tensor, "b n 3"],
    quats: Float[Tensor, "b n 4"],
    scales: Float[Tensor, "b n 3"],
    opacities: Float[Tensor, "b n"],
    camera: Camera,
    *,
    features: Float[Tensor, "b n c"] | None = None,
    sh_coeffs: Float[Tensor, "b n k 3"] | None = None,
    sh_degree: int | None = None,
    background: Float[Tensor, " channels"] | None = None,
    normalize_quats: bool = True,
    near: float = 0.2,
    cull: Cull = "exact",
    gradients: Gradients = "exact",
    outputs: Collection[OutputName] = ("depth", "median_depth"),
    backend: Backend = "auto",
) -> RenderOutput:
    """Rasterize Gaussians; with both depths, normals of the median depth come along.

    Gaussians have no normal of their own: ``normals`` are ``depth_normals``.

    All arguments are those of ``kernels.gaussian_raster.rasterize_gaussians``, which says what is
    wrong with them, too.
    """
    raw = rasterize_gaussians(
        means,
        quats,
        scales,
        opacities,
        camera,
        features=features,
        sh_coeffs=sh_coeffs,
        sh_degree=sh_degree,
        background=background,
        normalize_quats=normalize_quats,
        near=near,
        cull=cull,
        gradients=gradients,
        outputs=outputs,
        backend=backend,
    )
    depth, normals = None, None
    if raw.depth_sum is not None:
        seen = raw.alpha > 0
        depth = torch.where(seen, raw.depth_sum / torch.where(seen, raw.alpha, 1.0), 0.0)
    if raw.median_depth is not None:
        normals = depth_to_normals(raw.median_depth, camera) * raw.alpha.detach()
    return RenderOutput(
        image=raw.image,
        alpha=raw.alpha,
        radii=raw.radii,
        screen_gradient=raw.screen_gradient,
        depth=depth,
        median_depth=raw.median_depth,
        normals=normals,
        depth_normals=normals,
    )

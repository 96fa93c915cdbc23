"""Splats in the world, from surfels that a deformed mesh carries."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.gaussians.splat_files import Splats
from vultus.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix

__all__ = ["ellipse_axes", "posed_splats", "thicken"]

# Smallest positive scale; the logarithm of zero is no number a file should hold.
_MIN_SCALE = 1e-12


def ellipse_axes(
    tangents: Float[Tensor, "n 3 2"],
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 2"]]:
    """Find the main axes of ellipses that two tangents span, which need not be orthogonal.

    With T the tangents as columns, the covariance T Tᵀ is kept: it equals R diag(s)² Rᵀ for the
    rotation R and the scales s that come back.

    Returns:
        Unit quaternions wxyz whose third axis is the normal, and scales, the larger one first.
    """
    axes, scales, _ = torch.linalg.svd(tangents, full_matrices=True)
    # Of the two normals, the one that makes the axes a rotation.
    axes = torch.cat([axes[..., :2], axes[..., 2:] * torch.linalg.det(axes)[:, None, None]], dim=-1)
    return matrix_to_quaternion(axes), scales


def posed_splats(
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 2"],
    opacity_logits: Float[Tensor, " n"],
    sh_dc: Float[Tensor, "n 1 3"],
    sh_rest: Float[Tensor, "n r 3"],
    jacobians: Float[Tensor, "n 3 3"] | None = None,
) -> Splats:
    """Bake surfels of one pose into splats of the world.

    Args:
        means: Centres in the world.
        quats: Tangent frames before the Jacobian, wxyz, any norm.
        scales: Along the tangents, before the Jacobian.
        opacity_logits: Stored opacities.
        sh_dc: Colour of degree 0.
        sh_rest: Colour of higher degrees, for directions in the world.
        jacobians: Deformation that carries the tangents; they may come out skewed, and the splat
            gets the main axes of the ellipse. ``None``: the frames are already in the world.
    """
    if jacobians is not None:
        quats, scales = ellipse_axes(
            (jacobians @ quaternion_to_matrix(quats))[..., :2] * scales[:, None, :]
        )
    return Splats(
        means=means,
        log_scales=scales.clamp(min=_MIN_SCALE).log(),
        quats=quats,
        opacity_logits=opacity_logits,
        sh_dc=sh_dc,
        sh_rest=sh_rest,
    )


def thicken(splats: Splats, thickness: float = 1e-5) -> Splats:
    """Give surfels a third, tiny scale in world units, for viewers that know 3DGS files only.

    Raises:
        ValueError: If the splats have three scales already.
    """
    if splats.log_scales.shape[1] != 2:
        raise ValueError(f"splats must have 2 scales, got {splats.log_scales.shape[1]}")
    third = torch.full_like(splats.log_scales[:, :1], thickness).log()
    return replace(splats, log_scales=torch.cat([splats.log_scales, third], dim=1))

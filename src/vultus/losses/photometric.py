"""Losses between images: absolute and structural differences, whole or masked."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vultus.kernels.ssim import Backend, ssim_map

__all__ = ["dssim", "l1", "masked_mean"]


def l1(
    rgb: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, ""]:
    """Average the absolute difference, over the mask if there is one."""
    return masked_mean((rgb - target).abs(), mask)


def dssim(
    rgb: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 h w"] | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, ""]:
    """Average 1 - SSIM, over the mask if there is one; 0 for equal images, at most 2.

    The mask chooses pixels, not their windows: near its edge a window sees both sides.

    Reference: Kerbl et al., 3D Gaussian Splatting, 2023, eq. 7 (there called D-SSIM).
    """
    return 1.0 - masked_mean(ssim_map(rgb, target, backend=backend), mask)


def masked_mean(
    values: Float[Tensor, "b c h w"], mask: Float[Tensor, "b 1 h w"] | None
) -> Float[Tensor, ""]:
    """Average a map with the mask as weight; a mask of zeros gives 0. ``None``: plain average."""
    if mask is None:
        return values.mean()
    total = mask.sum() * values.shape[1]
    return (values * mask).sum() / total.clamp(min=1.0)

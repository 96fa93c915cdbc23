"""How much the back of a head repeats its face, the typical fault of planes that cut through it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["mirroring_scores"]

_INSIDE = 0.5
_LEAST_VARIANCE = 1e-8


def mirroring_scores(
    front: Float[Tensor, "n 3 h w"],
    back: Float[Tensor, "n 3 h w"],
    front_mask: Float[Tensor, "n 1 h w"],
    back_mask: Float[Tensor, "n 1 h w"],
) -> Float[Tensor, " n"]:
    """Correlate views from behind with mirrored views from the front.

    A point on the axis of the camera's turn is seen mirrored from behind, so features that do not
    tell front from back show the face there, flipped.

    Args:
        front: Frontal views.
        back: Views of the same heads from behind, at the same height and distance.
        front_mask: How much of a pixel is head.
        back_mask: The same from behind.

    Returns:
        Correlation over the pixels that show head in both views, each channel about its mean; 0
        where views are even or share no pixel.
    """
    flipped, flipped_mask = front.flip(3), front_mask.flip(3)
    shared = ((flipped_mask > _INSIDE) & (back_mask > _INSIDE)).to(front)
    count = shared.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)

    def centered(x: Tensor) -> Tensor:
        return (x - (x * shared).sum(dim=(2, 3), keepdim=True) / count) * shared

    one, other = centered(flipped).flatten(1), centered(back).flatten(1)
    energy = one.square().sum(dim=1) * other.square().sum(dim=1)
    product = (one * other).sum(dim=1)
    return torch.where(energy > _LEAST_VARIANCE, product / energy.sqrt(), torch.zeros_like(product))

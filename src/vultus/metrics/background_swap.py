"""What becomes of a head when the same generator paints something else behind it.

A head that is finished by its background, in its hair or where it is half transparent, looks right
before its own and changes before another one.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["mask_difference", "weighted_change"]

_LEAST_WEIGHT = 1e-8


def weighted_change(
    one: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"], weight: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Root of the mean squared difference of colours, over pixels that count by a weight.

    Args:
        one: Pictures.
        other: The same heads before other backgrounds.
        weight: In [0, 1]; where a picture has none, its change is 0.
    """
    squares = (one - other).square().mean(dim=1, keepdim=True)
    total = weight.sum(dim=(1, 2, 3)).clamp(min=_LEAST_WEIGHT)
    return ((squares * weight).sum(dim=(1, 2, 3)) / total).sqrt()


def mask_difference(
    one: Float[Tensor, "b 1 h w"], other: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Mean squared difference between masks that were found in two pictures of a head."""
    return (one - other).square().mean(dim=(1, 2, 3))

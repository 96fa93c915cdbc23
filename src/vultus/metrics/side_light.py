"""Whether pictures are brighter on the side that their light comes from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["correlation", "side_brightness"]


def side_brightness(
    rgb: Float[Tensor, "b 3 h w"], alpha: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """How much brighter the right of what is seen is than its left.

    The distance, in widths of the picture, between the centroid of brightness and that of coverage:
    brightness that does not depend on the place gives 0.

    Args:
        rgb: In [0, 1], over black.
        alpha: Coverage.
    """
    width = rgb.shape[3]
    place = (torch.arange(width, device=rgb.device, dtype=rgb.dtype) + 0.5) / width
    centroids = []
    for weight in (rgb.clamp(min=0.0).mean(dim=1), alpha[:, 0]):
        total = weight.sum(dim=(1, 2)).clamp(min=torch.finfo(rgb.dtype).eps)
        centroids.append((weight.sum(dim=1) @ place) / total)
    return centroids[0] - centroids[1]


def correlation(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Pearson's; 0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    scale = (x.square().sum() * y.square().sum()).sqrt()
    return (x @ y) / scale.clamp(min=torch.finfo(x.dtype).tiny)

"""A distance of images that needs no trained weights: colours and edges at several sizes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["pyramid_distance"]

_LEVELS = 5
_SMALLEST = 4


def pyramid_distance(
    rgb: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean over halved sizes of mean |a - b| + mean |da - db|, d being differences to neighbours.

    It serves fitting where perceptual networks are not imported; no other number compares with it.

    Args:
        rgb: Images, of four pixels a side or more.
        target: What they should be.
    """
    difference = rgb - target
    terms = []
    for _ in range(_LEVELS):
        edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        terms.append(difference.abs().mean() + edges)
        if min(difference.shape[-2:]) < 2 * _SMALLEST:
            break
        difference = avg_pool2d(difference, 2)
    return torch.stack(terms).mean()

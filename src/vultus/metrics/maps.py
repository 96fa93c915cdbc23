"""Errors of rendered normals, depth and coverage, per image, over chosen pixels.

An average over no pixels is NaN; callers decide what that means.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

__all__ = ["depth_error", "mask_iou", "normal_angle", "normal_cosine"]


def normal_cosine(
    normals: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    pixels: Bool[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """Average cosine between normals of any length; 1 is perfect (NCS of SurFhead)."""
    return _mean_over(cosine_similarity(normals, target, dim=1)[:, None], pixels)


def normal_angle(
    normals: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    pixels: Bool[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """Average angle between normals of any length, in radians."""
    # atan2 keeps its digits at small angles, where acos of a rounded cosine loses them.
    sine = torch.linalg.cross(normals, target, dim=1).norm(dim=1, keepdim=True)
    cosine = (normals * target).sum(dim=1, keepdim=True)
    return _mean_over(torch.atan2(sine, cosine), pixels)


def depth_error(
    depth: Float[Tensor, "b 1 h w"],
    target: Float[Tensor, "b 1 h w"],
    pixels: Bool[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """Average absolute difference of camera z, in the unit of the depth maps."""
    return _mean_over((depth - target).abs(), pixels)


def mask_iou(mask: Bool[Tensor, "b 1 h w"], target: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Intersection over union of two masks; NaN if both are empty."""
    both = (mask & target).sum(dim=(1, 2, 3))
    return both / (mask | target).sum(dim=(1, 2, 3))


def _mean_over(values: Tensor, pixels: Tensor) -> Tensor:
    chosen = torch.where(pixels, values, 0.0).sum(dim=(1, 2, 3))
    return chosen / pixels.sum(dim=(1, 2, 3))

"""Depths along rays and their compositing, for rays given as b r.

Samples lie on the axis before the last; t counts samples, i = t - 1 the intervals between them.
Densities are raw: an interval's density is softplus(mean of its ends - 1).

Reference: Chan et al., EG3D, 2022; Barron et al., Mip-NeRF, 2021 (intervals instead of points).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad, softplus

__all__ = [
    "Composite",
    "box_limits",
    "composite_rays",
    "merge_samples",
    "resample_depths",
    "spread_depths",
]

_DENSITY_SHIFT = 1.0
_TRANSPARENT = 1e-10
_WEIGHT_FLOOR = 0.01
_PDF_FLOOR = 1e-5


class Composite(NamedTuple):
    """What rays gather."""

    features: Float[Tensor, "b r d"]
    depth: Float[Tensor, "b r 1"]
    """Mean depth by weight; infinite where the weights vanish."""
    opacity: Float[Tensor, "b r 1"]
    weights: Float[Tensor, "b r i"]


def box_limits(
    origins: Float[Tensor, "b r 3"], directions: Float[Tensor, "b r 3"], box_size: float
) -> tuple[Float[Tensor, "b r 1"], Float[Tensor, "b r 1"], Tensor]:
    """Intersect rays with the cube around the origin.

    Returns:
        Distances of entry and exit, and whether the ray hits the cube (b r 1).
    """
    inverse = 1.0 / directions
    low, high = (-0.5 * box_size - origins) * inverse, (0.5 * box_size - origins) * inverse
    start = torch.minimum(low, high).amax(dim=-1, keepdim=True)
    end = torch.maximum(low, high).amin(dim=-1, keepdim=True)
    return start, end, start <= end


def spread_depths(
    start: Float[Tensor, "#b #r 1"],
    end: Float[Tensor, "#b #r 1"],
    jitter: Float[Tensor, "b r t"],
    *,
    is_in_disparity: bool = False,
) -> Float[Tensor, "b r t"]:
    """Put one depth into each of t steps from start to end.

    The step is (end - start) / (t - 1), so the last depth may lie up to one step beyond the end.

    Args:
        start: Nearest depth.
        end: Farthest depth.
        jitter: Place within the step, in [0, 1).
        is_in_disparity: Steps are equal in 1 / depth.
    """
    count = jitter.shape[-1]
    steps = torch.arange(count, device=jitter.device, dtype=jitter.dtype)
    share = (steps + jitter) / (count - 1)
    if is_in_disparity:
        return 1.0 / ((1.0 - share) / start + share / end)
    return start + share * (end - start)


def composite_rays(
    features: Float[Tensor, "b r t d"],
    densities: Float[Tensor, "b r t"],
    depths: Float[Tensor, "b r t"],
    *,
    is_white_behind: bool = False,
) -> Composite:
    """Composite front to back over the intervals between samples of rising depth."""
    middle_features = 0.5 * (features[..., :-1, :] + features[..., 1:, :])
    middle_densities = 0.5 * (densities[..., :-1] + densities[..., 1:])
    middle_depths = 0.5 * (depths[..., :-1] + depths[..., 1:])
    density = softplus(middle_densities - _DENSITY_SHIFT)
    alpha = 1.0 - torch.exp(-density * depths.diff(dim=-1))
    passed = torch.cumprod(1.0 - alpha + _TRANSPARENT, dim=-1)
    weights = alpha * pad(passed[..., :-1], (1, 0), value=1.0)
    opacity = weights.sum(dim=-1, keepdim=True)
    gathered = (weights[..., None] * middle_features).sum(dim=-2)
    if is_white_behind:
        gathered = gathered + 1.0 - opacity
    depth = (weights * middle_depths).sum(dim=-1, keepdim=True)
    is_empty = opacity == 0.0
    depth = torch.where(
        is_empty, torch.inf, depth / torch.where(is_empty, torch.ones_like(opacity), opacity)
    )
    return Composite(gathered, depth, opacity, weights)


@torch.no_grad()
def resample_depths(
    depths: Float[Tensor, "b r t"],
    weights: Float[Tensor, "b r i"],
    uniforms: Float[Tensor, "b r n"],
) -> Float[Tensor, "b r n"]:
    """Draw depths where a first pass found weight; in the order of ``uniforms``.

    Args:
        depths: Of the first pass.
        weights: Of its intervals.
        uniforms: In [0, 1).
    """
    flat = weights.flatten(0, 1)[:, None]
    smooth = avg_pool1d(max_pool1d(flat, 2, stride=1, padding=1), 2, stride=1)[:, 0]
    smooth = smooth.unflatten(0, weights.shape[:2]) + _WEIGHT_FLOOR
    inner = smooth[..., 1:-1] + _PDF_FLOOR
    cumulative = pad((inner / inner.sum(dim=-1, keepdim=True)).cumsum(dim=-1), (1, 0))
    edges = 0.5 * (depths[..., :-1] + depths[..., 1:])
    above = torch.searchsorted(cumulative, uniforms.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=inner.shape[-1])
    low, high = cumulative.gather(-1, below), cumulative.gather(-1, above)
    span = high - low
    span = torch.where(span < _PDF_FLOOR, torch.ones_like(span), span)
    start, end = edges.gather(-1, below), edges.gather(-1, above)
    return start + (uniforms - low) / span * (end - start)


def merge_samples(
    features: tuple[Float[Tensor, "b r t d"], Float[Tensor, "b r n d"]],
    densities: tuple[Float[Tensor, "b r t"], Float[Tensor, "b r n"]],
    depths: tuple[Float[Tensor, "b r t"], Float[Tensor, "b r n"]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Join two sets of samples in the order of depth; features, densities and depths."""
    joined, order = torch.cat(depths, dim=-1).sort(dim=-1)
    all_features = torch.cat(features, dim=-2)
    index = order[..., None].expand_as(all_features)
    return all_features.gather(-2, index), torch.cat(densities, dim=-1).gather(-1, order), joined

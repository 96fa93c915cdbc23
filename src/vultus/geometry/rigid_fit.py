"""The rigid motion between two sets of corresponding points."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vultus.geometry.polar import polar_decomposition

__all__ = ["fit_rigid"]


def fit_rigid(
    source: Float[Tensor, "n 3"], target: Float[Tensor, "*b n 3"]
) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 3"]]:
    """Find rotations R and translations t that bring points closest to others: R x + t.

    A point that is listed twice counts twice. Points on one line leave the rotation open.

    Reference: Kabsch, A solution for the best rotation to relate two sets of vectors, 1976.
    """
    middle, goal = source.mean(dim=-2), target.mean(dim=-2)
    covariance = (target - goal[..., None, :]).mT @ (source - middle)
    rotation, _ = polar_decomposition(covariance)
    return rotation, goal - (rotation @ middle[..., None])[..., 0]

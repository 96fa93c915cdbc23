"""Whether people stay who they are in other lights or views, as face recognition sees them.

The same comparisons between different people say what the numbers would be if they did not.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["similarity_between_people", "similarity_within_people"]


def similarity_within_people(features: Float[Tensor, "l p d"]) -> Float[Tensor, ""]:
    """Mean cosine between two pictures of one person: 1 if light, or view, changes nothing.

    Args:
        features: Descriptions of p people in l lights or views each.
    """
    return _mean_cosine(features, features)


def similarity_between_people(features: Float[Tensor, "l p d"]) -> Float[Tensor, ""]:
    """Mean cosine between pictures of each person and the next one, in two lights or views too.

    Args:
        features: As in ``similarity_within_people``.
    """
    return _mean_cosine(features, features.roll(1, dims=1))


def _mean_cosine(one: Float[Tensor, "l p d"], other: Float[Tensor, "l p d"]) -> Float[Tensor, ""]:
    """Over all pairs of different lights or views."""
    cosines = torch.einsum("ipd,jpd->ijp", normalize(one, dim=2), normalize(other, dim=2))
    is_pair = ~torch.eye(len(one), dtype=torch.bool, device=one.device)
    return cosines[is_pair].mean()

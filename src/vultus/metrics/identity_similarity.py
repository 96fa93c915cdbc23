"""Whether people stay who they are when their light changes, as face recognition sees them.

The same comparisons between different people say what the numbers would be if they did not.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["similarity_between_people", "similarity_over_lights"]


def similarity_over_lights(features: Float[Tensor, "l p d"]) -> Float[Tensor, ""]:
    """Mean cosine between pictures of one person in two lights: 1 if light changes nothing.

    Args:
        features: Descriptions of p people in l lights each.
    """
    return _mean_cosine(features, features)


def similarity_between_people(features: Float[Tensor, "l p d"]) -> Float[Tensor, ""]:
    """Mean cosine between pictures of each person and the next one, in two lights as well.

    Args:
        features: As in ``similarity_over_lights``.
    """
    return _mean_cosine(features, features.roll(1, dims=1))


def _mean_cosine(one: Float[Tensor, "l p d"], other: Float[Tensor, "l p d"]) -> Float[Tensor, ""]:
    """Over all pairs of different lights."""
    cosines = torch.einsum("ipd,jpd->ijp", normalize(one, dim=2), normalize(other, dim=2))
    is_pair = ~torch.eye(len(one), dtype=torch.bool, device=one.device)
    return cosines[is_pair].mean()

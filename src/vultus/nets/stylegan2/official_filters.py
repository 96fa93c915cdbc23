"""Resampling filters in published weights: constants that layers of the release hold as buffers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FILTER_NAME", "binomial_filter", "without_filters"]

FILTER_NAME = "resample_filter"


def binomial_filter() -> Float[Tensor, "4 4"]:
    """The only filter that published networks of this family have."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps)


def without_filters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave the filters out of published weights.

    Raises:
        ValueError: If a filter is not the binomial one, which is the only one that we have.
    """
    kept = {}
    for name, tensor in weights.items():
        if name.rpartition(".")[2] != FILTER_NAME:
            kept[name] = tensor
        elif tensor.shape != (4, 4) or not torch.allclose(tensor.float().cpu(), binomial_filter()):
            raise ValueError(f"{name} must be the outer product of (1, 3, 3, 1) with itself")
    return kept

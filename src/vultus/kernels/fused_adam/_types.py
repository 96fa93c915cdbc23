"""What a step of Adam needs per parameter."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["AdamTensors"]


@dataclass(frozen=True)
class AdamTensors:
    """One parameter and its state; everything but the gradient changes in place."""

    parameter: Float[Tensor, ...]
    gradient: Float[Tensor, ...]
    mean: Float[Tensor, ...]
    """Running mean of gradients."""
    square: Float[Tensor, ...]
    """Running mean of their squares."""
    step: Float[Tensor, ""]
    """Steps taken so far."""

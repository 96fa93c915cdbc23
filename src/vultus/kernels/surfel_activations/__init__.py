"""Activated parameters of surfels in one launch, for training on a GPU.

``methods.surfhead.activation`` defines them and serves every other device, with dozens of small
kernels forward and backward.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["ActivatedSurfels", "activate_surfels"]


@dataclass(frozen=True)
class ActivatedSurfels:
    """Parameters as the maths of surfels takes them."""

    scales: Float[Tensor, "n 2"]
    """In triangle sizes."""
    opacities: Float[Tensor, " n"]
    blend_weights: Float[Tensor, "n 4"] | None
    """Of a surfel's face and its neighbours; rows sum to one."""


def activate_surfels(
    log_scales: Float[Tensor, "n 2"],
    opacity_logits: Float[Tensor, " n"],
    blend_weight_logits: Float[Tensor, "n 4"] | None,
) -> ActivatedSurfels:
    """Exponentiate scales, squash opacities, and normalise squashed blend weights.

    Raises:
        TypeError: If the parameters are not float32 on one GPU.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.surfel_activations import gpu

    return gpu.activate_surfels(log_scales, opacity_logits, blend_weight_logits)

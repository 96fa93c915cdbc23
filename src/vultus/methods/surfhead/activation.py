"""From stored parameters of surfels to those that the maths takes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.surfel_activations import ActivatedSurfels, activate_surfels
from vultus.methods.surfhead.jacobian_blending import blend_weights

__all__ = ["activate"]


def activate(surfels: Mapping[str, Tensor]) -> ActivatedSurfels:
    """Exponentiate scales, squash opacities, and normalise squashed blend weights.

    Args:
        surfels: Raw parameters; without ``"blend_weight_logits"`` there are no blend weights.
    """
    log_scales, opacity_logits = surfels["log_scales"], surfels["opacity_logits"]
    logits = surfels.get("blend_weight_logits")
    if are_for_kernels(log_scales):
        return activate_surfels(log_scales, opacity_logits, logits)
    weights = None if logits is None else blend_weights(logits)
    return ActivatedSurfels(log_scales.exp(), opacity_logits.sigmoid(), weights)

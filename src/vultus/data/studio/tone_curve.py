"""How the studio's film answers radiance: a fixed curve, so that pictures tell what light was."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.srgb import linear_to_srgb, srgb_to_linear

__all__ = ["inverse_tone_map", "tone_map"]

# Radiance above this bends towards 1; the slope is continuous there.
_SHOULDER = 0.6


def tone_map(radiance: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Encode linear radiance for display, in [0, 1).

    y = x up to 0.6 and 0.6 + 0.4 (1 - exp(-(x - 0.6) / 0.4)) above, a soft shoulder with continuous
    slope; then the sRGB transfer curve. Mid tones are therefore plain sRGB.
    """
    room = 1.0 - _SHOULDER
    excess = (radiance - _SHOULDER).clamp(min=0.0)
    bent = _SHOULDER - room * torch.expm1(-excess / room)
    return linear_to_srgb(torch.where(radiance > _SHOULDER, bent, radiance))


def inverse_tone_map(rgb: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Invert ``tone_map``. Display white is not invertible: towards 1 the result has no bound."""
    linear = srgb_to_linear(rgb)
    room = 1.0 - _SHOULDER
    excess = ((linear - _SHOULDER) / room).clamp(min=0.0, max=1.0)
    return torch.where(linear > _SHOULDER, _SHOULDER - room * torch.log1p(-excess), linear)

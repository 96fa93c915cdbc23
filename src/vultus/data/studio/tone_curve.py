"""How films answer radiance: fixed curves, so that pictures tell what light was."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.srgb import linear_to_srgb, srgb_to_linear

__all__ = ["Film", "decode_film", "encode_film", "inverse_tone_map", "tone_map"]

Film = Literal["srgb", "studio"]
"""How pictures encode radiance: ``srgb``, clipped at 1, or ``studio``, sRGB with a soft shoulder
(``tone_map``)."""

# Of 8-bit pictures: what is above is rounded to display white.
_BELOW_WHITE = 254.5 / 255
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


def encode_film(radiance: Float[Tensor, "*dims"], film: Film) -> Float[Tensor, "*dims"]:
    """Encode linear radiance for display, in [0, 1]."""
    return tone_map(radiance) if film == "studio" else linear_to_srgb(radiance.clamp(0.0, 1.0))


def decode_film(rgb: Float[Tensor, "*dims"], film: Film) -> Float[Tensor, "*dims"]:
    """Linear radiance that gave display-encoded values; at display white, the least that did.

    For the film ``studio`` that is what 8 bits round to white, 2.4: its curve never reaches 1.
    """
    if film == "studio":
        return inverse_tone_map(rgb.clamp(max=_BELOW_WHITE))
    return srgb_to_linear(rgb)

"""The sRGB transfer curve (IEC 61966-2-1), and the brightness of its primaries."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LUMINANCE", "linear_to_srgb", "srgb_to_linear"]

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Shares of linear red, green and blue in the brightness (ITU-R BT.709)."""

# The constants of the standard; the two pieces meet at these thresholds to within 3e-8.
_LINEAR_THRESHOLD = 0.0031308
_ENCODED_THRESHOLD = 0.04045


def linear_to_srgb(linear: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Encode linear light for display.

    Values are not clamped: above 1 the power law goes on, below 0 the straight piece does, and
    gradients are finite everywhere.
    """
    # The clamp keeps the unused branch of ``where`` away from the infinite slope at zero.
    curved = 1.055 * linear.clamp(min=_LINEAR_THRESHOLD) ** (1 / 2.4) - 0.055
    return torch.where(linear <= _LINEAR_THRESHOLD, 12.92 * linear, curved)


def srgb_to_linear(encoded: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Invert ``linear_to_srgb``."""
    curved = ((encoded.clamp(min=_ENCODED_THRESHOLD) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= _ENCODED_THRESHOLD, encoded / 12.92, curved)

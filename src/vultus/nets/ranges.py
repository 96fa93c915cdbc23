"""Between display-encoded images and the range [-1, 1] that generators and discriminators use."""

from __future__ import annotations

from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["from_signed", "signed_from_bytes"]


def signed_from_bytes(pixels: UInt8[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
    """Bytes to [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def from_signed(image: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
    """Images in about [-1, 1] to [0, 1], clamped."""
    return (0.5 * image + 0.5).clamp(0.0, 1.0)

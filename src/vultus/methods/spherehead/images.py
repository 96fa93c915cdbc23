"""What a generator makes of a head, and what a discriminator sees of a real one."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["HeadImages"]


@dataclass(frozen=True)
class HeadImages:
    """Images of one batch of heads; colours lie about in [-1, 1] and are not clamped."""

    image: Float[Tensor, "b 3 h w"]
    raw_image: Float[Tensor, "b 3 n n"] | None = None
    """At the size of the volume rendering, before super-resolution."""
    mask: Float[Tensor, "b 1 m m"] | None = None
    """How much of a pixel is head; generated ones reach from -0.001 to 1.001."""
    parsing: Float[Tensor, "b c p p"] | None = None
    """Probabilities of the semantic classes."""
    depth: Float[Tensor, "b 1 n n"] | None = None
    """Distance along the ray; generated images only."""

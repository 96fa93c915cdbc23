"""What the rasterizer of meshes returns, whichever backend runs."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int32
from torch import Tensor

__all__ = ["Fragments"]


@dataclass(frozen=True)
class Fragments:
    """Which face every pixel centre sees, and where on it."""

    face_index: Int32[Tensor, "b h w"]
    """-1 where no face is seen."""
    barycentrics: Float[Tensor, "b 3 h w"]
    """Perspective-correct, they sum to 1; 0 where no face is seen. Differentiable."""
    depth: Float[Tensor, "b 1 h w"]
    """Camera z; infinite where no face is seen. Differentiable."""
    screen: Float[Tensor, "b v 3"]
    """Column, row and camera z of the vertices. Differentiable."""

    @property
    def is_covered(self) -> Bool[Tensor, "b 1 h w"]:
        """Where a face is seen."""
        return self.face_index[:, None] >= 0

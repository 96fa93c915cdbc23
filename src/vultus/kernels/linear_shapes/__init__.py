"""Linear combinations of shapes for a few frames, as in a training step, on a GPU.

Does what ``heads.blendshapes.add_shapes`` does. For a single frame that product reads every shape
once, forward and backward, and matrix products are not made for it: their tiles are mostly empty.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["add_shapes"]


def add_shapes(
    base: Float[Tensor, "#b v 3"], shapes: Float[Tensor, "k v 3"], coeffs: Float[Tensor, "b k"]
) -> Float[Tensor, "b v 3"]:
    """Add a linear combination of shapes to a base.

    Gradients reach the base and the coefficients, and are the same bits in every run.

    Args:
        base: Float32 on a GPU; one for all frames, or one each.
        shapes: Constants. They are read again for every frame.
        coeffs: Of each frame.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.linear_shapes import gpu

    return gpu.add_shapes(base, shapes, coeffs)

"""Attributes of primitives blended by shapes that each primitive follows to its own degree.

Does what ``methods.relightable_blendshapes.blendshapes.blend_attributes`` does, in one launch each
way: every number is read once. Products of matrices are not made for that, because each primitive
has weights of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

__all__ = ["blend_shapes"]


def blend_shapes(
    neutral: Sequence[Float[Tensor, "n ..."]],
    deltas: Sequence[Float[Tensor, "n ... k"] | None],
    fixed: Sequence[Float[Tensor, "n ... k"] | None],
    mask: Float[Tensor, "n k"],
    weights: Float[Tensor, "b k"],
) -> tuple[Tensor, ...]:
    """Sum each attribute's neutral value and its shapes: a + Σ w_k (fixed_k + m_k delta_k).

    Gradients reach neutral values and deltas, and are the same bits in every run. Deltas of
    primitives that follow no shape in a frame are not read for it.

    Args:
        neutral: Float32 on a GPU, one tensor per attribute.
        deltas: Of each attribute, or ``None``.
        fixed: Constant deltas of each attribute, which the mask spares, or ``None``.
        mask: How far each primitive follows each shape; constant.
        weights: Of the shapes in each frame; constant.

    Returns:
        Each attribute in all frames, [b n ...].
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.masked_shapes import gpu

    return gpu.blend_shapes(neutral, deltas, fixed, mask, weights)

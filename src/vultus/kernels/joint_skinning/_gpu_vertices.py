"""Triton kernels of linear blend skinning. A lane works on a vertex."""

# ruff: noqa: D417 -- sizes and flags explain themselves.
from __future__ import annotations

from vultus.kernels.triton_math import add3, apply3, apply_transposed3, scale3
from vultus.kernels.triton_matrices import load_vector, store_vector
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["blend_transforms", "skin", "skin_backward"]


@jit
def blend_transforms(
    transforms, weights, frame, vertex, mask, NUM_JOINTS: constexpr, LANES: constexpr
):
    """Weighted mean of the joints' transforms: a matrix and a translation."""
    zero = tl.zeros((LANES,), tl.float32)
    none = (zero, zero, zero)
    matrix, offset = (none, none, none), none
    for k in tl.static_range(NUM_JOINTS):
        w = tl.load(weights + vertex * NUM_JOINTS + k, mask=mask, other=0.0)
        first = transforms + 12 * (frame * NUM_JOINTS + k)
        x = (tl.load(first), tl.load(first + 1), tl.load(first + 2))
        y = (tl.load(first + 4), tl.load(first + 5), tl.load(first + 6))
        z = (tl.load(first + 8), tl.load(first + 9), tl.load(first + 10))
        end = (tl.load(first + 3), tl.load(first + 7), tl.load(first + 11))
        matrix = (
            add3(matrix[0], scale3(w, x)),
            add3(matrix[1], scale3(w, y)),
            add3(matrix[2], scale3(w, z)),
        )
        offset = add3(offset, scale3(w, end))
    return matrix, offset


@jit
def skin(
    vertices, transforms, weights, translation, posed, num_vertices,
    HAS_TRANSLATION: constexpr, NUM_JOINTS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Posed vertices.

    Args:
        vertices: [b v 3].
        transforms: [b j 3 4].
        weights: [v j].
        translation: [b 3].
        posed: Written, [b v 3].
    """
    vertex = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = vertex < num_vertices
    matrix, offset = blend_transforms(transforms, weights, frame, vertex, mask, NUM_JOINTS, LANES)
    if HAS_TRANSLATION:
        first = translation + 3 * frame
        offset = add3(offset, (tl.load(first), tl.load(first + 1), tl.load(first + 2)))
    row = 3 * (frame * num_vertices + vertex)
    rest = load_vector(vertices, row, mask)
    store_vector(posed, row, add3(apply3(matrix, rest), offset), mask)


@jit
def skin_backward(
    vertices, transforms, weights, grad_posed, grad_vertices, partial_sums,
    num_vertices, num_frames,
    NEEDS_SUMS: constexpr, NUM_JOINTS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradient of the rest vertices, and this block's share of the other gradients.

    Args:
        grad_vertices: Written, [b v 3].
        partial_sums: Written, one row per block: [b j 3 4] of the transforms, then [b 3] of the
            translation.
    """
    block = tl.program_id(0)
    vertex = block * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = vertex < num_vertices
    matrix, _offset = blend_transforms(transforms, weights, frame, vertex, mask, NUM_JOINTS, LANES)
    row = 3 * (frame * num_vertices + vertex)
    grad = load_vector(grad_posed, row, mask)
    store_vector(grad_vertices, row, apply_transposed3(matrix, grad), mask)
    if NEEDS_SUMS:
        rest = load_vector(vertices, row, mask)
        start = partial_sums + block.to(tl.int64) * num_frames * (12 * NUM_JOINTS + 3)
        for k in tl.static_range(NUM_JOINTS):
            w = tl.load(weights + vertex * NUM_JOINTS + k, mask=mask, other=0.0)
            first = start + 12 * (frame * NUM_JOINTS + k)
            for r in tl.static_range(3):
                share = w * grad[r]
                for c in tl.static_range(3):
                    tl.store(first + 4 * r + c, tl.sum(share * rest[c], axis=0))
                tl.store(first + 4 * r + 3, tl.sum(share, axis=0))
        end = start + 12 * num_frames * NUM_JOINTS + 3 * frame
        for r in tl.static_range(3):
            tl.store(end + r, tl.sum(grad[r], axis=0))

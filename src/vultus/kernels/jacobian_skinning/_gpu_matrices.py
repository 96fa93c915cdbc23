"""Vectors and matrices in Triton: tuples of three tensors, and tuples of three rows."""

from __future__ import annotations

from vultus.kernels.triton_math import add3, scale3
from vultus.kernels.triton_runtime import jit, tl

__all__ = [
    "load_matrix",
    "load_vector",
    "row_times",
    "store_matrix",
    "store_vector",
    "subtract3",
    "times",
    "transposed",
]


@jit
def load_vector(pointer, offset, mask):
    """Three neighbours in memory as a vector; zero where masked."""
    return (
        tl.load(pointer + offset, mask=mask, other=0.0),
        tl.load(pointer + offset + 1, mask=mask, other=0.0),
        tl.load(pointer + offset + 2, mask=mask, other=0.0),
    )


@jit
def store_vector(pointer, offset, value, mask):
    """Write a vector as three neighbouring floats."""
    tl.store(pointer + offset, value[0].to(tl.float32), mask=mask)
    tl.store(pointer + offset + 1, value[1].to(tl.float32), mask=mask)
    tl.store(pointer + offset + 2, value[2].to(tl.float32), mask=mask)


@jit
def load_matrix(pointer, offset, mask):
    """Nine neighbours as rows of a matrix."""
    return (
        load_vector(pointer, offset, mask),
        load_vector(pointer, offset + 3, mask),
        load_vector(pointer, offset + 6, mask),
    )


@jit
def store_matrix(pointer, offset, m, mask):
    """Write the rows of a matrix one after the other."""
    store_vector(pointer, offset, m[0], mask)
    store_vector(pointer, offset + 3, m[1], mask)
    store_vector(pointer, offset + 6, m[2], mask)


@jit
def transposed(m):
    """Rows become columns."""
    return (
        (m[0][0], m[1][0], m[2][0]),
        (m[0][1], m[1][1], m[2][1]),
        (m[0][2], m[1][2], m[2][2]),
    )


@jit
def row_times(a, m):
    """Row vector times matrix."""
    return add3(add3(scale3(a[0], m[0]), scale3(a[1], m[1])), scale3(a[2], m[2]))


@jit
def times(a, b):
    """Product of two matrices."""
    return (row_times(a[0], b), row_times(a[1], b), row_times(a[2], b))


@jit
def subtract3(a, b):
    """Difference of two vectors."""
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])

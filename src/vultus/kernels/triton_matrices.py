"""Vectors, matrices and rotations in Triton: tuples of three tensors, tuples of three rows."""

from __future__ import annotations

from vultus.kernels.triton_math import add3, dot3, scale3
from vultus.kernels.triton_runtime import jit, tl

__all__ = [
    "exp_factors",
    "exp_gradient",
    "load_matrix",
    "load_vector",
    "rotation_exp",
    "row_times",
    "store_matrix",
    "store_vector",
    "subtract3",
    "times",
    "transposed",
]

_SERIES_BELOW = tl.constexpr(1e-3)


@jit
def load_vector(pointer, offset, mask, stride=1):
    """Three numbers, neighbours or ``stride`` apart, as a vector; zero where masked."""
    return (
        tl.load(pointer + offset, mask=mask, other=0.0),
        tl.load(pointer + offset + stride, mask=mask, other=0.0),
        tl.load(pointer + offset + 2 * stride, mask=mask, other=0.0),
    )


@jit
def store_vector(pointer, offset, value, mask, stride=1):
    """Write a vector as three floats, neighbours or ``stride`` apart."""
    tl.store(pointer + offset, value[0].to(tl.float32), mask=mask)
    tl.store(pointer + offset + stride, value[1].to(tl.float32), mask=mask)
    tl.store(pointer + offset + 2 * stride, value[2].to(tl.float32), mask=mask)


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


@jit
def exp_factors(t):
    """sin(a)/a, (1 - cos(a))/a^2 and their derivatives with respect to t = a^2."""
    is_small = t < _SERIES_BELOW
    squared = tl.where(is_small, 1.0, t)
    angle = tl.sqrt(squared)
    half_sine = tl.sin(0.5 * angle)
    a, b = tl.sin(angle) / angle, 2.0 * half_sine * half_sine / squared
    da, db = 0.5 * (tl.cos(angle) - a) / squared, (0.5 * a - b) / squared
    return (
        tl.where(is_small, 1.0 - t / 6.0 * (1.0 - t / 20.0), a),
        tl.where(is_small, 0.5 - t / 24.0 * (1.0 - t / 30.0), b),
        tl.where(is_small, -1.0 / 6.0 + t / 60.0 * (1.0 - t / 28.0), da),
        tl.where(is_small, -1.0 / 24.0 + t / 360.0 * (1.0 - t / 37.333333), db),
    )


@jit
def rotation_exp(r, a, b):
    """Rodrigues' formula."""
    x, y, z = r[0], r[1], r[2]
    return (
        (1.0 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y),
        (b * x * y + a * z, 1.0 - b * (x * x + z * z), b * y * z - a * x),
        (b * x * z - a * y, b * y * z + a * x, 1.0 - b * (x * x + y * y)),
    )


@jit
def exp_gradient(r, a, b, da, db, g):
    """Gradient of the axis-angle vector from that of its rotation."""
    x, y, z = r[0], r[1], r[2]
    axial = (g[2][1] - g[1][2], g[0][2] - g[2][0], g[1][0] - g[0][1])
    xy, xz, yz = g[0][1] + g[1][0], g[0][2] + g[2][0], g[1][2] + g[2][1]
    grad_b = x * y * xy + x * z * xz + y * z * yz
    grad_b -= (y * y + z * z) * g[0][0] + (x * x + z * z) * g[1][1] + (x * x + y * y) * g[2][2]
    along = 2.0 * (da * dot3(r, axial) + db * grad_b)
    return (
        along * x + a * axial[0] + b * (y * xy + z * xz - 2.0 * x * (g[1][1] + g[2][2])),
        along * y + a * axial[1] + b * (x * xy + z * yz - 2.0 * y * (g[0][0] + g[2][2])),
        along * z + a * axial[2] + b * (x * xz + y * yz - 2.0 * z * (g[0][0] + g[1][1])),
    )

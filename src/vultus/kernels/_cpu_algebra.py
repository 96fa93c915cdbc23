"""Small vectors and matrices inside CPU kernels: tuples of numbers, or of SIMD vectors.

A matrix is a tuple of its rows.
"""

from __future__ import annotations

import math

import numpy as np

from vultus.core.simd import helper

__all__ = [
    "add",
    "apply",
    "apply_transposed",
    "cross",
    "dot",
    "double",
    "normalization_gradient",
    "rotation_columns",
    "rotation_gradient",
    "row",
    "scale",
    "unit_quat",
]

# Numba's ``float`` keeps single precision.
double = np.float64


@helper
def row(array, i):
    """First three entries of a row in double precision."""
    return double(array[i, 0]), double(array[i, 1]), double(array[i, 2])


@helper
def dot(a, b):
    """Inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@helper
def cross(a, b):
    """Cross product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@helper
def scale(s, a):
    """Multiply a vector by a number."""
    return s * a[0], s * a[1], s * a[2]


@helper
def add(a, b):
    """Sum of two vectors."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@helper
def apply(m, a):
    """Matrix times vector."""
    return dot(m[0], a), dot(m[1], a), dot(m[2], a)


@helper
def apply_transposed(m, a):
    """Transposed matrix times vector."""
    return (
        m[0][0] * a[0] + m[1][0] * a[1] + m[2][0] * a[2],
        m[0][1] * a[0] + m[1][1] * a[1] + m[2][1] * a[2],
        m[0][2] * a[0] + m[1][2] * a[1] + m[2][2] * a[2],
    )


@helper
def unit_quat(quats, i):
    """Unit quaternion of a row in double precision, and the inverse norm."""
    w, x, y, z = (
        double(quats[i, 0]),
        double(quats[i, 1]),
        double(quats[i, 2]),
        double(quats[i, 3]),
    )
    inverse = 1.0 / math.sqrt(max(w * w + x * x + y * y + z * z, 1e-24))
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@helper
def rotation_columns(w, x, y, z):
    """Columns of the rotation matrix of a unit quaternion."""
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )


@helper
def rotation_gradient(w, x, y, z, g0, g1, g2):
    """Gradient of the quaternion in ``rotation_columns`` from those of the columns."""
    gw = 2 * (z * (g0[1] - g1[0]) + y * (g2[0] - g0[2]) + x * (g1[2] - g2[1]))
    gx = 2 * (y * (g1[0] + g0[1]) + z * (g2[0] + g0[2]) + w * (g1[2] - g2[1]))
    gx -= 4 * x * (g1[1] + g2[2])
    gy = 2 * (x * (g1[0] + g0[1]) + z * (g2[1] + g1[2]) + w * (g2[0] - g0[2]))
    gy -= 4 * y * (g0[0] + g2[2])
    gz = 2 * (x * (g2[0] + g0[2]) + y * (g2[1] + g1[2]) + w * (g0[1] - g1[0]))
    gz -= 4 * z * (g0[0] + g1[1])
    return gw, gx, gy, gz


@helper
def normalization_gradient(unit, inverse_norm, g):
    """Gradient of a quaternion from that of the unit quaternion."""
    radial = g[0] * unit[0] + g[1] * unit[1] + g[2] * unit[2] + g[3] * unit[3]
    return (
        (g[0] - radial * unit[0]) * inverse_norm,
        (g[1] - radial * unit[1]) * inverse_norm,
        (g[2] - radial * unit[2]) * inverse_norm,
        (g[3] - radial * unit[3]) * inverse_norm,
    )

"""Triton kernels of posed triangles. A lane works on a triangle.

Matrices are tuples of rows, as in ``triton_math``.
"""

# ruff: noqa: RUF005, D417 -- Triton unpacks no tuples; flags explain themselves.
from __future__ import annotations

from vultus.kernels.triton_math import add3, cross3, dot3, scale3
from vultus.kernels.triton_matrices import (
    load_matrix,
    load_vector,
    store_matrix,
    store_vector,
    subtract3,
    times,
    transposed,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["deform", "deform_backward"]

_NEWTON_STEPS = tl.constexpr(20)
_SMALLEST_ZETA = tl.constexpr(1e-5)
_TINY = tl.constexpr(2.2e-308)
# Of a normal float: the GPU's square root takes smaller ones for zero.
_SMALLEST_SQUARED_LENGTH = tl.constexpr(2e-38)
_ANGLE_STEPS = tl.constexpr(3)


@jit
def _third_edge(first, second, IS_UNIT: constexpr):
    """Edge along the normal, the normal, and the factor between them."""
    normal = cross3(first, second)
    squared = tl.maximum(dot3(normal, normal), _SMALLEST_SQUARED_LENGTH)
    length = tl.sqrt(squared)
    inverse = 1.0 / length if IS_UNIT else 1.0 / tl.sqrt(length)
    return scale3(inverse, normal), normal, inverse, squared


@jit
def _squared_norm(m):
    return dot3(m[0], m[0]) + dot3(m[1], m[1]) + dot3(m[2], m[2])


@jit
def _polar_rotation(m):
    """Nearest rotation of doubles by Markley's closed form; see ``geometry.polar``."""
    norm = tl.sqrt(_squared_norm(m))
    inverse = 1.0 / tl.maximum(norm, _TINY)
    j = (scale3(inverse, m[0]), scale3(inverse, m[1]), scale3(inverse, m[2]))
    cofactors = (cross3(j[1], j[2]), cross3(j[2], j[0]), cross3(j[0], j[1]))
    det = dot3(j[0], cofactors[0])
    constant = 1.0 - 4.0 * _squared_norm(cofactors)
    linear = -8.0 * det
    root = tl.full(det.shape, 1.7320508075688772, tl.float64)
    for _ in range(_NEWTON_STEPS):
        squared = root * root
        value = constant + (linear + (squared - 2.0) * root) * root
        slope = linear + 4.0 * (squared - 1.0) * root
        root -= tl.maximum(value / tl.maximum(slope, _TINY), 0.0)
    kappa = 0.5 * (root * root - 1.0)
    zeta = kappa * root - det
    cubed = times(j, times(transposed(j), j))
    has_none = (zeta < _SMALLEST_ZETA) | (norm <= _TINY)
    result = ()
    for r in tl.static_range(3):
        row = ()
        for c in tl.static_range(3):
            entry = ((kappa + 1.0) * j[r][c] + root * cofactors[r][c] - cubed[r][c]) / zeta
            row = row + (tl.where(has_none, 1.0 if r == c else 0.0, entry),)
        result = result + (row,)
    return result


@jit
def _rotation_log(m):
    """Axis-angle vector of a rotation of doubles, with an angle in [0, pi]."""
    # The largest of four candidates is never close to zero (Shepperd 1978).
    trace = m[0][0] + m[1][1] + m[2][2]
    ww, xx = 1.0 + trace, 1.0 - trace + 2.0 * m[0][0]
    yy, zz = 1.0 - trace + 2.0 * m[1][1], 1.0 - trace + 2.0 * m[2][2]
    wx, wy, wz = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    xy, xz, yz = m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]
    by_w = (ww >= xx) & (ww >= yy) & (ww >= zz)
    by_x = (xx >= yy) & (xx >= zz)
    by_y = yy >= zz
    w = tl.where(by_w, ww, tl.where(by_x, wx, tl.where(by_y, wy, wz)))
    x = tl.where(by_w, wx, tl.where(by_x, xx, tl.where(by_y, xy, xz)))
    y = tl.where(by_w, wy, tl.where(by_x, xy, tl.where(by_y, yy, yz)))
    z = tl.where(by_w, wz, tl.where(by_x, xz, tl.where(by_y, yz, zz)))
    scale = 1.0 / tl.sqrt(w * w + x * x + y * y + z * z)
    scale = tl.where(w < 0.0, -scale, scale)
    w, x, y, z = w * scale, x * scale, y * scale, z * scale
    sine = tl.sqrt(x * x + y * y + z * z)
    # Half the angle: Newton's method on the sine of the error.
    half = sine
    for _ in tl.static_range(_ANGLE_STEPS):
        error = sine * tl.cos(half) - w * tl.sin(half)
        half += error + error * error * error / 6.0
    factor = tl.where(sine > 1e-12, 2.0 * half / tl.maximum(sine, 1e-12), 2.0)
    return (factor * x, factor * y, factor * z)


@jit
def _corners(faces, face, mask):
    return (
        tl.load(faces + 3 * face, mask=mask, other=0),
        tl.load(faces + 3 * face + 1, mask=mask, other=0),
        tl.load(faces + 3 * face + 2, mask=mask, other=0),
    )


@jit
def deform(
    vertices, faces, inverse_edges, centers, jacobians, logs, stretches, num_vertices, num_faces,
    IS_UNIT: constexpr, HAS_POLAR: constexpr, LANES: constexpr,
):  # fmt: skip
    """Measure posed triangles against the mesh at rest.

    Args:
        vertices: [b v 3].
        faces: [f 3], int64.
        inverse_edges: [f 3 3].
        centers: Written, [b f 3]; so are the next three.
        jacobians: [b f 3 3].
        logs: [b f 3].
        stretches: [b f 3 3].
    """
    face = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = face < num_faces
    corners = _corners(faces, face, mask)
    base = frame * num_vertices
    v0 = load_vector(vertices, 3 * (base + corners[0]), mask)
    v1 = load_vector(vertices, 3 * (base + corners[1]), mask)
    v2 = load_vector(vertices, 3 * (base + corners[2]), mask)
    row = frame * num_faces + face
    store_vector(centers, 3 * row, scale3(1.0 / 3.0, add3(add3(v0, v1), v2)), mask)
    first, second = subtract3(v1, v0), subtract3(v2, v0)
    third, _normal, _inverse, _squared = _third_edge(first, second, IS_UNIT)
    edges = transposed((first, second, third))
    jacobian = times(edges, load_matrix(inverse_edges, 9 * face, mask))
    store_matrix(jacobians, 9 * row, jacobian, mask)
    if HAS_POLAR:
        exact = ()
        for r in tl.static_range(3):
            exact = exact + (
                (
                    jacobian[r][0].to(tl.float64),
                    jacobian[r][1].to(tl.float64),
                    jacobian[r][2].to(tl.float64),
                ),
            )
        rotation = _polar_rotation(exact)
        stretch = times(transposed(rotation), exact)
        flipped = transposed(stretch)
        for r in tl.static_range(3):
            store_vector(
                stretches, 9 * row + 3 * r, scale3(0.5, add3(stretch[r], flipped[r])), mask
            )
        store_vector(logs, 3 * row, _rotation_log(rotation), mask)


@jit
def deform_backward(
    vertices, faces, inverse_edges, grad_centers, grad_jacobians, grad_corners,
    num_vertices, num_faces,
    IS_UNIT: constexpr, HAS_CENTERS: constexpr, HAS_JACOBIANS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradient of each triangle's corners.

    Args:
        grad_corners: Written, [b f 3 3].
    """
    face = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = face < num_faces
    row = frame * num_faces + face
    zero = tl.zeros((LANES,), tl.float32)
    none = (zero, zero, zero)
    g0, g1, g2 = none, none, none
    if HAS_JACOBIANS:
        corners = _corners(faces, face, mask)
        base = frame * num_vertices
        v0 = load_vector(vertices, 3 * (base + corners[0]), mask)
        v1 = load_vector(vertices, 3 * (base + corners[1]), mask)
        v2 = load_vector(vertices, 3 * (base + corners[2]), mask)
        first, second = subtract3(v1, v0), subtract3(v2, v0)
        _third, normal, inverse, squared = _third_edge(first, second, IS_UNIT)
        # J = E inv: the gradient of E is that of J times inv transposed; columns are edges.
        inverse_edge = load_matrix(inverse_edges, 9 * face, mask)
        grad = load_matrix(grad_jacobians, 9 * row, mask)
        grad_edges = transposed(times(grad, transposed(inverse_edge)))
        g_third = grad_edges[2]
        # third = normal / |normal|^q, with q of 1 or 1/2.
        POWER: constexpr = 1.0 if IS_UNIT else 0.5
        radial = POWER * inverse * dot3(normal, g_third) / squared
        g_normal = subtract3(scale3(inverse, g_third), scale3(radial, normal))
        g1 = add3(grad_edges[0], cross3(second, g_normal))
        g2 = add3(grad_edges[1], cross3(g_normal, first))
        g0 = scale3(-1.0, add3(g1, g2))
    if HAS_CENTERS:
        shared = scale3(1.0 / 3.0, load_vector(grad_centers, 3 * row, mask))
        g0, g1, g2 = add3(g0, shared), add3(g1, shared), add3(g2, shared)
    store_matrix(grad_corners, 9 * row, (g0, g1, g2), mask)

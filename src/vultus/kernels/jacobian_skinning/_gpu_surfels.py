"""Triton kernels that carry surfels to posed triangles. A lane works on a surfel.

Symbols follow ``methods.surfhead.transport``: J = exp(sum w r) (sum w U) blends the polar factors
(r, U) of a face and its neighbours; mean = J s R x + c; normal = J^-T n.
"""

# ruff: noqa: PLR0915, D417 -- a kernel is one function; Triton unpacks no tuples.
from __future__ import annotations

from vultus.kernels.jacobian_skinning import FLAT_BELOW
from vultus.kernels.triton_math import (
    add3,
    apply3,
    apply_transposed3,
    cross3,
    dot3,
    rotation_columns,
    rotation_gradient,
    scale3,
    unit_quat,
)
from vultus.kernels.triton_matrices import (
    exp_factors,
    exp_gradient,
    load_matrix,
    load_vector,
    rotation_exp,
    store_matrix,
    store_vector,
    times,
    transposed,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["skin", "skin_backward"]

_FLAT_BELOW = tl.constexpr(FLAT_BELOW)


@jit
def _add_scaled(m, w, other):
    return (
        add3(m[0], scale3(w, other[0])),
        add3(m[1], scale3(w, other[1])),
        add3(m[2], scale3(w, other[2])),
    )


@jit
def _inner(a, b):
    return dot3(a[0], b[0]) + dot3(a[1], b[1]) + dot3(a[2], b[2])


@jit
def _blend(logs, stretches, weights, adjacency, frame_row, surfel, face, mask, LANES: constexpr):
    """Weighted mean of the polar factors of a face and its neighbours."""
    zero = tl.zeros((LANES,), tl.float32)
    none = (zero, zero, zero)
    log, stretch = none, (none, none, none)
    for k in tl.static_range(4):
        row = frame_row + tl.load(adjacency + 4 * face + k, mask=mask, other=0)
        w = tl.load(weights + 4 * surfel + k, mask=mask, other=0.0)
        log = add3(log, scale3(w, load_vector(logs, 3 * row, mask)))
        stretch = _add_scaled(stretch, w, load_matrix(stretches, 9 * row, mask))
    return log, stretch


@jit
def _gain(logs, stretches, neighbour, frame_row, g_log, g_stretch, mask):
    """Gradient of one blend weight; zero where masked."""
    row = frame_row + tl.load(neighbour, mask=mask, other=0)
    gain = dot3(g_log, load_vector(logs, 3 * row, mask))
    return gain + _inner(g_stretch, load_matrix(stretches, 9 * row, mask))


@jit
def _select(condition, a, b):
    return (
        tl.where(condition, a[0], b[0]),
        tl.where(condition, a[1], b[1]),
        tl.where(condition, a[2], b[2]),
    )


@jit
def _rest_quat(quats, rest_quats, surfel, face, mask):
    """Unit quaternion in the face's frame with its inverse norm, the face's, and their product."""
    w, x, y, z, inverse = unit_quat(
        tl.load(quats + 4 * surfel, mask=mask, other=1.0),
        tl.load(quats + 4 * surfel + 1, mask=mask, other=0.0),
        tl.load(quats + 4 * surfel + 2, mask=mask, other=0.0),
        tl.load(quats + 4 * surfel + 3, mask=mask, other=0.0),
    )
    fw = tl.load(rest_quats + 4 * face, mask=mask, other=1.0)
    fx = tl.load(rest_quats + 4 * face + 1, mask=mask, other=0.0)
    fy = tl.load(rest_quats + 4 * face + 2, mask=mask, other=0.0)
    fz = tl.load(rest_quats + 4 * face + 3, mask=mask, other=0.0)
    product = (
        fw * w - fx * x - fy * y - fz * z,
        fw * x + fx * w + fy * z - fz * y,
        fw * y - fx * z + fy * w + fz * x,
        fw * z + fx * y - fy * x + fz * w,
    )
    return (w, x, y, z), inverse, (fw, fx, fy, fz), product


@jit
def _cofactors(m):
    """Cofactors as rows, which are J^-T det J, and the determinant."""
    rows = (cross3(m[1], m[2]), cross3(m[2], m[0]), cross3(m[0], m[1]))
    return rows, dot3(m[0], rows[0])


@jit
def _inverse(det):
    """Of a determinant; zero for triangles without area, which have no normal."""
    return tl.where(tl.abs(det) > _FLAT_BELOW, 1.0 / det, 0.0)


@jit
def skin(
    local_means, quats, scales, weights, face_index, rigid, rest_rotations, rest_quats,
    rest_scales, adjacency, centers, face_jacobians, logs, stretches,
    means, placed_quats, placed_scales, jacobians, normals, num, num_faces,
    HAS_BLEND: constexpr, HAS_RIGID: constexpr, LANES: constexpr,
):  # fmt: skip
    """Carry surfels to posed triangles; arguments from ``means`` on are written.

    Args:
        rigid: [n] bytes.
    """
    surfel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = surfel < num
    face = tl.load(face_index + surfel, mask=mask, other=0)
    frame_row = frame * num_faces
    size = tl.load(rest_scales + face, mask=mask, other=1.0)
    turned = apply3(
        load_matrix(rest_rotations, 9 * face, mask), load_vector(local_means, 3 * surfel, mask)
    )
    local = scale3(size, turned)
    jacobian = load_matrix(face_jacobians, 9 * (frame_row + face), mask)
    if HAS_BLEND:
        log, stretch = _blend(
            logs, stretches, weights, adjacency, frame_row, surfel, face, mask, LANES
        )
        a, b, _da, _db = exp_factors(dot3(log, log))
        blended = times(rotation_exp(log, a, b), stretch)
        if HAS_RIGID:
            is_rigid = tl.load(rigid + surfel, mask=mask, other=0) != 0
            jacobian = (
                _select(is_rigid, jacobian[0], blended[0]),
                _select(is_rigid, jacobian[1], blended[1]),
                _select(is_rigid, jacobian[2], blended[2]),
            )
        else:
            jacobian = blended
    row = frame * num + surfel
    center = load_vector(centers, 3 * (frame_row + face), mask)
    store_vector(means, 3 * row, add3(apply3(jacobian, local), center), mask)
    store_matrix(jacobians, 9 * row, jacobian, mask)
    _unit, _norm, _face_quat, quat = _rest_quat(quats, rest_quats, surfel, face, mask)
    columns = rotation_columns(quat[0], quat[1], quat[2], quat[3])
    cofactors, det = _cofactors(jacobian)
    store_vector(normals, 3 * row, scale3(_inverse(det), apply3(cofactors, columns[2])), mask)
    if frame == 0:
        for k in tl.static_range(4):
            tl.store(placed_quats + 4 * surfel + k, quat[k], mask=mask)
        for k in tl.static_range(2):
            scale = tl.load(scales + 2 * surfel + k, mask=mask, other=0.0)
            tl.store(placed_scales + 2 * surfel + k, size * scale, mask=mask)


@jit
def skin_backward(
    local_means, quats, weights, face_index, rigid, rest_rotations, rest_quats, rest_scales,
    adjacency, logs, stretches, jacobians,
    grad_means, grad_placed_quats, grad_placed_scales, grad_jacobians, grad_normals,
    grad_local_means, grad_quats, grad_scales, grad_weights, grad_face_jacobians,
    num, num_faces, num_frames,
    HAS_BLEND: constexpr, HAS_RIGID: constexpr, HAS_MEANS: constexpr, HAS_QUATS: constexpr,
    HAS_SCALES: constexpr, HAS_JACOBIANS: constexpr, HAS_NORMALS: constexpr,
    NEEDS_FACES: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of the surfels, summed over frames, and of the Jacobian of each one's own face.

    Args:
        grad_local_means: Written, as all that follow; [n 3].
        grad_face_jacobians: [b n 3 3], to be added up per face.
    """
    surfel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = surfel < num
    face = tl.load(face_index + surfel, mask=mask, other=0)
    size = tl.load(rest_scales + face, mask=mask, other=1.0)
    rest = load_matrix(rest_rotations, 9 * face, mask)
    local = scale3(size, apply3(rest, load_vector(local_means, 3 * surfel, mask)))
    unit, inverse, face_quat, quat = _rest_quat(quats, rest_quats, surfel, face, mask)
    normal = rotation_columns(quat[0], quat[1], quat[2], quat[3])[2]
    zero = tl.zeros((LANES,), tl.float32)
    none = (zero, zero, zero)
    g_local, g_normal = none, none
    w0, w1, w2, w3 = zero, zero, zero, zero
    is_rigid = surfel < 0
    if HAS_RIGID:
        is_rigid = tl.load(rigid + surfel, mask=mask, other=0) != 0
    for frame in range(num_frames):
        frame_row = frame * num_faces
        row = frame * num + surfel.to(tl.int64)
        jacobian = load_matrix(jacobians, 9 * row, mask)
        g_jacobian = (none, none, none)
        if HAS_JACOBIANS:
            g_jacobian = load_matrix(grad_jacobians, 9 * row, mask)
        if HAS_MEANS:
            g = load_vector(grad_means, 3 * row, mask)
            g_jacobian = (
                add3(g_jacobian[0], scale3(g[0], local)),
                add3(g_jacobian[1], scale3(g[1], local)),
                add3(g_jacobian[2], scale3(g[2], local)),
            )
            g_local = add3(g_local, apply_transposed3(jacobian, g))
        if HAS_NORMALS:
            g = load_vector(grad_normals, 3 * row, mask)
            cofactors, det = _cofactors(jacobian)
            scale = tl.where(mask, _inverse(det), 0.0)
            placed = scale3(scale, apply3(cofactors, normal))
            back = scale3(scale, apply_transposed3(cofactors, g))
            g_normal = add3(g_normal, back)
            # d(J^-T) = -J^-T dJ^T J^-T
            g_jacobian = (
                add3(g_jacobian[0], scale3(-placed[0], back)),
                add3(g_jacobian[1], scale3(-placed[1], back)),
                add3(g_jacobian[2], scale3(-placed[2], back)),
            )
        if NEEDS_FACES:
            if HAS_BLEND:
                own = (
                    _select(is_rigid, g_jacobian[0], none),
                    _select(is_rigid, g_jacobian[1], none),
                    _select(is_rigid, g_jacobian[2], none),
                )
                store_matrix(grad_face_jacobians, 9 * row, own, mask)
            else:
                store_matrix(grad_face_jacobians, 9 * row, g_jacobian, mask)
        if HAS_BLEND:
            log, stretch = _blend(
                logs, stretches, weights, adjacency, frame_row, surfel, face, mask, LANES
            )
            a, b, da, db = exp_factors(dot3(log, log))
            rotation = rotation_exp(log, a, b)
            # J = R U, with a symmetric U.
            g_log = exp_gradient(log, a, b, da, db, times(g_jacobian, stretch))
            g_stretch = times(transposed(rotation), g_jacobian)
            first = adjacency + 4 * face
            w0 += _gain(logs, stretches, first, frame_row, g_log, g_stretch, mask & ~is_rigid)
            w1 += _gain(logs, stretches, first + 1, frame_row, g_log, g_stretch, mask & ~is_rigid)
            w2 += _gain(logs, stretches, first + 2, frame_row, g_log, g_stretch, mask & ~is_rigid)
            w3 += _gain(logs, stretches, first + 3, frame_row, g_log, g_stretch, mask & ~is_rigid)
    store_vector(grad_local_means, 3 * surfel, scale3(size, apply_transposed3(rest, g_local)), mask)
    if HAS_BLEND:
        tl.store(grad_weights + 4 * surfel, w0, mask=mask)
        tl.store(grad_weights + 4 * surfel + 1, w1, mask=mask)
        tl.store(grad_weights + 4 * surfel + 2, w2, mask=mask)
        tl.store(grad_weights + 4 * surfel + 3, w3, mask=mask)
    for k in tl.static_range(2):
        g_scale = zero
        if HAS_SCALES:
            g_scale = size * tl.load(grad_placed_scales + 2 * surfel + k, mask=mask, other=0.0)
        tl.store(grad_scales + 2 * surfel + k, g_scale, mask=mask)
    gw, gx, gy, gz = rotation_gradient(quat[0], quat[1], quat[2], quat[3], none, none, g_normal)
    if HAS_QUATS:
        gw += tl.load(grad_placed_quats + 4 * surfel, mask=mask, other=0.0)
        gx += tl.load(grad_placed_quats + 4 * surfel + 1, mask=mask, other=0.0)
        gy += tl.load(grad_placed_quats + 4 * surfel + 2, mask=mask, other=0.0)
        gz += tl.load(grad_placed_quats + 4 * surfel + 3, mask=mask, other=0.0)
    # The product with the face's unit quaternion is an orthogonal map: turn back by its conjugate.
    fw, fx, fy, fz = face_quat[0], face_quat[1], face_quat[2], face_quat[3]
    turned = (
        fw * gw + fx * gx + fy * gy + fz * gz,
        fw * gx - fx * gw - fy * gz + fz * gy,
        fw * gy + fx * gz - fy * gw - fz * gx,
        fw * gz - fx * gy + fy * gx - fz * gw,
    )
    radial = turned[0] * unit[0] + turned[1] * unit[1]
    radial += turned[2] * unit[2] + turned[3] * unit[3]
    for k in tl.static_range(4):
        tl.store(grad_quats + 4 * surfel + k, (turned[k] - radial * unit[k]) * inverse, mask=mask)

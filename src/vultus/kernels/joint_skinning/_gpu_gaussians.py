"""Triton kernels of Gaussians that follow joints. A lane works on a Gaussian."""

# ruff: noqa: D417 -- sizes and flags explain themselves.
from __future__ import annotations

from vultus.kernels.joint_skinning._gpu_vertices import blend_transforms
from vultus.kernels.triton_math import (
    add3,
    apply3,
    apply_transposed3,
    cross3,
    dot3,
    load4,
    scale3,
    store4,
)
from vultus.kernels.triton_matrices import load_vector, store_matrix, store_vector
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["skin_attributes", "skin_attributes_backward"]

_NUM_STEPS = tl.constexpr(3)
_MIN_NORM = tl.constexpr(1e-8)


@jit
def _step_to_rotation(m):
    """(M + M^-T) / 2."""
    cofactors = (cross3(m[1], m[2]), cross3(m[2], m[0]), cross3(m[0], m[1]))
    half = 0.5 / dot3(m[0], cofactors[0])
    return (
        add3(scale3(0.5, m[0]), scale3(half, cofactors[0])),
        add3(scale3(0.5, m[1]), scale3(half, cofactors[1])),
        add3(scale3(0.5, m[2]), scale3(half, cofactors[2])),
    )


@jit
def _nearest_rotation(m):
    """Steps towards it."""
    for _ in tl.static_range(_NUM_STEPS):
        m = _step_to_rotation(m)
    return m


@jit
def _where4(condition, a, b):
    return (
        tl.where(condition, a[0], b[0]),
        tl.where(condition, a[1], b[1]),
        tl.where(condition, a[2], b[2]),
        tl.where(condition, a[3], b[3]),
    )


@jit
def _rotation_quat(m):
    """Unit quaternion with w >= 0, as ``geometry.rotations.matrix_to_quaternion`` finds it."""
    wx, wy, wz = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    xy, xz, yz = m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]
    ww, xx = 1.0 + m[0][0] + m[1][1] + m[2][2], 1.0 + m[0][0] - m[1][1] - m[2][2]
    yy, zz = 1.0 - m[0][0] + m[1][1] - m[2][2], 1.0 - m[0][0] - m[1][1] + m[2][2]
    row, largest = (ww, wx, wy, wz), ww
    row, largest = _where4(xx > largest, (wx, xx, xy, xz), row), tl.maximum(xx, largest)
    row, largest = _where4(yy > largest, (wy, xy, yy, yz), row), tl.maximum(yy, largest)
    row = _where4(zz > largest, (wz, xz, yz, zz), row)
    norm = tl.sqrt(row[0] * row[0] + row[1] * row[1] + row[2] * row[2] + row[3] * row[3])
    factor = tl.where(row[0] < 0.0, -1.0, 1.0) / norm
    return (row[0] * factor, row[1] * factor, row[2] * factor, row[3] * factor)


@jit
def _multiply(a, b):
    """Hamilton product."""
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


@jit
def _load_local(quats, row, mask):
    """Unit quaternion and its norm, which counts as at least 1e-8."""
    w, x, y, z = load4(quats + 4 * row, mask)
    squared = w * w + x * x + y * y + z * z
    norm = tl.maximum(tl.sqrt(squared), _MIN_NORM)
    return (w / norm, x / norm, y / norm, z / norm), norm


@jit
def _share(
    shapes, weights, row, mask, channel, NUM: constexpr, COLUMNS: constexpr, LANES: constexpr
):
    """One coordinate of weighted shapes [n 3 k]."""
    total = tl.zeros((LANES, COLUMNS), tl.float32)
    for first in range(0, NUM, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        weight = tl.load(weights + column, mask=column < NUM, other=0.0)
        cell = (3 * row[:, None] + channel) * NUM + column[None, :]
        is_cell = mask[:, None] & (column < NUM)[None, :]
        total += weight[None, :] * tl.load(shapes + cell, mask=is_cell, other=0.0)
    return tl.sum(total, axis=1)


@jit
def _shift(
    points, shapes, weights, row, mask, NUM: constexpr, COLUMNS: constexpr, LANES: constexpr
):
    """Add weighted shapes to points."""
    if NUM == 0:
        return points
    else:
        return (
            points[0] + _share(shapes, weights, row, mask, 0, NUM, COLUMNS, LANES),
            points[1] + _share(shapes, weights, row, mask, 1, NUM, COLUMNS, LANES),
            points[2] + _share(shapes, weights, row, mask, 2, NUM, COLUMNS, LANES),
        )


@jit
def skin_attributes(
    means, quats, log_scales, opacity_logits, transforms, weights, shapes_before, weights_before,
    shapes_after, weights_after, posed, posed_quats, scales, opacities, rotations, num,
    NUM_BEFORE: constexpr, COLUMNS_BEFORE: constexpr, NUM_AFTER: constexpr,
    COLUMNS_AFTER: constexpr, NUM_JOINTS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Posed, activated Gaussians of one frame.

    Args:
        transforms: [b j 3 4].
        weights: [n j].
        shapes_before: [n 3 p], with ``weights_before`` [b p].
        shapes_after: [n 3 l], with ``weights_after`` [b l].
        posed: Written, as all others up to ``rotations`` [b n 3 3].
        num: Gaussians.
    """
    index = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    frame = tl.program_id(1).to(tl.int64)
    mask = index < num
    row = frame * num + index
    matrix, offset = blend_transforms(transforms, weights, frame, index, mask, NUM_JOINTS, LANES)
    point = load_vector(means, 3 * row, mask)
    point = _shift(
        point, shapes_before, weights_before + frame * NUM_BEFORE, index, mask, NUM_BEFORE,
        COLUMNS_BEFORE, LANES,
    )  # fmt: skip
    point = _shift(
        add3(apply3(matrix, point), offset), shapes_after, weights_after + frame * NUM_AFTER,
        index, mask, NUM_AFTER, COLUMNS_AFTER, LANES,
    )  # fmt: skip
    store_vector(posed, 3 * row, point, mask)
    rotation = _nearest_rotation(matrix)
    store_matrix(rotations, 9 * row, rotation, mask)
    local, _norm = _load_local(quats, row, mask)
    turned = _multiply(_rotation_quat(rotation), local)
    store4(posed_quats + 4 * row, turned[0], turned[1], turned[2], turned[3], mask)
    size = load_vector(log_scales, 3 * row, mask)
    store_vector(scales, 3 * row, (tl.exp(size[0]), tl.exp(size[1]), tl.exp(size[2])), mask)
    logit = tl.load(opacity_logits + row, mask=mask, other=0.0)
    tl.store(opacities + row, tl.sigmoid(logit), mask=mask)


@jit
def skin_attributes_backward(
    quats, transforms, weights, scales, opacities, grad_posed, grad_posed_quats, grad_scales,
    grad_opacities, grad_means, grad_quats, grad_log_scales, grad_logits, num,
    NUM_JOINTS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of the attributes of one frame; the last four tensors are written."""
    index = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    frame = tl.program_id(1).to(tl.int64)
    mask = index < num
    row = frame * num + index
    matrix, _offset = blend_transforms(transforms, weights, frame, index, mask, NUM_JOINTS, LANES)
    grad = load_vector(grad_posed, 3 * row, mask)
    store_vector(grad_means, 3 * row, apply_transposed3(matrix, grad), mask)
    # The product with a unit quaternion is an orthogonal map: turn back by its conjugate.
    turn = _rotation_quat(_nearest_rotation(matrix))
    local, norm = _load_local(quats, row, mask)
    gw, gx, gy, gz = load4(grad_posed_quats + 4 * row, mask)
    back = _multiply((turn[0], -turn[1], -turn[2], -turn[3]), (gw, gx, gy, gz))
    along = back[0] * local[0] + back[1] * local[1] + back[2] * local[2] + back[3] * local[3]
    along = tl.where(norm > _MIN_NORM, along, 0.0)
    store4(
        grad_quats + 4 * row, (back[0] - along * local[0]) / norm,
        (back[1] - along * local[1]) / norm, (back[2] - along * local[2]) / norm,
        (back[3] - along * local[3]) / norm, mask,
    )  # fmt: skip
    size, grad = load_vector(scales, 3 * row, mask), load_vector(grad_scales, 3 * row, mask)
    product = (size[0] * grad[0], size[1] * grad[1], size[2] * grad[2])
    store_vector(grad_log_scales, 3 * row, product, mask)
    opacity = tl.load(opacities + row, mask=mask, other=0.0)
    grad_opacity = tl.load(grad_opacities + row, mask=mask, other=0.0)
    tl.store(grad_logits + row, grad_opacity * opacity * (1.0 - opacity), mask=mask)

"""Triton kernels that sample a tri-plane at copies of points, and their gradients.

A program works on some points of a frame, each with the channels that one copy of it reads. Planes
are rows of texels, one plane after the other; the first axis of a plane runs within its rows.
"""

# ruff: noqa: D417 -- Triton unpacks no tuples; coordinates and corners have no other names.
from __future__ import annotations

from vultus.kernels.triton_math import (
    add3,
    apply3,
    apply_transposed3,
    quat_gradient,
    rotation_columns,
    scale3,
    unit_quat,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["sample", "sample_backward"]


@jit
def _load3(pointers, mask):
    return (
        tl.load(pointers, mask=mask, other=0.0),
        tl.load(pointers + 1, mask=mask, other=0.0),
        tl.load(pointers + 2, mask=mask, other=0.0),
    )


@jit
def _multiply(a, b):
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


@jit
def _load_quat(pointers, mask):
    """Unit quaternion, and the inverse norm."""
    return unit_quat(
        tl.load(pointers, mask=mask, other=1.0),
        tl.load(pointers + 1, mask=mask, other=0.0),
        tl.load(pointers + 2, mask=mask, other=0.0),
        tl.load(pointers + 3, mask=mask, other=0.0),
    )


@jit
def _derive(point, values, mask, SIZE: constexpr):
    """One copy of a point; see ``sample`` for the values."""
    if SIZE == 4:
        w, x, y, z, _inverse = _load_quat(values, mask)
        # The transposed matrix has the columns as rows.
        return apply_transposed3(rotation_columns(w, x, y, z), point)
    elif SIZE == 3:
        return _multiply(_load3(values, mask), point)
    else:
        return point


@jit
def _place(coordinate, size):
    """Texel at the left, weight of the one at the right, texels per unit: none outside."""
    last = (size - 1).to(tl.float32)
    position = (coordinate + 1.0) * (0.5 * last)
    slope = tl.where((position > 0.0) & (position < last), 0.5 * last, 0.0)
    position = tl.minimum(tl.maximum(position, 0.0), last)
    # What is not a number must not become an address.
    left = tl.minimum(tl.maximum(position.to(tl.int32), 0), size - 2)
    return left, position - left.to(tl.float32), slope


@jit
def _corners(start, along, across, width, channel, CHANNELS: constexpr):
    """Offsets of the four texels around the points, one column per channel."""
    texel = start + across[0] * width + along[0]
    offset = (texel * CHANNELS)[:, None] + channel[None, :]
    below = offset + width * CHANNELS
    return (offset, offset + CHANNELS, below, below + CHANNELS)


@jit
def _load_corners(texels, corners, mask):
    return (
        tl.load(texels + corners[0], mask=mask, other=0.0),
        tl.load(texels + corners[1], mask=mask, other=0.0),
        tl.load(texels + corners[2], mask=mask, other=0.0),
        tl.load(texels + corners[3], mask=mask, other=0.0),
    )


@jit
def _mix(texel, along, across):
    """Bilinear sample."""
    u, v = along[1][:, None], across[1][:, None]
    above = texel[0] + u * (texel[1] - texel[0])
    below = texel[2] + u * (texel[3] - texel[2])
    return above + v * (below - above)


@jit
def _slopes(texel, along, across, gradient):
    """Gradient of both coordinates from that of the sample."""
    u, v = along[1][:, None], across[1][:, None]
    to_right = texel[1] - texel[0]
    to_right += v * (texel[3] - texel[2] - to_right)
    down = texel[2] - texel[0]
    down += u * (texel[3] - texel[1] - down)
    return (
        along[2] * tl.sum(gradient * to_right, axis=1),
        across[2] * tl.sum(gradient * down, axis=1),
    )


@jit
def _add(sums, offset, value, scale, mask, IS_EXACT: constexpr):
    if IS_EXACT:
        tl.atomic_add(sums + offset, (value * scale).to(tl.int64), mask=mask, sem="relaxed")
    else:
        tl.atomic_add(sums + offset, value, mask=mask, sem="relaxed")


@jit
def _spread(sums, corners, along, across, gradient, scale, mask, IS_EXACT: constexpr):
    """Add the gradient of a sample to those of its texels."""
    u, v = along[1][:, None], across[1][:, None]
    above, below = (1.0 - v) * gradient, v * gradient
    _add(sums, corners[0], (1.0 - u) * above, scale, mask, IS_EXACT)
    _add(sums, corners[1], u * above, scale, mask, IS_EXACT)
    _add(sums, corners[2], (1.0 - u) * below, scale, mask, IS_EXACT)
    _add(sums, corners[3], u * below, scale, mask, IS_EXACT)


@jit
def _read(
    texels, position, k, size_x, size_y, size_z, is_used,
    CHANNELS: constexpr, SHARE: constexpr, IS_SHARED: constexpr, LANES: constexpr,
):  # fmt: skip
    """Everything about the samples of copy k in the three planes.

    Returns:
        Places along x, y, z; offsets of texels and texels of the planes; and what is not masked.
    """
    channel = tl.arange(0, LANES)
    mask = is_used[:, None] & (channel < SHARE)[None, :]
    if not IS_SHARED:
        channel += k * SHARE
    x, y, z = _place(position[0], size_x), _place(position[1], size_y), _place(position[2], size_z)
    second = size_x * size_y
    offsets = (
        _corners(0, x, y, size_x, channel, CHANNELS),
        _corners(second, x, z, size_x, channel, CHANNELS),
        _corners(second + size_x * size_z, y, z, size_y, channel, CHANNELS),
    )
    texel = (
        _load_corners(texels, offsets[0], mask),
        _load_corners(texels, offsets[1], mask),
        _load_corners(texels, offsets[2], mask),
    )
    return (x, y, z), offsets, texel, mask


@jit
def sample(
    texels, points, derivation, features, num, size_x, size_y, size_z,
    CHANNELS: constexpr, COPIES: constexpr, SHARE: constexpr, SIZE: constexpr,
    IS_SHARED: constexpr, POINTS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Multiply the samples of the three planes, for every copy of every point.

    Args:
        texels: Rows of CHANNELS floats.
        derivation: SIZE floats per point and copy: a quaternion, three factors, or nothing.
        features: Written; [b n COPIES SHARE].
    """
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    row = tl.program_id(1).to(tl.int64) * num + point
    is_used = point < num
    mean = _load3(points + 3 * row, is_used)
    for k in range(COPIES):
        position = _derive(mean, derivation + (point * COPIES + k) * SIZE, is_used, SIZE)
        place, _offsets, texel, mask = _read(
            texels, position, k, size_x, size_y, size_z, is_used,
            CHANNELS, SHARE, IS_SHARED, LANES,
        )  # fmt: skip
        product = _mix(texel[0], place[0], place[1]) * _mix(texel[1], place[0], place[2])
        product *= _mix(texel[2], place[1], place[2])
        out = ((row * COPIES + k) * SHARE)[:, None] + tl.arange(0, LANES)[None, :]
        tl.store(features + out, product, mask=mask)


@jit
def sample_backward(
    texels, points, derivation, gradient, sums, scale, grad_points, grad_derivation,
    num, size_x, size_y, size_z,
    CHANNELS: constexpr, COPIES: constexpr, SHARE: constexpr, SIZE: constexpr,
    IS_SHARED: constexpr, POINTS: constexpr, LANES: constexpr,
    NEEDS_TEXELS: constexpr, NEEDS_POINTS: constexpr, NEEDS_DERIVATION: constexpr,
    IS_EXACT: constexpr,
):  # fmt: skip
    """Gradients of texels, points and derivation.

    Args:
        gradient: Of the features.
        sums: Added to; gradient of the texels, as integers times ``scale`` if IS_EXACT.
        grad_points: Written; [b n 3].
        grad_derivation: Written; [b n COPIES SIZE].
    """
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    row = tl.program_id(1).to(tl.int64) * num + point
    is_used = point < num
    mean = _load3(points + 3 * row, is_used)
    factor = 1.0
    if IS_EXACT:
        factor = tl.load(scale)
    zero = tl.zeros((POINTS,), tl.float32)
    total = (zero, zero, zero)
    for k in range(COPIES):
        values = derivation + (point * COPIES + k) * SIZE
        position = _derive(mean, values, is_used, SIZE)
        place, offsets, texel, mask = _read(
            texels, position, k, size_x, size_y, size_z, is_used,
            CHANNELS, SHARE, IS_SHARED, LANES,
        )  # fmt: skip
        x, y, z = place[0], place[1], place[2]
        xy, xz, yz = _mix(texel[0], x, y), _mix(texel[1], x, z), _mix(texel[2], y, z)
        out = ((row * COPIES + k) * SHARE)[:, None] + tl.arange(0, LANES)[None, :]
        g = tl.load(gradient + out, mask=mask, other=0.0)
        g_xy, g_xz, g_yz = g * xz * yz, g * xy * yz, g * xy * xz
        if NEEDS_TEXELS:
            _spread(sums, offsets[0], x, y, g_xy, factor, mask, IS_EXACT)
            _spread(sums, offsets[1], x, z, g_xz, factor, mask, IS_EXACT)
            _spread(sums, offsets[2], y, z, g_yz, factor, mask, IS_EXACT)
        if NEEDS_POINTS or NEEDS_DERIVATION:
            in_xy, in_xz = _slopes(texel[0], x, y, g_xy), _slopes(texel[1], x, z, g_xz)
            in_yz = _slopes(texel[2], y, z, g_yz)
            g_position = (in_xy[0] + in_xz[0], in_xy[1] + in_yz[0], in_xz[1] + in_yz[1])
            target = grad_derivation + (row * COPIES + k) * SIZE
            if SIZE == 4:
                qw, qx, qy, qz, inverse = _load_quat(values, is_used)
                total = add3(total, apply3(rotation_columns(qw, qx, qy, qz), g_position))
                if NEEDS_DERIVATION:
                    g_quat = quat_gradient(
                        qw, qx, qy, qz, inverse, scale3(mean[0], g_position),
                        scale3(mean[1], g_position), scale3(mean[2], g_position),
                    )  # fmt: skip
                    for n in tl.static_range(4):
                        tl.store(target + n, g_quat[n], mask=is_used)
            elif SIZE == 3:
                factors = _load3(values, is_used)
                total = add3(total, _multiply(factors, g_position))
                if NEEDS_DERIVATION:
                    g_factors = _multiply(mean, g_position)
                    for n in tl.static_range(3):
                        tl.store(target + n, g_factors[n], mask=is_used)
            else:
                total = add3(total, g_position)
    if NEEDS_POINTS:
        for n in tl.static_range(3):
            tl.store(grad_points + 3 * row + n, total[n], mask=is_used)

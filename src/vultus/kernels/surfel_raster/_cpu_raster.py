"""The tile loops: blending of depth-sorted surfels and its backward pass, 16 pixels at a time.

Kernels are built per set of outputs, so that what is not asked for costs nothing. Per surfel and
tile, one vector operation over the 16 rows finds the rows that the surfel can touch, one surfel
ahead, since a mispredicted branch on that mask would have to wait for it; the loop then visits the
set bits. Transmittance keeps falling after a pixel has stopped, and weights are selected by
``after > MIN_TRANSMITTANCE``, which equals the published stop because it never rises.

The backward pass walks front to back again: the part of the loss behind a surfel is the total minus
the running prefix. Distortion is sum_i sum_j<i w_i w_j (m_i - m_j)^2 = k (A Z2 - Z1^2) with Z1, Z2
the moments of inverse depth about that of the tile's first surfel, which keeps float32 accurate.
"""

# ruff: noqa: C901, PLR0915 -- one loop body per direction; splitting it would hide the register use.
from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from vultus.core.simd import (
    aligned_floats,
    bits,
    cttz,
    fetch_add,
    helper,
    hsum,
    hsum16,
    iota,
    kernel,
    splat,
    vexp2,
    vload,
    vmax,
    vmin,
    vsel,
    vstore,
)
from vultus.kernels import _cpu_tiles
from vultus.kernels._cpu_tiles import PLANE, TILE, copy_row, load_row, weighted_rows
from vultus.kernels.surfel_raster import _cpu_layout
from vultus.kernels.surfel_raster._cpu_layout import (
    CENTER_X,
    CENTER_Y,
    DEPTH,
    ELLIPSE_SOLVE,
    ELLIPSE_X,
    ELLIPSE_XX,
    ELLIPSE_XY,
    ELLIPSE_Y,
    ELLIPSE_YY,
    GRAD_CHANNELS,
    INVERSE_DEPTH,
    LOG2_OPACITY,
    LOW_PASS_RADIUS2,
    LOW_PASS_X,
    LOW_PASS_Y,
    MIN_ALPHA,
    U_X,
    U_Y,
    V_X,
    V_Y,
    Z_X,
    Z_Y,
    pair_grad_size,
)

__all__ = ["RasterOptions", "backward_kernel", "forward_kernel"]

MAX_ALPHA = np.float32(0.99)
MIN_TRANSMITTANCE = np.float32(1e-4)
_MIN_LOG2_ALPHA = np.float32(math.log2(MIN_ALPHA))
_HALF_LOG2_E = np.float32(0.5 * math.log2(math.e))
# Planes met further away than this many units count as parallel to the ray.
_MIN_INVERSE_DEPTH = np.float32(1e-12)
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_LAST = np.float32(TILE - 1)
# Rows are kept if the ellipse's equation is below 1 by this much, and by this share of its terms.
_ROW_SLACK, _ROW_ROUNDING = np.float32(1.001), np.float32(2e-6)


class RasterOptions(NamedTuple):
    """What one specialisation of the tile loops computes."""

    channels: int
    """All channels; the normal, where asked for, is the last three."""
    has_normal: bool
    has_depth: bool
    has_median: bool
    has_distortion: bool
    is_surfhead: bool
    """Low-pass pixels take the depth of the surfel's centre, not of the intersection."""
    has_detached_weights: bool
    """Distortion treats blending weights as constants in the backward pass."""


@helper
def _touched_rows(records, i, px, py):
    """Bit mask of the rows that a surfel or its low-pass can reach, in the tile with this pixel.

    ``px, py``: centre of the tile's first pixel.
    """
    x, y = px - records[i, CENTER_X], py - records[i, CENTER_Y]
    low_x, low_y = px - records[i, LOW_PASS_X], py - records[i, LOW_PASS_Y]
    dy = iota() + y
    slope = dy * records[i, ELLIPSE_XY] + records[i, ELLIPSE_X]
    best_x = vmin(vmax(slope * records[i, ELLIPSE_SOLVE], x), x + _LAST)
    square = best_x * best_x * records[i, ELLIPSE_XX] + dy * dy * records[i, ELLIPSE_YY]
    value = square + (slope * best_x + dy * records[i, ELLIPSE_Y]) * _TWO
    low_dy = iota() + low_y
    low_dx = min(max(_ZERO, low_x), low_x + _LAST)
    return bits(value - square * _ROW_ROUNDING <= _ROW_SLACK) | bits(
        low_dy * low_dy + low_dx * low_dx <= records[i, LOW_PASS_RADIUS2]
    )


@lru_cache(None)
def forward_kernel(options: RasterOptions) -> Any:
    """Build the forward loop for one set of outputs."""
    channels, has_normal, has_depth, has_median, has_distortion, is_surfhead, _ = options
    num_colors = channels - 3 if has_normal else channels
    # Planes of scratch: transmittance, alpha, channels, then what is asked for.
    first_color = 2 * PLANE
    at_depth = (2 + channels) * PLANE
    at_median = at_depth + has_depth * PLANE
    at_moments = at_median + 2 * has_median * PLANE
    scratch_size = at_moments + 2 * has_distortion * PLANE

    @kernel(_cpu_layout.__file__, _cpu_tiles.__file__)
    def forward(
        job, tile_starts, list_rows, records, colors, background, near, distortion_scale,
        width, height, image, alpha, normal, depth, median, distortion, aux, list_ends,
    ):  # fmt: skip
        """Blend; colors, images and ``aux`` are flat.

        ``aux``: first and second moment of inverse depth, position of the median surfel.
        """
        num_tiles = list_ends.shape[0]
        tiles_x = (width + TILE - 1) // TILE
        scratch = aligned_floats(scratch_size)
        size = width * height
        zero, one = splat(_ZERO), splat(_ONE)
        max_inverse = np.float32(1) / near
        while True:
            tile = fetch_add(job, 0, 1)
            if tile >= num_tiles:
                break
            y0, x0 = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
            rows, cols = min(TILE, height - y0), min(TILE, width - x0)
            px, py = np.float32(x0) + _HALF, np.float32(y0) + _HALF
            scratch[:] = 0
            inside = vsel(iota() < np.float32(cols), one, zero)
            for r in range(TILE):
                vstore(scratch, r * TILE, inside)
                if has_median:
                    vstore(scratch, at_median + PLANE + r * TILE, splat(np.float32(-1)))
            alive = (1 << rows) - 1
            first, end = tile_starts[tile], tile_starts[tile + 1]
            k, reference, upcoming = first, _ZERO, 0
            if k < end:
                reference = records[list_rows[k], INVERSE_DEPTH]
                upcoming = _touched_rows(records, list_rows[k], px, py)
            while k < end and alive != 0:
                i, todo = list_rows[k], upcoming & alive
                k += 1
                if k < end:
                    upcoming = _touched_rows(records, list_rows[k], px, py)
                if todo == 0:
                    continue
                x, y = px - records[i, CENTER_X], py - records[i, CENTER_Y]
                low_x, low_y = px - records[i, LOW_PASS_X], py - records[i, LOW_PASS_Y]
                dx, low_dx = iota() + x, iota() + low_x
                row_u, row_v = dx * records[i, U_X], dx * records[i, V_X]
                row_z = dx * records[i, Z_X] + records[i, INVERSE_DEPTH]
                low_xx = low_dx * low_dx
                while todo != 0:
                    r = cttz(todo)
                    todo &= todo - 1
                    dy, low_dy = y + np.float32(r), low_y + np.float32(r)
                    hz = row_z + records[i, Z_Y] * dy
                    if is_surfhead:
                        met = hz * hz > _MIN_INVERSE_DEPTH * _MIN_INVERSE_DEPTH
                    else:
                        met = (hz > _MIN_INVERSE_DEPTH) & (hz < max_inverse)
                    d = one / vsel(met, hz, one)
                    u = (row_u + records[i, U_Y] * dy) * d
                    v = (row_v + records[i, V_Y] * dy) * d
                    rho, low_rho = u * u + v * v, (low_xx + low_dy * low_dy) * _TWO
                    if is_surfhead:
                        on_plane = rho <= low_rho
                        hz = vsel(on_plane, hz, records[i, INVERSE_DEPTH])
                        d = vsel(on_plane, d, records[i, DEPTH])
                        met = met & ((hz > _ZERO) & (hz < max_inverse))
                    power = records[i, LOG2_OPACITY] - vmin(rho, low_rho) * _HALF_LOG2_E
                    opaque = vmin(vexp2(power), MAX_ALPHA)
                    a = vsel((power >= _MIN_LOG2_ALPHA) & met, opaque, zero)
                    o = r * TILE
                    before = vload(scratch, o)
                    weight = before * a
                    after = before - weight
                    blended = after > MIN_TRANSMITTANCE
                    weight = vsel(blended, weight, zero)
                    vstore(scratch, o, after)
                    vstore(scratch, PLANE + o, vload(scratch, PLANE + o) + weight)
                    at = first_color + o
                    for c in range(channels):
                        value = vload(scratch, at) + weight * colors[i * channels + c]
                        vstore(scratch, at, value)
                        at += PLANE
                    if has_depth:
                        at = at_depth + o
                        vstore(scratch, at, vload(scratch, at) + weight * d)
                    if has_median:
                        at = at_median + o
                        is_median = (weight > _ZERO) & (before > _HALF)
                        vstore(scratch, at, vsel(is_median, d, vload(scratch, at)))
                        at += PLANE
                        position = vsel(is_median, np.float32(k - first), vload(scratch, at))
                        vstore(scratch, at, position)
                    if has_distortion:
                        at = at_moments + o
                        offset = hz - reference
                        moment = weight * offset
                        vstore(scratch, at, vload(scratch, at) + moment)
                        at += PLANE
                        vstore(scratch, at, vload(scratch, at) + moment * offset)
                    if bits(blended) == 0:
                        alive &= ~(1 << r)
            list_ends[tile] = k
            for r in range(rows):
                o, target = r * TILE, (y0 + r) * width + x0
                opaque = vload(scratch, PLANE + o)
                copy_row(scratch, PLANE + o, alpha, target, cols)
                for c in range(num_colors):
                    at = first_color + c * PLANE + o
                    vstore(scratch, at, vload(scratch, at) + (one - opaque) * background[c])
                    copy_row(scratch, at, image, c * size + target, cols)
                if has_normal:
                    for c in range(3):
                        at = first_color + (num_colors + c) * PLANE + o
                        copy_row(scratch, at, normal, c * size + target, cols)
                if has_depth:
                    copy_row(scratch, at_depth + o, depth, target, cols)
                if has_median:
                    copy_row(scratch, at_median + o, median, target, cols)
                    copy_row(scratch, at_median + PLANE + o, aux, 2 * size + target, cols)
                if has_distortion:
                    copy_row(scratch, at_moments + o, aux, target, cols)
                    copy_row(scratch, at_moments + PLANE + o, aux, size + target, cols)
                    z1 = vload(scratch, at_moments + o)
                    spread = opaque * vload(scratch, at_moments + PLANE + o) - z1 * z1
                    vstore(scratch, at_moments + o, vmax(spread, zero) * distortion_scale)
                    copy_row(scratch, at_moments + o, distortion, target, cols)

    return forward


@lru_cache(None)
def backward_kernel(options: RasterOptions) -> Any:
    """Build the backward loop for one set of outputs."""
    channels, has_normal, has_depth, has_median, has_distortion, is_surfhead, detached = options
    num_colors = channels - 3 if has_normal else channels
    has_z = has_depth or has_median or has_distortion
    # Planes of scratch: transmittance, rest of the loss, gradient of alpha, weight, the channels'
    # gradients, then what is asked for.
    at_rest, at_alpha, at_weight, first_color = PLANE, 2 * PLANE, 3 * PLANE, 4 * PLANE
    num_grads = pair_grad_size(channels)
    num_planes = num_grads - GRAD_CHANNELS
    at_depth = (4 + num_planes) * PLANE
    at_median = at_depth + has_depth * PLANE
    at_moments = at_median + 2 * has_median * PLANE
    at_moments_2 = at_moments + PLANE
    at_spread = at_moments_2 + PLANE
    scratch_size = at_moments + 3 * has_distortion * PLANE

    @kernel(_cpu_layout.__file__, _cpu_tiles.__file__)
    def backward(
        job, tile_starts, list_rows, list_slots, records, colors, background, near,
        distortion_scale, width, height, image, alpha, normal, depth, distortion, aux, list_ends,
        grad_image, grad_alpha, grad_normal, grad_depth, grad_median, grad_distortion, pair_grads,
    ):  # fmt: skip
        """Write the gradient of every (tile, surfel) pair to its slot; no pair is left out.

        All arrays of floats but ``records`` are flat.
        """
        num_tiles = list_ends.shape[0]
        tiles_x = (width + TILE - 1) // TILE
        scratch = aligned_floats(scratch_size)
        size = width * height
        zero, one = splat(_ZERO), splat(_ONE)
        max_inverse = np.float32(1) / near
        while True:
            tile = fetch_add(job, 0, 1)
            if tile >= num_tiles:
                break
            y0, x0 = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
            rows, cols = min(TILE, height - y0), min(TILE, width - x0)
            px, py = np.float32(x0) + _HALF, np.float32(y0) + _HALF
            scratch[:] = 0
            inside = vsel(iota() < np.float32(cols), one, zero)
            for r in range(rows):
                o, source = r * TILE, (y0 + r) * width + x0
                vstore(scratch, o, inside)
                opaque = load_row(alpha, source, cols)
                g_alpha = load_row(grad_alpha, source, cols)
                rest = g_alpha * opaque
                for c in range(num_colors):
                    g = load_row(grad_image, c * size + source, cols)
                    vstore(scratch, first_color + c * PLANE + o, g)
                    color = load_row(image, c * size + source, cols)
                    rest += g * (color - background[c])
                    g_alpha -= g * background[c]
                if has_normal:
                    for c in range(3):
                        g = load_row(grad_normal, c * size + source, cols)
                        vstore(scratch, first_color + (num_colors + c) * PLANE + o, g)
                        rest += g * load_row(normal, c * size + source, cols)
                if has_depth:
                    g = load_row(grad_depth, source, cols)
                    vstore(scratch, at_depth + o, g)
                    rest += g * load_row(depth, source, cols)
                if has_median:
                    g = load_row(grad_median, source, cols)
                    vstore(scratch, at_median + o, g)
                    position = load_row(aux, 2 * size + source, cols)
                    vstore(scratch, at_median + PLANE + o, position)
                if has_distortion:
                    g = load_row(grad_distortion, source, cols)
                    if not detached:
                        rest += g * load_row(distortion, source, cols) * _TWO
                    g = g * distortion_scale
                    vstore(scratch, at_moments + o, g * opaque)
                    vstore(scratch, at_moments_2 + o, g * load_row(aux, source, cols))
                    vstore(scratch, at_spread + o, g * load_row(aux, size + source, cols))
                vstore(scratch, at_rest + o, rest)
                vstore(scratch, at_alpha + o, g_alpha)
            alive = (1 << rows) - 1
            first, end, reference, upcoming = tile_starts[tile], list_ends[tile], _ZERO, 0
            if first < end:
                reference = records[list_rows[first], INVERSE_DEPTH]
                upcoming = _touched_rows(records, list_rows[first], px, py)
            for k in range(first, tile_starts[tile + 1]):
                i, slot, todo = list_rows[k], list_slots[k] * num_grads, upcoming & alive
                upcoming = 0
                if k + 1 < end:
                    upcoming = _touched_rows(records, list_rows[k + 1], px, py)
                if todo == 0:
                    for c in range(num_grads):
                        pair_grads[slot + c] = 0
                    continue
                visited = todo
                x, y = px - records[i, CENTER_X], py - records[i, CENTER_Y]
                low_x, low_y = px - records[i, LOW_PASS_X], py - records[i, LOW_PASS_Y]
                dx, low_dx = iota() + x, iota() + low_x
                row_u, row_v = dx * records[i, U_X], dx * records[i, V_X]
                row_z = dx * records[i, Z_X] + records[i, INVERSE_DEPTH]
                low_xx = low_dx * low_dx
                sum_u, sum_uy, sum_v, sum_vy, sum_z, sum_zy = zero, zero, zero, zero, zero, zero
                sum_a, sum_low, sum_low_y, sum_low_depth = zero, zero, zero, zero
                while todo != 0:
                    r = cttz(todo)
                    todo &= todo - 1
                    dy, low_dy = y + np.float32(r), low_y + np.float32(r)
                    hz = row_z + records[i, Z_Y] * dy
                    if is_surfhead:
                        met = hz * hz > _MIN_INVERSE_DEPTH * _MIN_INVERSE_DEPTH
                    else:
                        met = (hz > _MIN_INVERSE_DEPTH) & (hz < max_inverse)
                    inverse = one / vsel(met, hz, one)
                    u = (row_u + records[i, U_Y] * dy) * inverse
                    v = (row_v + records[i, V_Y] * dy) * inverse
                    rho, low_rho = u * u + v * v, (low_xx + low_dy * low_dy) * _TWO
                    on_plane = rho <= low_rho
                    d = inverse
                    if is_surfhead:
                        hz = vsel(on_plane, hz, records[i, INVERSE_DEPTH])
                        d = vsel(on_plane, d, records[i, DEPTH])
                        met = met & ((hz > _ZERO) & (hz < max_inverse))
                    power = records[i, LOG2_OPACITY] - vmin(rho, low_rho) * _HALF_LOG2_E
                    unclamped = vexp2(power)
                    opaque = vmin(unclamped, MAX_ALPHA)
                    a = vsel((power >= _MIN_LOG2_ALPHA) & met, opaque, zero)
                    o = r * TILE
                    before = vload(scratch, o)
                    weight = before * a
                    after = before - weight
                    blended = after > MIN_TRANSMITTANCE
                    weight, a = vsel(blended, weight, zero), vsel(blended, a, zero)
                    vstore(scratch, o, after)
                    vstore(scratch, at_weight + o, weight)

                    # gain: gradient of the weight; slope: of the inverse depth, over weight.
                    gain, slope = vload(scratch, at_alpha + o), zero
                    at = first_color + o
                    for c in range(channels):
                        gain += vload(scratch, at) * colors[i * channels + c]
                        at += PLANE
                    if has_depth:
                        g_depth = vload(scratch, at_depth + o)
                        gain += g_depth * d
                        slope -= g_depth * d * d
                    if has_distortion:
                        offset = hz - reference
                        z0, z1 = vload(scratch, at_moments + o), vload(scratch, at_moments_2 + o)
                        if not detached:
                            gain += vload(scratch, at_spread + o)
                            gain += offset * (z0 * offset - z1 * _TWO)
                        slope += (offset * z0 - z1) * _TWO
                    grad_z = weight * slope
                    if has_median:
                        chosen = vload(scratch, at_median + PLANE + o)
                        position = np.float32(k + 1 - first)
                        is_chosen = (chosen >= position) & (chosen <= position)
                        g_median = vsel(is_chosen, vload(scratch, at_median + o), zero)
                        grad_z -= g_median * d * d
                    gained = weight * gain
                    rest = vload(scratch, at_rest + o) - gained
                    vstore(scratch, at_rest + o, rest)
                    grad = vsel(unclamped < MAX_ALPHA, gained - rest * (a / (one - a)), zero)
                    grad_rho = vsel(on_plane, zero - grad, zero)
                    grad_low = vsel(on_plane, zero, grad)
                    grad_u, grad_v = grad_rho * u * inverse, grad_rho * v * inverse
                    if has_z:
                        if is_surfhead:
                            sum_low_depth += vsel(on_plane, zero, grad_z)
                            grad_z = vsel(on_plane, grad_z, zero)
                        else:
                            sum_low_depth += vsel(on_plane, zero, grad_z * hz)
                    grad_z -= grad_u * u + grad_v * v
                    sum_a += grad
                    sum_u += grad_u
                    sum_uy += grad_u * dy
                    sum_v += grad_v
                    sum_vy += grad_v * dy
                    sum_z += grad_z
                    sum_zy += grad_z * dy
                    sum_low += grad_low
                    sum_low_y += grad_low * low_dy
                    if bits(blended) == 0:
                        alive &= ~(1 << r)
                total = weighted_rows(scratch, visited, at_weight, first_color)
                # In the order of the columns of the pairs' gradients.
                sums = (
                    sum_u, sum_u * dx, sum_uy, sum_v, sum_v * dx, sum_vy, sum_z, sum_z * dx, sum_zy,
                    sum_low * low_dx * _TWO, sum_low_y * _TWO, sum_a, sum_low_depth, *total,
                )  # fmt: skip
                vstore(pair_grads, slot, hsum16(sums))
                for c in range(3, num_planes, 3):
                    total = weighted_rows(scratch, visited, at_weight, first_color + c * PLANE)
                    pair_grads[slot + GRAD_CHANNELS + c] = hsum(total[0])
                    pair_grads[slot + GRAD_CHANNELS + c + 1] = hsum(total[1])
                    pair_grads[slot + GRAD_CHANNELS + c + 2] = hsum(total[2])

    return backward

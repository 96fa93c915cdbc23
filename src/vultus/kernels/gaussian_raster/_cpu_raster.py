"""The tile loops: blending of depth-sorted Gaussians and its backward pass, 16 pixels at a time.

Kernels are built per set of outputs, so that what is not asked for costs nothing. Per Gaussian and
tile, one vector operation over the 16 rows finds the rows that the Gaussian can touch, one Gaussian
ahead, since a mispredicted branch on that mask would have to wait for it; the loop then visits the
set bits. Transmittance keeps falling after a pixel has stopped, and weights are selected by
``after > MIN_TRANSMITTANCE``, which equals the published stop because it never rises.

The backward pass walks front to back again: the part of the loss behind a Gaussian is the total
minus the running prefix.
"""

# ruff: noqa: PLR0915 -- one loop body per direction; splitting it would hide the register use.
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
from vultus.kernels.gaussian_raster import _cpu_layout, _types
from vultus.kernels.gaussian_raster._cpu_layout import (
    CENTER_X,
    CENTER_Y,
    DEPTH,
    GRAD_CHANNELS,
    LOG2_OPACITY,
    POWER_XX,
    POWER_XY,
    POWER_YY,
    SLOPE,
    pair_grad_size,
)
from vultus.kernels.gaussian_raster._types import MIN_ALPHA, MIN_TRANSMITTANCE

__all__ = ["RasterOptions", "backward_kernel", "forward_kernel"]

_MIN_LOG2_ALPHA = np.float32(math.log2(MIN_ALPHA))
_MIN_TRANSMITTANCE = np.float32(MIN_TRANSMITTANCE)
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LAST = np.float32(TILE - 1)
# Planes of scratch in the forward pass: transmittance, alpha, channels, then what is asked for; in
# the backward pass transmittance, rest of the loss, gradient of alpha, weight, and so on.
_FORWARD_COLORS = 2 * PLANE
_AT_REST, _AT_ALPHA, _AT_WEIGHT, _BACKWARD_COLORS = PLANE, 2 * PLANE, 3 * PLANE, 4 * PLANE


class RasterOptions(NamedTuple):
    """What one specialisation of the tile loops computes."""

    channels: int
    """All channels; depth, where asked for, is the last one."""
    has_depth: bool
    has_median: bool
    has_published_gradients: bool
    """Gradients pass where alpha is clamped, as if it were not."""


@helper
def _touched_rows(records, i, px, py):
    """Bit mask of the rows that a Gaussian can reach, in the tile with this first pixel centre."""
    x, y = px - records[i, CENTER_X], py - records[i, CENTER_Y]
    dy = iota() + y
    best_x = vmin(vmax(dy * records[i, SLOPE], x), x + _LAST)
    power = (best_x * records[i, POWER_XX] + dy * records[i, POWER_XY]) * best_x
    return bits(
        power + (dy * dy * records[i, POWER_YY] + records[i, LOG2_OPACITY]) >= _MIN_LOG2_ALPHA
    )


@helper
def _opacity(records, i, dx, dy, row_power, max_alpha):
    """Opacity on a row of pixels: unclamped, clamped, and 0 where it is skipped."""
    power = dx * (records[i, POWER_XY] * dy) + row_power
    power += records[i, POWER_YY] * dy * dy
    unclamped = vexp2(power)
    opaque = vmin(unclamped, max_alpha)
    return unclamped, opaque, vsel(power >= _MIN_LOG2_ALPHA, opaque, _ZERO)


@helper
def _open_tile(scratch, tile, tiles_x, width, height):
    """Clear the planes; place of a tile, number of its rows and columns, its first pixel's centre.

    Transmittance is 1 inside the image and 0 in the lanes beyond it.
    """
    y0, x0 = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
    rows, cols = min(TILE, height - y0), min(TILE, width - x0)
    scratch[:] = 0
    inside = vsel(iota() < np.float32(cols), _ONE, _ZERO)
    for r in range(rows):
        vstore(scratch, r * TILE, inside)
    return (
        (x0, y0, rows, cols, width, width * height),
        np.float32(x0) + _HALF,
        np.float32(y0) + _HALF,
    )


@helper
def _pass_through(scratch, o, opacity):
    """Let the light of a row of pixels through: opacity and weight where blended, light before."""
    before = vload(scratch, o)
    weight = before * opacity
    after = before - weight
    vstore(scratch, o, after)
    blended = after > _MIN_TRANSMITTANCE
    return vsel(blended, opacity, _ZERO), vsel(blended, weight, _ZERO), before, blended


@helper
def _channel_gradients(scratch, o, weight, colors, first, channels):
    """Gradients of the first three channels, and of the weight: those of all channels and alpha."""
    at = _BACKWARD_COLORS + o
    g_0, g_1, g_2 = vload(scratch, at), vload(scratch, at + PLANE), vload(scratch, at + 2 * PLANE)
    gain = vload(scratch, _AT_ALPHA + o) + g_0 * colors[first]
    if channels > 1:
        gain += g_1 * colors[first + 1]
    if channels > 2:
        gain += g_2 * colors[first + 2]
    if channels > 3:
        vstore(scratch, _AT_WEIGHT + o, weight)
        for c in range(3, channels):
            gain += vload(scratch, at + c * PLANE) * colors[first + c]
    return g_0, g_1, g_2, gain


@helper
def _write_images(scratch, place, options, at_median, background, images):
    """Copy a tile's planes to the images, colours with the background behind them."""
    x0, y0, rows, cols, width, size = place
    num_colors, has_depth, has_median = options
    image, alpha, depth, median, positions = images
    for r in range(rows):
        o, target = r * TILE, (y0 + r) * width + x0
        behind = _ONE - vload(scratch, PLANE + o)
        copy_row(scratch, PLANE + o, alpha, target, cols)
        for c in range(num_colors):
            at = _FORWARD_COLORS + c * PLANE + o
            vstore(scratch, at, vload(scratch, at) + behind * background[c])
            copy_row(scratch, at, image, c * size + target, cols)
        if has_depth:
            copy_row(scratch, _FORWARD_COLORS + num_colors * PLANE + o, depth, target, cols)
        if has_median:
            copy_row(scratch, at_median + o, median, target, cols)
            copy_row(scratch, at_median + PLANE + o, positions, target, cols)


@helper
def _read_gradients(scratch, place, options, at_median, background, images, grads):
    """Fill a tile's planes with the images' gradients and with the whole loss."""
    x0, y0, rows, cols, width, size = place
    num_colors, has_depth, has_median = options
    image, alpha, depth, positions = images
    grad_image, grad_alpha, grad_depth, grad_median = grads
    for r in range(rows):
        o, source = r * TILE, (y0 + r) * width + x0
        g_alpha = load_row(grad_alpha, source, cols)
        rest = g_alpha * load_row(alpha, source, cols)
        for c in range(num_colors):
            g = load_row(grad_image, c * size + source, cols)
            vstore(scratch, _BACKWARD_COLORS + c * PLANE + o, g)
            rest += g * (load_row(image, c * size + source, cols) - background[c])
            g_alpha -= g * background[c]
        if has_depth:
            g = load_row(grad_depth, source, cols)
            vstore(scratch, _BACKWARD_COLORS + num_colors * PLANE + o, g)
            rest += g * load_row(depth, source, cols)
        if has_median:
            vstore(scratch, at_median + o, load_row(grad_median, source, cols))
            vstore(scratch, at_median + PLANE + o, load_row(positions, source, cols))
        vstore(scratch, _AT_REST + o, rest)
        vstore(scratch, _AT_ALPHA + o, g_alpha)


@helper
def _write_pair(pair_grads, slot, sums, scratch, visited, num_planes):
    """Write a pair's gradient: ten sums, and those of the channels from the fourth on."""
    next_3, last_3 = (
        (splat(_ZERO), splat(_ZERO), splat(_ZERO)),
        (splat(_ZERO), splat(_ZERO), splat(_ZERO)),
    )
    if num_planes > 3:
        next_3 = weighted_rows(scratch, visited, _AT_WEIGHT, _BACKWARD_COLORS + 3 * PLANE)
    if num_planes > 6:
        last_3 = weighted_rows(scratch, visited, _AT_WEIGHT, _BACKWARD_COLORS + 6 * PLANE)
    vstore(pair_grads, slot, hsum16((*sums, *next_3, *last_3)))
    for c in range(9, num_planes, 3):
        total = weighted_rows(scratch, visited, _AT_WEIGHT, _BACKWARD_COLORS + c * PLANE)
        pair_grads[slot + GRAD_CHANNELS + c] = hsum(total[0])
        pair_grads[slot + GRAD_CHANNELS + c + 1] = hsum(total[1])
        pair_grads[slot + GRAD_CHANNELS + c + 2] = hsum(total[2])


@lru_cache(None)
def forward_kernel(options: RasterOptions) -> Any:
    """Build the forward loop for one set of outputs."""
    channels, has_depth, has_median, _ = options
    num_colors = channels - has_depth
    at_median = _FORWARD_COLORS + channels * PLANE
    at_position = at_median + PLANE
    scratch_size = at_median + 2 * has_median * PLANE

    @kernel(_cpu_layout.__file__, _cpu_tiles.__file__, _types.__file__)
    def forward(
        job, tile_starts, list_rows, records, colors, background, max_alpha,
        width, height, image, alpha, depth, median, positions, list_ends,
    ):  # fmt: skip
        """Blend; colors and images are flat. ``positions``: of the median Gaussian in its list."""
        num_tiles = list_ends.shape[0]
        tiles_x = (width + TILE - 1) // TILE
        scratch = aligned_floats(scratch_size)
        while True:
            tile = fetch_add(job, 0, 1)
            if tile >= num_tiles:
                break
            place, px, py = _open_tile(scratch, tile, tiles_x, width, height)
            if has_median:
                for r in range(TILE):
                    vstore(scratch, at_position + r * TILE, splat(np.float32(-1)))
            alive = (1 << place[2]) - 1
            first, end = tile_starts[tile], tile_starts[tile + 1]
            k, upcoming = first, 0
            if k < end:
                upcoming = _touched_rows(records, list_rows[k], px, py)
            while k < end and alive != 0:
                i, todo = list_rows[k], upcoming & alive
                k += 1
                if k < end:
                    upcoming = _touched_rows(records, list_rows[k], px, py)
                if todo == 0:
                    continue
                x, y = px - records[i, CENTER_X], py - records[i, CENTER_Y]
                dx = iota() + x
                row_power = dx * dx * records[i, POWER_XX] + records[i, LOG2_OPACITY]
                while todo != 0:
                    r = cttz(todo)
                    todo &= todo - 1
                    dy = y + np.float32(r)
                    _, _, a = _opacity(records, i, dx, dy, row_power, max_alpha)
                    o = r * TILE
                    _, weight, before, blended = _pass_through(scratch, o, a)
                    vstore(scratch, PLANE + o, vload(scratch, PLANE + o) + weight)
                    at = _FORWARD_COLORS + o
                    for c in range(channels):
                        value = vload(scratch, at) + weight * colors[i * channels + c]
                        vstore(scratch, at, value)
                        at += PLANE
                    if has_median:
                        is_median = (weight > _ZERO) & (before > _HALF)
                        at = at_median + o
                        value = vsel(is_median, records[i, DEPTH], vload(scratch, at))
                        vstore(scratch, at, value)
                        at = at_position + o
                        value = vsel(is_median, np.float32(k - first), vload(scratch, at))
                        vstore(scratch, at, value)
                    if bits(blended) == 0:
                        alive &= ~(1 << r)
            list_ends[tile] = k
            _write_images(
                scratch, place, (num_colors, has_depth, has_median), at_median, background,
                (image, alpha, depth, median, positions),
            )  # fmt: skip

    return forward


@lru_cache(None)
def backward_kernel(options: RasterOptions) -> Any:
    """Build the backward loop for one set of outputs."""
    channels, has_depth, has_median, has_published_gradients = options
    num_colors = channels - has_depth
    num_grads = pair_grad_size(channels)
    num_planes = 3 * -(-channels // 3)
    at_median = _BACKWARD_COLORS + num_planes * PLANE
    at_position = at_median + PLANE
    scratch_size = at_median + 2 * has_median * PLANE

    @kernel(_cpu_layout.__file__, _cpu_tiles.__file__, _types.__file__)
    def backward(
        job, tile_starts, list_rows, list_slots, records, colors, background, max_alpha,
        width, height, image, alpha, depth, positions, list_ends,
        grad_image, grad_alpha, grad_depth, grad_median, pair_grads,
    ):  # fmt: skip
        """Write the gradient of every (tile, Gaussian) pair to its slot; no pair is left out.

        Colors, images and ``pair_grads`` are flat.
        """
        num_tiles = list_ends.shape[0]
        tiles_x = (width + TILE - 1) // TILE
        scratch = aligned_floats(scratch_size)
        zero, one = splat(_ZERO), splat(_ONE)
        while True:
            tile = fetch_add(job, 0, 1)
            if tile >= num_tiles:
                break
            place, px, py = _open_tile(scratch, tile, tiles_x, width, height)
            _read_gradients(
                scratch, place, (num_colors, has_depth, has_median), at_median, background,
                (image, alpha, depth, positions), (grad_image, grad_alpha, grad_depth, grad_median),
            )  # fmt: skip
            alive = (1 << place[2]) - 1
            first, end = tile_starts[tile], list_ends[tile]
            upcoming = 0
            if first < end:
                upcoming = _touched_rows(records, list_rows[first], px, py)
            for k in range(first, tile_starts[tile + 1]):
                i, slot, todo = list_rows[k], list_slots[k] * num_grads, upcoming & alive
                upcoming = 0
                if k + 1 < end:
                    upcoming = _touched_rows(records, list_rows[k + 1], px, py)
                if todo == 0:
                    for c in range(0, num_grads, TILE):
                        vstore(pair_grads, slot + c, zero)
                    continue
                visited = todo
                x, y = px - records[i, CENTER_X], py - records[i, CENTER_Y]
                dx = iota() + x
                row_power = dx * dx * records[i, POWER_XX] + records[i, LOG2_OPACITY]
                sum_a, sum_y, sum_yy, sum_depth = zero, zero, zero, zero
                sum_0, sum_1, sum_2 = zero, zero, zero
                while todo != 0:
                    r = cttz(todo)
                    todo &= todo - 1
                    dy = y + np.float32(r)
                    unclamped, opaque, a = _opacity(records, i, dx, dy, row_power, max_alpha)
                    o = r * TILE
                    a, weight, _, blended = _pass_through(scratch, o, a)
                    g_0, g_1, g_2, gain = _channel_gradients(
                        scratch, o, weight, colors, i * channels, channels
                    )
                    sum_0 += weight * g_0
                    sum_1 += weight * g_1
                    sum_2 += weight * g_2
                    gained = weight * gain
                    rest = vload(scratch, _AT_REST + o) - gained
                    vstore(scratch, _AT_REST + o, rest)
                    grad = gained - rest * (a / (one - a))
                    if has_published_gradients:
                        grad = grad * (unclamped / opaque)
                    else:
                        grad = vsel(unclamped < max_alpha, grad, zero)
                    if has_median:
                        chosen = vload(scratch, at_position + o)
                        position = np.float32(k + 1 - first)
                        is_chosen = (chosen >= position) & (chosen <= position)
                        sum_depth += vsel(is_chosen, vload(scratch, at_median + o), zero)
                    sum_a += grad
                    sum_y += grad * dy
                    sum_yy += grad * (dy * dy)
                    if bits(blended) == 0:
                        alive &= ~(1 << r)
                sum_x = sum_a * dx
                sums = (
                    sum_a, sum_x, sum_y, sum_x * dx, sum_y * dx, sum_yy, sum_depth,
                    sum_0, sum_1, sum_2,
                )  # fmt: skip
                _write_pair(pair_grads, slot, sums, scratch, visited, num_planes)

    return backward

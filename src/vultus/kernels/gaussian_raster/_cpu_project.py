"""Projection of Gaussians to records, 16 Gaussians at a time."""

from __future__ import annotations

import math

from vultus.core.simd import LANES, aligned_floats, bits, helper, kernel, splat, vmax, vsel, vsqrt
from vultus.kernels import _cpu_algebra, _cpu_tiles
from vultus.kernels._cpu_tiles import TILE, published_rect, tile_floor
from vultus.kernels.gaussian_raster import _cpu_layout, _cpu_planes, _types
from vultus.kernels.gaussian_raster._cpu_layout import (
    CENTER_X,
    CENTER_Y,
    DEPTH,
    LOG2_OPACITY,
    POWER_XX,
    POWER_XY,
    POWER_YY,
    RECORD_SIZE,
    SLOPE,
)
from vultus.kernels.gaussian_raster._cpu_planes import (
    COVARIANCE_PLANE,
    JACOBIAN_PLANE,
    NUM_INPUT_PLANES,
    OPACITY_PLANE,
    POINT_PLANE,
    compensation,
    keep,
    load_inputs,
    plane,
    planes,
    pull_back,
    screen_axes,
    screen_covariance,
)
from vultus.kernels.gaussian_raster._types import MIN_ALPHA, MIN_RADIUS_SPREAD

__all__ = ["project"]

_LOG2_E, _LN_2 = math.log2(math.e), math.log(2.0)
_MIN_LOG2_ALPHA = math.log2(MIN_ALPHA)
_ALL = (1 << LANES) - 1
# Planes of what is computed, after the inputs.
_FIRST_RECORD = NUM_INPUT_PLANES
_XX, _YY, _RADIUS = (_FIRST_RECORD + RECORD_SIZE + j for j in range(3))
_NUM_PLANES = _RADIUS + 1


@helper
def _is_finite(scratch, at, columns):
    total = splat(0.0)
    for c in range(columns):
        total += plane(scratch, at + c) * 0.0
    return bits(total >= 0.0) == _ALL


@helper
def _write(i, lane, scratch, drawn, view, records, colors, depth_channel, rects, radii):
    """Write what the lists and the tile loop need of one Gaussian."""
    rects[i, 0] = rects[i, 1] = rects[i, 2] = rects[i, 3] = 0
    radii[i] = 0
    if (drawn >> lane) & 1 == 0:
        return
    tiles_x, tiles_y = (view.width + TILE - 1) // TILE, (view.height + TILE - 1) // TILE
    u = float(scratch[(_FIRST_RECORD + CENTER_X) * LANES + lane]) - 0.5
    v = float(scratch[(_FIRST_RECORD + CENTER_Y) * LANES + lane]) - 0.5
    radius = math.ceil(scratch[_RADIUS * LANES + lane])
    x0, x1, y0, y1 = published_rect(u, v, radius, tiles_x, tiles_y)
    if x1 > x0 and y1 > y0:
        radii[i] = int(min(radius, 2.0**30))
    elif view.has_published_cull:
        return
    opacity = scratch[OPACITY_PLANE * LANES + lane]
    if opacity < MIN_ALPHA:
        return
    log2_opacity = math.log2(opacity)
    # alpha >= MIN_ALPHA where the quadratic form of the inverse covariance is at most this.
    threshold = 2 * _LN_2 * (log2_opacity - _MIN_LOG2_ALPHA)
    half_x = math.sqrt(threshold * scratch[_XX * LANES + lane])
    half_y = math.sqrt(threshold * scratch[_YY * LANES + lane])
    e0 = tile_floor(math.ceil(u - half_x) / TILE, tiles_x)
    e1 = tile_floor(math.floor((u + half_x) / TILE) + 1.0, tiles_x)
    e2 = tile_floor(math.ceil(v - half_y) / TILE, tiles_y)
    e3 = tile_floor(math.floor((v + half_y) / TILE) + 1.0, tiles_y)
    if view.has_published_cull:
        e0, e1, e2, e3 = max(x0, e0), min(x1, e1), max(y0, e2), min(y1, e3)
    if e1 <= e0 or e3 <= e2:
        return
    rects[i, 0], rects[i, 1], rects[i, 2], rects[i, 3] = e0, e1, e2, e3
    for c in range(_cpu_layout.RECORD_SIZE):
        records[i, c] = scratch[(_FIRST_RECORD + c) * LANES + lane]
    records[i, LOG2_OPACITY] = log2_opacity
    if depth_channel >= 0:
        colors[i, depth_channel] = scratch[(_FIRST_RECORD + DEPTH) * LANES + lane]


@kernel(
    _cpu_layout.__file__, _cpu_algebra.__file__, _cpu_tiles.__file__, _cpu_planes.__file__,
    _types.__file__,
)  # fmt: skip
def project(
    start, stop, view, inputs, records, colors, depth_channel, rects, radii, problems,
):  # fmt: skip
    """Write records, tile rectangles, radii and (from 0 on) the channel that carries depth.

    ``problems[0:4]`` flags means, quats and scales or covariances, opacities, jacobians that are
    not finite.
    """
    scratch = aligned_floats(_NUM_PLANES * LANES)
    has_covariances, has_jacobians = len(inputs.covariances) > 0, len(inputs.jacobians) > 0
    for first in range(start, stop, LANES):
        count = min(LANES, stop - first)
        load_inputs(first, count, view, inputs, scratch)
        problems[0] |= not _is_finite(scratch, POINT_PLANE, 3)
        problems[1] |= not _is_finite(scratch, COVARIANCE_PLANE, 6 if has_covariances else 7)
        problems[2] |= not _is_finite(scratch, OPACITY_PLANE, 1)
        if has_jacobians:
            problems[3] |= not _is_finite(scratch, JACOBIAN_PLANE, 9)
        x, y, z = planes(scratch, POINT_PLANE)
        is_front = z > view.near
        inverse = 1.0 / vsel(is_front, z, 1.0)
        ray_x, ray_y = x * inverse, y * inverse
        axis_x, axis_y, _, _, _, _ = screen_axes(view, ray_x, ray_y, inverse)
        axis_x, axis_y = pull_back(scratch, has_jacobians, axis_x, axis_y)
        xx, xy, yy, area = screen_covariance(scratch, view, has_covariances, axis_x, axis_y)
        dilated_area = area + (xx + yy + view.dilation) * view.dilation
        if view.is_antialiased:
            factor, _ = compensation(area, dilated_area)
            keep(scratch, OPACITY_PLANE, plane(scratch, OPACITY_PLANE) * vsqrt(factor))
        xx, yy = xx + view.dilation, yy + view.dilation
        drawn = bits(is_front & (dilated_area > 0.0))
        per_area = _LOG2_E / dilated_area
        keep(scratch, _FIRST_RECORD + CENTER_X, ray_x * view.fx + view.cx)
        keep(scratch, _FIRST_RECORD + CENTER_Y, ray_y * view.fy + view.cy)
        keep(scratch, _FIRST_RECORD + POWER_XX, yy * per_area * -0.5)
        keep(scratch, _FIRST_RECORD + POWER_XY, xy * per_area)
        keep(scratch, _FIRST_RECORD + POWER_YY, xx * per_area * -0.5)
        keep(scratch, _FIRST_RECORD + SLOPE, xy / yy)
        keep(scratch, _FIRST_RECORD + DEPTH, z)
        half = (xx - yy) * 0.5
        spread = vsqrt(vmax(half * half + xy * xy, MIN_RADIUS_SPREAD))
        keep(scratch, _RADIUS, vsqrt((xx + yy) * 0.5 + spread) * 3.0)
        keep(scratch, _XX, xx)
        keep(scratch, _YY, yy)
        for lane in range(count):
            _write(
                first + lane, lane, scratch, drawn, view, records, colors, depth_channel,
                rects, radii,
            )  # fmt: skip

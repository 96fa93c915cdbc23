"""Projection of Gaussians to records, 16 Gaussians at a time."""

from __future__ import annotations

import math

from vultus.core.simd import (
    LANES,
    aligned_floats,
    bits,
    helper,
    kernel,
    splat,
    vfloor,
    vlog2,
    vmax,
    vmin,
    vsel,
    vsqrt,
)
from vultus.kernels import _cpu_algebra, _cpu_tiles
from vultus.kernels._cpu_tiles import TILE
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
    JACOBIAN_PLANE,
    NUM_INPUT_PLANES,
    OPACITY_PLANE,
    POINT_PLANE,
    QUAT_PLANE,
    compensation,
    keep,
    load_inputs,
    plane,
    planes,
    pull_back,
    scatter,
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
_RECT = _FIRST_RECORD + RECORD_SIZE
_RADIUS = _RECT + 4
_NUM_PLANES = _RADIUS + 1


@helper
def _is_finite(scratch, first, stop):
    total = splat(0.0)
    for at in range(first, stop):
        total += plane(scratch, at) * 0.0
    return bits(total >= 0.0) == _ALL


@helper
def _tiles(low, high, num_tiles):
    """Range of tiles (floats) that pixels between two positions lie in."""
    first = vfloor(low * (1.0 / TILE))
    last = vfloor(high * (1.0 / TILE)) + 1.0
    return vmax(vmin(first, num_tiles), 0.0), vmax(vmin(last, num_tiles), 0.0)


@helper
def _ceil(x):
    return vfloor(x * -1.0) * -1.0


@helper
def _keep_extents(scratch, view, drawn, u, v, xx, xy, yy):
    """Compute the tile rectangles, the radii and the logarithms of the opacities."""
    tiles_x, tiles_y = (view.width + TILE - 1) // TILE, (view.height + TILE - 1) // TILE
    # Pixels from here on have their centres at integers.
    u, v = u - 0.5, v - 0.5
    half = (xx - yy) * 0.5
    spread = vsqrt(vmax(half * half + xy * xy, MIN_RADIUS_SPREAD))
    radius = _ceil(vsqrt((xx + yy) * 0.5 + spread) * 3.0)
    p0, p1 = _tiles(u - radius, u + radius + (TILE - 1.0) - TILE, tiles_x)
    p2, p3 = _tiles(v - radius, v + radius + (TILE - 1.0) - TILE, tiles_y)
    touched = drawn & ((p1 > p0) & (p3 > p2))
    keep(scratch, _RADIUS, vsel(touched, vmin(radius, 2.0**30), 0.0))

    opacity = plane(scratch, OPACITY_PLANE)
    log2_opacity = vlog2(vmax(opacity, MIN_ALPHA))
    # alpha >= MIN_ALPHA where the quadratic form of the inverse covariance is at most this.
    threshold = (log2_opacity - _MIN_LOG2_ALPHA) * (2 * _LN_2)
    half_x, half_y = vsqrt(threshold * xx), vsqrt(threshold * yy)
    x0, x1 = _tiles(_ceil(u - half_x), u + half_x, tiles_x)
    y0, y1 = _tiles(_ceil(v - half_y), v + half_y, tiles_y)
    if view.has_published_cull:
        x0, x1, y0, y1 = vmax(x0, p0), vmin(x1, p1), vmax(y0, p2), vmin(y1, p3)
    listed = drawn & (opacity >= MIN_ALPHA) & ((x1 > x0) & (y1 > y0))
    keep(scratch, _RECT, vsel(listed, x0, 0.0))
    keep(scratch, _RECT + 1, vsel(listed, x1, 0.0))
    keep(scratch, _RECT + 2, vsel(listed, y0, 0.0))
    keep(scratch, _RECT + 3, vsel(listed, y1, 0.0))
    keep(scratch, _FIRST_RECORD + LOG2_OPACITY, log2_opacity)


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
        problems[0] |= not _is_finite(scratch, POINT_PLANE, OPACITY_PLANE)
        problems[1] |= not _is_finite(scratch, QUAT_PLANE, JACOBIAN_PLANE - has_covariances)
        problems[2] |= not _is_finite(scratch, OPACITY_PLANE, QUAT_PLANE)
        if has_jacobians:
            problems[3] |= not _is_finite(scratch, JACOBIAN_PLANE, NUM_INPUT_PLANES)
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
        per_area = _LOG2_E / dilated_area
        u, v = ray_x * view.fx + view.cx, ray_y * view.fy + view.cy
        keep(scratch, _FIRST_RECORD + CENTER_X, u)
        keep(scratch, _FIRST_RECORD + CENTER_Y, v)
        keep(scratch, _FIRST_RECORD + POWER_XX, yy * per_area * -0.5)
        keep(scratch, _FIRST_RECORD + POWER_XY, xy * per_area)
        keep(scratch, _FIRST_RECORD + POWER_YY, xx * per_area * -0.5)
        keep(scratch, _FIRST_RECORD + SLOPE, xy / yy)
        keep(scratch, _FIRST_RECORD + DEPTH, z)
        _keep_extents(scratch, view, is_front & (dilated_area > 0.0), u, v, xx, xy, yy)
        scatter(scratch, _FIRST_RECORD, _RECT, records, first, count)
        for lane in range(count):
            i = first + lane
            for c in range(4):
                rects[i, c] = int(scratch[(_RECT + c) * LANES + lane])
            radii[i] = int(scratch[_RADIUS * LANES + lane])
            if depth_channel >= 0:
                colors[i, depth_channel] = scratch[(_FIRST_RECORD + DEPTH) * LANES + lane]

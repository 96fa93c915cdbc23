"""Projection of Gaussians to records, which also starts their lists per bin."""

# ruff: noqa: PLR0915 -- one derivation, read from top to bottom.
from __future__ import annotations

from vultus.kernels.gaussian_raster._gpu_bins import touches
from vultus.kernels.gaussian_raster._gpu_layout import (
    RECORD,
    RECORD_COLOR,
    RECORD_DEPTH,
    RECORD_POWER,
)
from vultus.kernels.gaussian_raster._gpu_screen import (
    compensation,
    load_gaussian,
    load_jacobian,
    pull_back,
    screen_axes,
    screen_covariance,
)
from vultus.kernels.triton_listing import list_primitives
from vultus.kernels.triton_math import is_finite, store4
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_shade import load_view, shade, single3
from vultus.kernels.triton_tiles import (
    COUNT_PROBLEMS,
    MIN_ALPHA,
    MIN_LOG2_ALPHA,
    SIZES,
    bins_between,
    published_bins,
    report,
)

__all__ = ["project"]

LOG2_E, LN_2 = tl.constexpr(1.4426950408889634), tl.constexpr(0.6931471805599453)
# Smallest squared spread of the eigenvalues in the published radius.
MIN_RADIUS_SPREAD = tl.constexpr(0.1)
# Slack in pixels around exact bounds, for rounding.
SLACK = tl.constexpr(0.02)
# Bits of the problem mask.
BAD_MEANS, BAD_SHAPES, BAD_OPACITIES = tl.constexpr(1), tl.constexpr(2), tl.constexpr(4)
BAD_JACOBIANS, BAD_SH, BAD_CAMERA = tl.constexpr(8), tl.constexpr(16), tl.constexpr(32)


@jit(do_not_specialize=SIZES)
def project(
    world_to_camera, intrinsics, means, quats, scales, covariances, opacities, jacobians,
    sh_coeffs, records, radii, counts, keys, large,
    num, width, height, bins_x, bins_y, capacity,
    near, dilation, center_offset, max_alpha,
    HAS_COVARIANCES: constexpr, HAS_JACOBIANS: constexpr, NORMALIZES: constexpr,
    SH_TERMS: constexpr, SH_STORED: constexpr, IS_ANTIALIASED: constexpr,
    HAS_PUBLISHED_CULL: constexpr, MANY_BINS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Write records and radii, and list every Gaussian in the bins that it touches.

    Gaussians with more than ``MANY_BINS`` bins are left to ``list_large``. ``counts``: the counters
    of `triton_tiles`, then one count per bin.
    """
    frame = tl.program_id(1)
    local = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = local < num
    row = frame * num + local
    rotation, translation, pinhole = load_view(world_to_camera, intrinsics, frame)
    axes = (single3(rotation[0]), single3(rotation[1]), single3(rotation[2]))
    fx, fy = pinhole[0].to(tl.float32), pinhole[1].to(tl.float32)
    cx = pinhole[2].to(tl.float32) + center_offset
    cy = pinhole[3].to(tl.float32) + center_offset
    mean, point, shape = load_gaussian(
        rotation, translation, means, quats, scales, covariances, row, mask, HAS_COVARIANCES,
        NORMALIZES,
    )  # fmt: skip
    opacity = tl.load(opacities + row, mask=mask, other=0.0)

    problems = counts + COUNT_PROBLEMS
    report(problems, BAD_MEANS, mask & ~is_finite(mean[0] + mean[1] + mean[2]))
    numbers = shape[1][0] + shape[1][1] + shape[1][2]
    numbers += shape[2][0] + shape[2][1] + shape[2][2] + shape[2][3] + shape[2][4]
    if HAS_COVARIANCES:
        numbers += shape[3][2][2]
    report(problems, BAD_SHAPES, mask & ~is_finite(numbers))
    report(problems, BAD_OPACITIES, mask & ~is_finite(opacity))
    jacobian = axes
    if HAS_JACOBIANS:
        jacobian = load_jacobian(jacobians, row, mask)
        numbers = jacobian[0][0] + jacobian[0][1] + jacobian[0][2]
        numbers += jacobian[1][0] + jacobian[1][1] + jacobian[1][2]
        numbers += jacobian[2][0] + jacobian[2][1] + jacobian[2][2]
        report(problems, BAD_JACOBIANS, mask & ~is_finite(numbers))
    skew = tl.load(intrinsics + frame * 9 + 1)
    report(problems, BAD_CAMERA, tl.where(mask, skew, 0.0) != 0.0)

    is_front = mask & (point[2] > near)
    x, y, z = single3((point[0], point[1], tl.where(is_front, point[2], 1.0)))
    inverse = 1.0 / z
    ray_x, ray_y = x * inverse, y * inverse
    axis_x, axis_y, _, _, _, _, _, _ = screen_axes(
        axes, fx, fy, ray_x, ray_y, inverse, width, height
    )
    axis_x, axis_y = pull_back(jacobian, axis_x, axis_y, HAS_JACOBIANS)
    xx, xy, yy, area = screen_covariance(shape, axis_x, axis_y, HAS_COVARIANCES)
    dilated_area = area + (xx + yy + dilation) * dilation
    xx, yy = xx + dilation, yy + dilation
    is_seen = is_front & (dilated_area > 0.0)
    dilated_area = tl.where(is_seen, dilated_area, 1.0)
    if IS_ANTIALIASED:
        factor, _ = compensation(area, dilated_area)
        opacity *= tl.sqrt(factor)

    u, v = ray_x * fx + cx, ray_y * fy + cy
    half = (xx - yy) * 0.5
    spread = tl.sqrt(tl.maximum(half * half + xy * xy, MIN_RADIUS_SPREAD))
    radius = tl.ceil(3.0 * tl.sqrt((xx + yy) * 0.5 + spread))
    px0, px1 = published_bins(u, radius, bins_x)
    py0, py1 = published_bins(v, radius, bins_y)
    is_touched = is_seen & (px1 > px0) & (py1 > py0)
    radius = tl.minimum(radius, 1073741824.0).to(tl.int32)
    tl.store(radii + row, tl.where(is_touched, radius, 0), mask=mask)

    # alpha >= MIN_ALPHA where the quadratic form of the inverse covariance is at most this.
    is_seen = is_seen & (opacity >= MIN_ALPHA) & (max_alpha >= MIN_ALPHA)
    log2_opacity = tl.log2(tl.maximum(opacity, MIN_ALPHA))
    threshold = tl.maximum(log2_opacity - MIN_LOG2_ALPHA, 0.0) * (2 * LN_2)
    half_x, half_y = tl.sqrt(threshold * xx) + SLACK, tl.sqrt(threshold * yy) + SLACK
    x0, x1 = bins_between(u - half_x, u + half_x, bins_x)
    y0, y1 = bins_between(v - half_y, v + half_y, bins_y)
    if HAS_PUBLISHED_CULL:
        x0, x1 = tl.maximum(x0, px0), tl.minimum(x1, px1)
        y0, y1 = tl.maximum(y0, py0), tl.minimum(y1, py1)
    bins_wide = tl.where(is_seen, tl.maximum(x1 - x0, 0), 0)
    bins_high = tl.where(is_seen, tl.maximum(y1 - y0, 0), 0)
    num_touched = bins_wide * bins_high
    visible = num_touched > 0

    red, green, blue = opacity * 0.0, opacity * 0.0, opacity * 0.0
    if SH_TERMS > 0:
        red, green, blue = shade(
            rotation, translation, mean, sh_coeffs, row, visible, SH_TERMS, SH_STORED
        )
        report(problems, BAD_SH, visible & ~is_finite(red + green + blue))
    per_area = LOG2_E / dilated_area
    power = (u, v, yy * per_area * -0.5, xy * per_area, xx * per_area * -0.5, log2_opacity)
    record = records + row * RECORD
    corner = (x0 | (y0 << 16)).to(tl.float32, bitcast=True)
    extent = tl.where(visible, bins_wide | (bins_high << 16), 0).to(tl.float32, bitcast=True)
    store4(record + RECORD_POWER, power[0], power[1], power[2], power[3], visible)
    store4(record + RECORD_DEPTH, power[4], log2_opacity, z, corner, visible)
    store4(
        record + RECORD_COLOR, tl.maximum(red, 0.0), tl.maximum(green, 0.0),
        tl.maximum(blue, 0.0), extent, mask,
    )  # fmt: skip

    list_primitives(
        touches, power, (x0, y0, bins_wide, bins_high), z, frame * num + tl.program_id(0) * LANES,
        frame * bins_x * bins_y, bins_x, counts, large, keys, capacity, MANY_BINS, LANES,
    )  # fmt: skip

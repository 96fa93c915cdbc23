"""Projection of surfels to records, which also starts their lists per bin.

Geometry is computed in double precision: surfels seen edge-on, needles and the published integer
radius need it, and the kernel waits for memory anyway.
"""

# ruff: noqa: PLR0915 -- one derivation, read from top to bottom.
from __future__ import annotations

from vultus.kernels.surfel_raster._gpu_bins import touches
from vultus.kernels.surfel_raster._gpu_layout import (
    RECORD,
    RECORD_ALPHA,
    RECORD_COLOR,
    RECORD_ELLIPSE,
    RECORD_EXTENT,
    RECORD_NORMAL,
    RECORD_UV,
    RECORD_VZ,
)
from vultus.kernels.triton_listing import list_primitives
from vultus.kernels.triton_math import (
    add3,
    apply3,
    cross3,
    dot3,
    is_finite,
    load3,
    load4,
    rotation_columns,
    scale3,
    store4,
    unit_quat,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_shade import load_view, shade
from vultus.kernels.triton_tiles import (
    COUNT_PROBLEMS,
    MIN_ALPHA,
    SIZES,
    bins_between,
    published_bins,
    report,
)

__all__ = ["box_of", "inverse_rows", "load_surfel", "project"]

# 3 / sqrt(2), rounded as published: the radius of the low-pass at three standard deviations.
LOW_PASS_RADIUS = tl.constexpr(3 * 0.707106)
# Smallest squared extent in pixels (published).
MIN_EXTENT2 = tl.constexpr(1e-4)
# Slack in pixels around exact bounds, for rounding to float32.
SLACK = tl.constexpr(0.02)
# Variance in pixels^2 added to the outline that bins are tested with: needles stay invertible.
OUTLINE_VARIANCE = tl.constexpr(1e-3)
# Surfels with a smaller cosine between view ray and normal are seen as lines and dropped.
MIN_COSINE = tl.constexpr(1e-9)
# Bits of the problem mask.
BAD_MEANS, BAD_SHAPES, BAD_OPACITIES = tl.constexpr(1), tl.constexpr(2), tl.constexpr(4)
BAD_JACOBIANS, BAD_SH, BAD_CAMERA = tl.constexpr(8), tl.constexpr(16), tl.constexpr(32)


@jit
def load_jacobian(jacobians, row, mask, HAS_JACOBIANS: constexpr, one):
    """Rows of the Jacobian and of its inverse transpose, and the determinant."""
    if HAS_JACOBIANS:
        pointers = jacobians + row * 9
        a, b, c = load3(pointers, mask), load3(pointers + 3, mask), load3(pointers + 6, mask)
        bc = cross3(b, c)
        determinant = dot3(a, bc)
        inverse = 1.0 / tl.where(determinant == 0.0, 1.0, determinant)
        rows = (
            scale3(inverse, bc),
            scale3(inverse, cross3(c, a)),
            scale3(inverse, cross3(a, b)),
        )
        return (a, b, c), rows, determinant
    else:
        zero = one * 0.0
        identity = ((one, zero, zero), (zero, one, zero), (zero, zero, one))
        return identity, identity, one


@jit
def load_surfel(
    rotation, translation, means, quats, scales, jacobians, row, mask, HAS_JACOBIANS: constexpr
):
    """One surfel per lane: its parameters, and its frame in view axes.

    Returns mean, quaternion with inverse norm, rotation columns, scales, Jacobian, its inverse
    transpose and determinant, and in view axes the centre and the unscaled tangents.
    """
    mean = load3(means + row * 3, mask)
    w, x, y, z = load4(quats + row * 4, mask)
    quat = unit_quat(w.to(tl.float64), x.to(tl.float64), y.to(tl.float64), z.to(tl.float64))
    columns = rotation_columns(quat[0], quat[1], quat[2], quat[3])
    scale = (
        tl.load(scales + row * 2, mask=mask, other=0.0).to(tl.float64),
        tl.load(scales + row * 2 + 1, mask=mask, other=0.0).to(tl.float64),
    )
    one = mean[0] * 0.0 + 1.0
    jacobian, inverse_transpose, determinant = load_jacobian(
        jacobians, row, mask, HAS_JACOBIANS, one
    )
    center = add3(apply3(rotation, mean), translation)
    axis_u, axis_v = apply3(jacobian, columns[0]), apply3(jacobian, columns[1])
    return (
        mean, quat, columns, scale, jacobian, inverse_transpose, determinant, center, axis_u, axis_v
    )  # fmt: skip


@jit
def inverse_rows(tu, tv, p):
    """Rows of the inverse of the matrix with these columns, and whether the surfel has an area."""
    row_u, row_v, row_z = cross3(tv, p), cross3(p, tu), cross3(tu, tv)
    determinant = dot3(tu, row_u)
    bound = MIN_COSINE * tl.sqrt(dot3(row_z, row_z) * dot3(p, p))
    has_area = tl.abs(determinant) > bound
    inverse = 1.0 / tl.where(has_area, determinant, 1.0)
    return scale3(inverse, row_u), scale3(inverse, row_v), scale3(inverse, row_z), has_area


@jit
def box_of(tu, tv, p, support):
    """Centre and squared half extents of the projection of u^2 + v^2 <= support, for focal 1.

    Also half of the mixed term. Only where the last value, the centre's denominator, is negative
    does the whole ellipse lie in front of the camera and the box bound it.
    """
    d = support * (tu[2] * tu[2] + tv[2] * tv[2]) - p[2] * p[2]
    inverse = tl.where(d == 0.0, 0.0, 1.0 / tl.where(d == 0.0, 1.0, d))
    x = (support * (tu[0] * tu[2] + tv[0] * tv[2]) - p[0] * p[2]) * inverse
    y = (support * (tu[1] * tu[2] + tv[1] * tv[2]) - p[1] * p[2]) * inverse
    xx = x * x - (support * (tu[0] * tu[0] + tv[0] * tv[0]) - p[0] * p[0]) * inverse
    xy = x * y - (support * (tu[0] * tu[1] + tv[0] * tv[1]) - p[0] * p[1]) * inverse
    yy = y * y - (support * (tu[1] * tu[1] + tv[1] * tv[1]) - p[1] * p[1]) * inverse
    return x, y, xx, xy, yy, d


@jit(do_not_specialize=SIZES)
def project(
    world_to_camera, intrinsics, means, quats, scales, opacities, jacobians,
    sh_coeffs, records, radii, counts, keys, large,
    num, width, height, bins_x, bins_y, capacity, near,
    HAS_JACOBIANS: constexpr, SH_TERMS: constexpr, SH_STORED: constexpr,
    IS_SURFHEAD: constexpr, HAS_PUBLISHED_CULL: constexpr, MANY_BINS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Write records and radii, and list every surfel in the bins that it touches.

    Surfels with more than ``MANY_BINS`` bins are left to ``list_large``. ``counts``: the counters
    of `triton_tiles`, then one count per bin.
    """
    frame = tl.program_id(1)
    local = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = local < num
    row = frame * num + local
    rotation, translation, pinhole = load_view(world_to_camera, intrinsics, frame)
    fx, fy, cx, cy = pinhole
    (
        mean, quat, columns, scale, _, inverse_transpose, determinant, p, axis_u, axis_v,
    ) = load_surfel(
        rotation, translation, means, quats, scales, jacobians, row, mask, HAS_JACOBIANS
    )  # fmt: skip
    opacity = tl.load(opacities + row, mask=mask, other=0.0)

    problems = counts + COUNT_PROBLEMS
    report(problems, BAD_MEANS, mask & ~is_finite(mean[0] + mean[1] + mean[2]))
    shape = quat[0] + quat[1] + quat[2] + quat[3] + scale[0] + scale[1]
    report(problems, BAD_SHAPES, mask & ~is_finite(shape))
    report(problems, BAD_OPACITIES, mask & ~is_finite(opacity))
    if HAS_JACOBIANS:
        report(problems, BAD_JACOBIANS, mask & (~is_finite(determinant) | (determinant == 0.0)))
    skew = tl.load(intrinsics + frame * 9 + 1)
    report(problems, BAD_CAMERA, tl.where(mask, skew, 0.0) != 0.0)

    is_seen = mask & (p[2] > near)
    p = (p[0], p[1], tl.where(is_seen, p[2], 1.0))
    tu = scale3(scale[0], apply3(rotation, axis_u))
    tv = scale3(scale[1], apply3(rotation, axis_v))
    support = 1.0 if IS_SURFHEAD else 9.0
    x, y, xx, xy, yy, d = box_of(tu, tv, p, support)
    is_seen = is_seen & (d != 0.0)
    low_x, low_y = fx * x + cx, fy * y + cy
    largest = tl.sqrt(tl.maximum(tl.maximum(fx * fx * xx, fy * fy * yy), MIN_EXTENT2))
    if IS_SURFHEAD:
        radius = 3.0 * tl.ceil(largest)
    else:
        radius = tl.ceil(tl.maximum(largest, LOW_PASS_RADIUS))
    px0, px1 = published_bins(low_x, radius, bins_x)
    py0, py1 = published_bins(low_y, radius, bins_y)
    is_touched = is_seen & (px1 > px0) & (py1 > py0)
    radius = tl.minimum(radius, 1073741824.0).to(tl.int32)
    tl.store(radii + row, tl.where(is_touched, radius, 0), mask=mask)

    row_u, row_v, row_z, has_area = inverse_rows(tu, tv, p)
    is_seen = is_seen & has_area & (opacity >= MIN_ALPHA)
    if HAS_PUBLISHED_CULL:
        is_seen = is_seen & is_touched
    # alpha >= MIN_ALPHA inside u^2 + v^2 <= threshold; at exactly MIN_ALPHA one point is left.
    safe_opacity = tl.maximum(opacity, MIN_ALPHA)
    threshold = tl.maximum(2.0 * tl.log(safe_opacity / MIN_ALPHA), 1e-6).to(tl.float64)
    x, y, xx, xy, yy, d = box_of(tu, tv, p, threshold)
    is_bounded = d < 0.0
    ox, oy = fx * x + cx, fy * y + cy
    half_x = fx * tl.sqrt(tl.maximum(xx, 0.0)) + SLACK
    half_y = fy * tl.sqrt(tl.maximum(yy, 0.0)) + SLACK
    disc = tl.sqrt(0.5 * threshold) + SLACK
    x0, x1 = bins_between(
        tl.minimum(ox - half_x, low_x - disc), tl.maximum(ox + half_x, low_x + disc), bins_x
    )
    y0, y1 = bins_between(
        tl.minimum(oy - half_y, low_y - disc), tl.maximum(oy + half_y, low_y + disc), bins_y
    )
    x0, x1 = tl.where(is_bounded, x0, 0), tl.where(is_bounded, x1, bins_x)
    y0, y1 = tl.where(is_bounded, y0, 0), tl.where(is_bounded, y1, bins_y)
    if HAS_PUBLISHED_CULL:
        x0, x1 = tl.maximum(x0, px0), tl.minimum(x1, px1)
        y0, y1 = tl.maximum(y0, py0), tl.minimum(y1, py1)
    visible = is_seen & (x1 > x0) & (y1 > y0)
    # Both or neither: the backward pass takes a surfel with an extent for one with a record.
    bins_wide, bins_high = tl.where(visible, x1 - x0, 0), tl.where(visible, y1 - y0, 0)

    # The outline as (q - o)^T M (q - o) <= 1; an unbounded one fits everywhere.
    xx = tl.where(is_bounded, fx * fx * xx + OUTLINE_VARIANCE, 1e30)
    yy = tl.where(is_bounded, fy * fy * yy + OUTLINE_VARIANCE, 1e30)
    xy = tl.where(is_bounded, fx * fy * xy, 0.0)
    inverse = 1.0 / (xx * yy - xy * xy)
    outline = (
        tl.where(is_bounded, ox, 0.0).to(tl.float32),
        tl.where(is_bounded, oy, 0.0).to(tl.float32),
        (yy * inverse).to(tl.float32),
        (-xy * inverse).to(tl.float32),
        (xx * inverse).to(tl.float32),
    )
    low = (low_x.to(tl.float32), low_y.to(tl.float32), (0.5 * threshold + SLACK).to(tl.float32))

    red, green, blue = opacity * 0.0, opacity * 0.0, opacity * 0.0
    if SH_TERMS > 0:
        red, green, blue = shade(
            rotation, translation, mean, sh_coeffs, row, visible, SH_TERMS, SH_STORED
        )
        report(problems, BAD_SH, visible & ~is_finite(red + green + blue))
    normal = apply3(rotation, apply3(inverse_transpose, columns[2]))
    is_away = normal[2] >= 0.0 if IS_SURFHEAD else dot3(p, normal) >= 0.0
    sign = tl.where(is_away, -1.0, 1.0)
    depth = p[2].to(tl.float32)
    record = records + row * RECORD
    store4(
        record + RECORD_UV, (fx * p[0] / p[2] + cx).to(tl.float32),
        (fy * p[1] / p[2] + cy).to(tl.float32), (row_u[0] / fx).to(tl.float32),
        (row_u[1] / fy).to(tl.float32), visible,
    )  # fmt: skip
    store4(
        record + RECORD_VZ, (row_v[0] / fx).to(tl.float32), (row_v[1] / fy).to(tl.float32),
        (row_z[0] / fx).to(tl.float32), (row_z[1] / fy).to(tl.float32), visible,
    )  # fmt: skip
    log2_opacity = tl.log2(safe_opacity)
    store4(
        record + RECORD_ALPHA, (1.0 / p[2]).to(tl.float32), log2_opacity, low[0], low[1], visible
    )
    store4(
        record + RECORD_COLOR, depth, tl.maximum(red, 0.0), tl.maximum(green, 0.0),
        tl.maximum(blue, 0.0), visible,
    )  # fmt: skip
    store4(
        record + RECORD_NORMAL, (sign * normal[0]).to(tl.float32),
        (sign * normal[1]).to(tl.float32), (sign * normal[2]).to(tl.float32),
        sign.to(tl.float32), visible,
    )  # fmt: skip
    store4(record + RECORD_ELLIPSE, outline[0], outline[1], outline[2], outline[3], visible)
    corner = (x0 | (y0 << 16)).to(tl.float32, bitcast=True)
    extent = (bins_wide | (bins_high << 16)).to(tl.float32, bitcast=True)
    store4(record + RECORD_EXTENT, outline[4], low[2], corner, extent, mask)

    list_primitives(
        touches, outline + low, (x0, y0, bins_wide, bins_high), depth,
        frame * num + tl.program_id(0) * LANES, frame * bins_x * bins_y, bins_x, counts, large,
        keys, capacity, MANY_BINS, LANES,
    )  # fmt: skip

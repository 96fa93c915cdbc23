"""Projection of surfels to records, and its backward pass; scalar code in double precision."""

# ruff: noqa: C901, PLR0915 -- the backward pass is one derivation, read from top to bottom.
from __future__ import annotations

import math

import numpy as np

from vultus.core.simd import helper, kernel
from vultus.kernels import _cpu_algebra, _cpu_tiles
from vultus.kernels._cpu_algebra import (
    add,
    apply,
    apply_transposed,
    cross,
    dot,
    double,
    normalization_gradient,
    rotation_columns,
    rotation_gradient,
    row,
    scale,
    unit_quat,
)
from vultus.kernels._cpu_tiles import TILE, published_rect, tile_floor
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
    GRAD_LOG_OPACITY,
    GRAD_LOW_DEPTH,
    GRAD_LOW_PASS,
    GRAD_U,
    GRAD_V,
    GRAD_Z,
    INVERSE_DEPTH,
    LOG2_OPACITY,
    LOW_PASS_RADIUS2,
    LOW_PASS_X,
    LOW_PASS_Y,
    MIN_ALPHA,
    NORMAL_SIGN,
    U_X,
    U_Y,
    V_X,
    V_Y,
    Z_X,
    Z_Y,
)

__all__ = ["project", "project_backward"]

# 3 / sqrt(2), rounded as published: the radius of the low-pass at three standard deviations.
_LOW_PASS_RADIUS = 3 * 0.707106
# Smallest squared extent in pixels (published).
_MIN_EXTENT2 = 1e-4
# Slack in pixels around the exact bounding box, for rounding to float32.
_BOX_SLACK = 0.02
# Surfels with a smaller cosine between view ray and normal are seen as lines and dropped.
_MIN_COSINE = 1e-9


@helper
def _jacobian(jacobians, i):
    """Rows of the Jacobian and of its inverse transpose; the identity where there are none."""
    if len(jacobians) == 0:
        one = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        return one, one, 1.0
    a, b, c = row(jacobians, 3 * i), row(jacobians, 3 * i + 1), row(jacobians, 3 * i + 2)
    bc = cross(b, c)
    determinant = dot(a, bc)
    inverse = 1.0 / determinant if determinant != 0 else math.nan
    rows = (scale(inverse, bc), scale(inverse, cross(c, a)), scale(inverse, cross(a, b)))
    return (a, b, c), rows, determinant


@helper
def _inverse_rows(tu, tv, p):
    """Rows of the inverse of the matrix with these columns, and whether the surfel has an area."""
    row_u, row_v, row_z = cross(tv, p), cross(p, tu), cross(tu, tv)
    determinant = dot(tu, row_u)
    bound = _MIN_COSINE * math.sqrt(dot(row_z, row_z) * dot(p, p))
    if not abs(determinant) > bound:
        return row_u, row_v, row_z, False
    inverse = 1.0 / determinant
    return scale(inverse, row_u), scale(inverse, row_v), scale(inverse, row_z), True


@helper
def _box(tu, tv, p, support):
    """Centre and squared half extents of the projection of u^2 + v^2 <= support, for focal 1.

    Only where the last value, the centre's denominator, is negative does the whole ellipse lie in
    front of the camera and the box bound it.
    """
    d = support * (tu[2] * tu[2] + tv[2] * tv[2]) - p[2] * p[2]
    inverse = 1.0 / d if d != 0 else 0.0
    x = (support * (tu[0] * tu[2] + tv[0] * tv[2]) - p[0] * p[2]) * inverse
    y = (support * (tu[1] * tu[2] + tv[1] * tv[2]) - p[1] * p[2]) * inverse
    xx = x * x - (support * (tu[0] * tu[0] + tv[0] * tv[0]) - p[0] * p[0]) * inverse
    yy = y * y - (support * (tu[1] * tu[1] + tv[1] * tv[1]) - p[1] * p[1]) * inverse
    return x, y, xx, yy, d


@helper
def _exact_rect(view, tu, tv, p, low_x, low_y, threshold, tiles_x, tiles_y):
    """Tiles that hold a pixel where the surfel or its low-pass reaches MIN_ALPHA."""
    x, y, xx, yy, d = _box(tu, tv, p, threshold)
    if d >= 0:
        return 0, tiles_x, 0, tiles_y, False
    x, y = view.fx * x + view.cx, view.fy * y + view.cy
    half_x = view.fx * math.sqrt(max(xx, 0.0)) + _BOX_SLACK
    half_y = view.fy * math.sqrt(max(yy, 0.0)) + _BOX_SLACK
    disc = math.sqrt(0.5 * threshold) + _BOX_SLACK
    x_min, x_max = min(x - half_x, low_x - disc), max(x + half_x, low_x + disc)
    y_min, y_max = min(y - half_y, low_y - disc), max(y + half_y, low_y + disc)
    x0 = tile_floor(math.ceil(x_min - 0.5) / TILE, tiles_x)
    x1 = tile_floor(math.floor((x_max - 0.5) / TILE) + 1.0, tiles_x)
    y0 = tile_floor(math.ceil(y_min - 0.5) / TILE, tiles_y)
    y1 = tile_floor(math.floor((y_max - 0.5) / TILE) + 1.0, tiles_y)
    return x0, x1, y0, y1, True


@helper
def _write_ellipse(record, u, v, h, z, threshold):
    """Store the conic h_u^2 + h_v^2 - threshold h_z^2 <= 0, scaled so that its constant is -1."""
    k = z * z / threshold
    xx = k * (u[0] * u[0] + v[0] * v[0] - threshold * h[0] * h[0])
    record[ELLIPSE_XX] = xx
    record[ELLIPSE_XY] = k * (u[0] * u[1] + v[0] * v[1] - threshold * h[0] * h[1])
    record[ELLIPSE_YY] = k * (u[1] * u[1] + v[1] * v[1] - threshold * h[1] * h[1])
    record[ELLIPSE_X] = -k * threshold * h[0] / z
    record[ELLIPSE_Y] = -k * threshold * h[1] / z
    record[ELLIPSE_SOLVE] = -1.0 / xx


@kernel(_cpu_layout.__file__, _cpu_algebra.__file__, _cpu_tiles.__file__)
def project(
    start, stop, view, means, quats, scales, opacities, jacobians,
    records, colors, first_normal, rects, radii, problems,
):  # fmt: skip
    """Write records, tile rectangles, radii and (from channel ``first_normal``) view normals.

    ``problems[0:4]`` flags means, quats and scales, opacities, jacobians that cannot be used.
    """
    tiles_x, tiles_y = (view.width + TILE - 1) // TILE, (view.height + TILE - 1) // TILE
    for i in range(start, stop):
        rects[i, :] = 0
        radii[i] = 0
        mean = row(means, i)
        qw, qx, qy, qz, _ = unit_quat(quats, i)
        s0, s1, opacity = double(scales[i, 0]), double(scales[i, 1]), double(opacities[i])
        jacobian, inverse_transpose, determinant = _jacobian(jacobians, i)
        problems[0] |= not math.isfinite(mean[0] + mean[1] + mean[2])
        problems[1] |= not math.isfinite(qw + qx + qy + qz + s0 + s1)
        problems[2] |= not math.isfinite(opacity)
        problems[3] |= not (math.isfinite(determinant) and determinant != 0)
        p = add(apply(view.rotation, mean), view.translation)
        if not p[2] > view.near:
            continue
        r0, r1, r2 = rotation_columns(qw, qx, qy, qz)
        tu = scale(s0, apply(view.rotation, apply(jacobian, r0)))
        tv = scale(s1, apply(view.rotation, apply(jacobian, r1)))
        x, y, xx, yy, d = _box(tu, tv, p, view.support)
        if d == 0:
            continue
        low_x, low_y = view.fx * x + view.cx, view.fy * y + view.cy
        half_x = math.sqrt(max(view.fx * view.fx * xx, _MIN_EXTENT2))
        half_y = math.sqrt(max(view.fy * view.fy * yy, _MIN_EXTENT2))
        if view.is_surfhead:
            radius = 3.0 * math.ceil(max(half_x, half_y))
        else:
            radius = 1.0 * math.ceil(max(half_x, half_y, _LOW_PASS_RADIUS))
        x0, x1, y0, y1 = published_rect(low_x - 0.5, low_y - 0.5, radius, tiles_x, tiles_y)
        if x1 > x0 and y1 > y0:
            radii[i] = int(min(radius, 2.0**30))
        elif view.has_published_cull:
            continue
        row_u, row_v, row_z, has_area = _inverse_rows(tu, tv, p)
        if not has_area or opacity < MIN_ALPHA:
            continue
        # alpha >= MIN_ALPHA inside u^2 + v^2 <= threshold; at exactly MIN_ALPHA one point is left.
        threshold = max(2 * math.log(opacity / MIN_ALPHA), 1e-6)
        e = _exact_rect(view, tu, tv, p, low_x, low_y, threshold, tiles_x, tiles_y)
        if view.has_published_cull:
            x0, x1, y0, y1 = max(x0, e[0]), min(x1, e[1]), max(y0, e[2]), min(y1, e[3])
        else:
            x0, x1, y0, y1 = e[0], e[1], e[2], e[3]
        if x1 <= x0 or y1 <= y0:
            continue
        rects[i, 0], rects[i, 1], rects[i, 2], rects[i, 3] = x0, x1, y0, y1
        record = records[i]
        record[CENTER_X] = view.fx * p[0] / p[2] + view.cx
        record[CENTER_Y] = view.fy * p[1] / p[2] + view.cy
        u, v = (row_u[0] / view.fx, row_u[1] / view.fy), (row_v[0] / view.fx, row_v[1] / view.fy)
        h = (row_z[0] / view.fx, row_z[1] / view.fy)
        record[U_X], record[U_Y] = u
        record[V_X], record[V_Y] = v
        record[Z_X], record[Z_Y] = h
        record[INVERSE_DEPTH], record[DEPTH] = 1.0 / p[2], p[2]
        record[LOG2_OPACITY] = math.log2(opacity)
        record[LOW_PASS_X], record[LOW_PASS_Y] = low_x, low_y
        record[LOW_PASS_RADIUS2] = 0.5 * threshold + _BOX_SLACK
        if e[4]:
            _write_ellipse(record, u, v, h, p[2], threshold)
        else:
            record[ELLIPSE_XX : ELLIPSE_SOLVE + 1] = 0
        normal = apply(view.rotation, apply(inverse_transpose, r2))
        is_away = normal[2] >= 0 if view.is_surfhead else dot(p, normal) >= 0
        sign = -1.0 if is_away else 1.0
        record[NORMAL_SIGN] = sign
        if first_normal >= 0:
            for c in range(3):
                colors[i, first_normal + c] = sign * normal[c]


@helper
def _ray_moments(view, moment, moment_x, moment_y, ray_x, ray_y):
    """Sum over pixels of a gradient times the ray (x, y, 1), from its moments in pixels."""
    return moment_x / view.fx + moment * ray_x, moment_y / view.fy + moment * ray_y, moment


@helper
def _box_center_gradient(column, x, y, gx, gy):
    """Gradient of one column of [tu tv p] from that of the box centre over its denominator."""
    z = gx * (column[0] - 2 * x * column[2]) + gy * (column[1] - 2 * y * column[2])
    return gx * column[2], gy * column[2], z


@helper
def _clear(i, arrays):
    for array in arrays:
        if array.shape[0] > 0:
            array[i, :] = 0


@kernel(_cpu_layout.__file__, _cpu_algebra.__file__, _cpu_tiles.__file__)
def project_backward(
    start, stop, view, means, quats, scales, opacities, jacobians,
    records, first_normal, rects, first_pair, end_pair, pair_grads, totals,
    grad_means, grad_quats, grad_scales, grad_opacities, grad_jacobians, grad_screen, grad_view,
):  # fmt: skip
    """Sum each surfel's pairs in a fixed order into ``totals`` and carry them to the inputs.

    ``grad_screen`` is the densification signal. ``grad_jacobians`` [n 9] and ``grad_view`` [n 12]
    (rotation, translation) may have length 0.
    """
    size = totals.shape[1]
    total = np.empty(size, np.float64)
    for i in range(start, stop):
        if rects[i, 1] <= rects[i, 0]:
            _clear(i, (grad_means, grad_quats, grad_scales, grad_screen, grad_jacobians))
            if grad_view.shape[0] > 0:
                grad_view[i, :] = 0
            grad_opacities[i] = 0
            continue
        total[:] = 0
        for k in range(first_pair[i], end_pair[i]):
            for c in range(size):
                total[c] += pair_grads[k, c]
        for c in range(size):
            totals[i, c] = total[c]

        mean = row(means, i)
        qw, qx, qy, qz, inverse_norm = unit_quat(quats, i)
        r0, r1, r2 = rotation_columns(qw, qx, qy, qz)
        s0, s1 = double(scales[i, 0]), double(scales[i, 1])
        jacobian, inverse_transpose, _ = _jacobian(jacobians, i)
        p = add(apply(view.rotation, mean), view.translation)
        axis_u, axis_v = apply(jacobian, r0), apply(jacobian, r1)
        tu = scale(s0, apply(view.rotation, axis_u))
        tv = scale(s1, apply(view.rotation, axis_v))
        row_u, row_v, row_z, _ = _inverse_rows(tu, tv, p)

        # h = I ray with I = [tu tv p]^-1: dI from the moments, then d[tu tv p] = -I^T dI I^T.
        ray_x, ray_y = p[0] / p[2], p[1] / p[2]
        d_u = _ray_moments(view, total[GRAD_U], total[GRAD_U + 1], total[GRAD_U + 2], ray_x, ray_y)
        d_v = _ray_moments(view, total[GRAD_V], total[GRAD_V + 1], total[GRAD_V + 2], ray_x, ray_y)
        d_z = _ray_moments(view, total[GRAD_Z], total[GRAD_Z + 1], total[GRAD_Z + 2], ray_x, ray_y)
        rows, moments = (row_u, row_v, row_z), (d_u, d_v, d_z)
        g_tu = scale(-1.0, apply_transposed(rows, apply(moments, row_u)))
        g_tv = scale(-1.0, apply_transposed(rows, apply(moments, row_v)))
        g_p = scale(-1.0, apply_transposed(rows, apply(moments, row_z)))

        # Published signal: the ray/plane branch alone, scaled to half the image and by depth.
        screen_x, screen_y = g_p[0], g_p[1]
        low_depth = total[GRAD_LOW_DEPTH]
        if view.is_surfhead:
            g_p = (g_p[0], g_p[1], g_p[2] - low_depth / (p[2] * p[2]))
        else:
            screen_x += row_z[0] * low_depth
            screen_y += row_z[1] * low_depth
        grad_screen[i, 0] = screen_x / view.fx * p[2] * 0.5 * view.width
        grad_screen[i, 1] = screen_y / view.fy * p[2] * 0.5 * view.height

        # Centre of the low-pass: centre of the box of u^2 + v^2 = support.
        x, y, _, _, d = _box(tu, tv, p, view.support)
        gx = total[GRAD_LOW_PASS] * view.fx / d
        gy = total[GRAD_LOW_PASS + 1] * view.fy / d
        g_tu = add(g_tu, scale(view.support, _box_center_gradient(tu, x, y, gx, gy)))
        g_tv = add(g_tv, scale(view.support, _box_center_gradient(tv, x, y, gx, gy)))
        g_p = add(g_p, scale(-1.0, _box_center_gradient(p, x, y, gx, gy)))

        # To the world.
        w_tu, w_tv = apply_transposed(view.rotation, g_tu), apply_transposed(view.rotation, g_tv)
        w_p = apply_transposed(view.rotation, g_p)
        sign = double(records[i, NORMAL_SIGN])
        g_n = (0.0, 0.0, 0.0)
        if first_normal >= 0:
            c = GRAD_CHANNELS + first_normal
            g_n = (sign * total[c], sign * total[c + 1], sign * total[c + 2])
        w_n = apply_transposed(view.rotation, g_n)
        g_normal = apply_transposed(inverse_transpose, w_n)
        for c in range(3):
            grad_means[i, c] = w_p[c]
        grad_opacities[i] = total[GRAD_LOG_OPACITY] / opacities[i]
        grad_scales[i, 0] = dot(w_tu, axis_u)
        grad_scales[i, 1] = dot(w_tv, axis_v)
        g0 = scale(s0, apply_transposed(jacobian, w_tu))
        g1 = scale(s1, apply_transposed(jacobian, w_tv))
        g_quat = rotation_gradient(qw, qx, qy, qz, g0, g1, g_normal)
        g_quat = normalization_gradient((qw, qx, qy, qz), inverse_norm, g_quat)
        for c in range(4):
            grad_quats[i, c] = g_quat[c]
        normal = apply(inverse_transpose, r2)
        if grad_jacobians.shape[0] > 0:
            for a in range(3):
                for b in range(3):
                    grad_jacobians[i, 3 * a + b] = (
                        s0 * w_tu[a] * r0[b] + s1 * w_tv[a] * r1[b] - normal[a] * g_normal[b]
                    )
        if grad_view.shape[0] > 0:
            for a in range(3):
                for b in range(3):
                    grad_view[i, 3 * a + b] = (
                        s0 * g_tu[a] * axis_u[b]
                        + s1 * g_tv[a] * axis_v[b]
                        + g_p[a] * mean[b]
                        + g_n[a] * normal[b]
                    )
                grad_view[i, 9 + a] = g_p[a]

"""Backward pass of the projection, 16 Gaussians at a time."""

from __future__ import annotations

from vultus.core.simd import LANES, aligned_floats, helper, kernel, splat, vload, vsel, vstore
from vultus.kernels import _cpu_algebra
from vultus.kernels._cpu_algebra import (
    add,
    apply,
    apply_transposed,
    dot,
    normalization_gradient,
    rotation_columns,
    rotation_gradient,
    scale,
)
from vultus.kernels.gaussian_raster import _cpu_layout, _cpu_planes, _types
from vultus.kernels.gaussian_raster._cpu_layout import GRAD_CHANNELS, GRAD_DEPTH, GRAD_POWER
from vultus.kernels.gaussian_raster._cpu_planes import (
    NUM_INPUT_PLANES,
    OPACITY_PLANE,
    POINT_PLANE,
    SCALE_PLANE,
    along_columns,
    compensation,
    covariance_rows,
    gather,
    jacobian_rows,
    keep,
    load_inputs,
    plane,
    planes,
    pull_back,
    scatter,
    screen_axes,
    screen_covariance,
    times,
    used_quat,
)

__all__ = ["project_backward"]

# Planes after the inputs: gradients of the moments and of depth, whether the Gaussian is seen, the
# mean, and one output after the other.
_MOMENTS = NUM_INPUT_PLANES
_DEPTH_GRAD, _SEEN, _MEAN, _OUTPUT = _MOMENTS + 6, _MOMENTS + 7, _MOMENTS + 8, _MOMENTS + 11
_NUM_PLANES = _OUTPUT + 16


@helper
def _sum_pairs(
    first, count, rects, first_pair, end_pair, pair_grads, totals, size, depth_channel, scratch
):
    """Sum the Gaussians' pairs in a fixed order; say whether one of them is seen."""
    is_any = False
    for lane in range(LANES):
        i = first + lane
        is_seen = lane < count and rects[i, 1] > rects[i, 0]
        scratch[_SEEN * LANES + lane] = 1.0 if is_seen else 0.0
        if not is_seen:
            for c in range(_DEPTH_GRAD - _MOMENTS + 1):
                scratch[(_MOMENTS + c) * LANES + lane] = 0.0
            continue
        is_any = True
        for c in range(0, size, LANES):
            total = splat(0.0)
            for k in range(first_pair[i], end_pair[i]):
                total += vload(pair_grads, k * size + c)
            vstore(totals, i * size + c, total)
        for c in range(6):
            scratch[(_MOMENTS + c) * LANES + lane] = totals[i * size + GRAD_POWER + c]
        depth = totals[i * size + GRAD_DEPTH]
        if depth_channel >= 0:
            depth += totals[i * size + GRAD_CHANNELS + depth_channel]
        scratch[_DEPTH_GRAD * LANES + lane] = depth
    return is_any


@helper
def _clear(first, count, arrays):
    for array in arrays:
        if array.shape[0] > 0:
            for i in range(first, first + count):
                for c in range(array.shape[1]):
                    array[i, c] = 0


@helper
def _outer(a, b, c, d):
    """Rows of a b^T + c d^T."""
    return (
        add(scale(a[0], b), scale(c[0], d)),
        add(scale(a[1], b), scale(c[1], d)),
        add(scale(a[2], b), scale(c[2], d)),
    )


@helper
def _emit(scratch, at, seen, values):
    """Keep three numbers of an output, 0 where the Gaussian is not seen."""
    keep(scratch, at, vsel(seen, values[0], 0.0))
    keep(scratch, at + 1, vsel(seen, values[1], 0.0))
    keep(scratch, at + 2, vsel(seen, values[2], 0.0))


@helper
def _emit_rows(scratch, at, seen, rows):
    _emit(scratch, at, seen, rows[0])
    _emit(scratch, at + 3, seen, rows[1])
    _emit(scratch, at + 6, seen, rows[2])


@helper
def _covariance_gradient(scratch, seen, axis_x, axis_y, g):
    """Entries of the covariance in the world; off the diagonal, both triangles together."""
    half_x = add(scale(g[0], axis_x), scale(g[1], axis_y))
    half_y = add(scale(g[1], axis_x), scale(g[2], axis_y))
    rows = _outer(half_x, axis_x, half_y, axis_y)
    _emit(scratch, _OUTPUT, seen, (rows[0][0], rows[0][1] * 2.0, rows[0][2] * 2.0))
    _emit(scratch, _OUTPUT + 3, seen, (rows[1][1], rows[1][2] * 2.0, rows[2][2]))


@helper
def _shape_gradient(
    scratch, view, seen, axis_x, axis_y, g, has_covariances, grads, first, count
):  # fmt: skip
    """Write the gradients of what gives the shape; return those of the axes.

    ``g``: gradients of xx, of half of xy and of yy on the screen.
    """
    if has_covariances:
        rows = covariance_rows(scratch)
        image_x, image_y = apply(rows, axis_x), apply(rows, axis_y)
        if grads.covariances.shape[0] > 0:
            _covariance_gradient(scratch, seen, axis_x, axis_y, g)
            scatter(scratch, _OUTPUT, _OUTPUT + 6, grads.covariances, first, count)
        g_x = add(scale(g[0] * 2.0, image_x), scale(g[1] * 2.0, image_y))
        return g_x, add(scale(g[1] * 2.0, image_x), scale(g[2] * 2.0, image_y))
    w, x, y, z, inverse_norm = used_quat(scratch, view.normalizes_quats)
    columns, scales = rotation_columns(w, x, y, z), planes(scratch, SCALE_PLANE)
    along_x, along_y = along_columns(columns, axis_x), along_columns(columns, axis_y)
    root_x, root_y = times(along_x, scales), times(along_y, scales)
    g_x = add(scale(g[0] * 2.0, root_x), scale(g[1] * 2.0, root_y))
    g_y = add(scale(g[1] * 2.0, root_x), scale(g[2] * 2.0, root_y))
    _emit(scratch, _OUTPUT, seen, add(times(g_x, along_x), times(g_y, along_y)))
    scatter(scratch, _OUTPUT, _OUTPUT + 3, grads.scales, first, count)
    g_x, g_y = times(g_x, scales), times(g_y, scales)
    # Row c of the outer product is the gradient of column c of the rotation.
    g_columns = _outer(g_x, axis_x, g_y, axis_y)
    g_quat = rotation_gradient(w, x, y, z, g_columns[0], g_columns[1], g_columns[2])
    if view.normalizes_quats:
        g_quat = normalization_gradient((w, x, y, z), inverse_norm, g_quat)
    _emit(scratch, _OUTPUT, seen, (g_quat[0], g_quat[1], g_quat[2]))
    keep(scratch, _OUTPUT + 3, vsel(seen, g_quat[3], 0.0))
    scatter(scratch, _OUTPUT, _OUTPUT + 4, grads.quats, first, count)
    # The columns are the rows of the transposed rotation.
    return apply_transposed(columns, g_x), apply_transposed(columns, g_y)


@helper
def _screen_gradients(scratch, view, seen, xx, xy, yy, area):
    """Gradients of the centre, and of xx, of half of xy and of yy of the covariance."""
    dilated_area = vsel(seen, area + (xx + yy + view.dilation) * view.dilation, 1.0)
    # (a, b, c) is the inverse Q of the covariance: d covariance = -Q dQ Q.
    a, b = (yy + view.dilation) / dilated_area, xy / dilated_area * -1.0
    c = (xx + view.dilation) / dilated_area
    log_opacity, moment_x, moment_y = planes(scratch, _MOMENTS)
    moment_xx, moment_xy, moment_yy = planes(scratch, _MOMENTS + 3)
    g_u, g_v = a * moment_x + b * moment_y, b * moment_x + c * moment_y
    left_x, left_y = a * moment_xx + b * moment_xy, a * moment_xy + b * moment_yy
    right_x, right_y = b * moment_xx + c * moment_xy, b * moment_xy + c * moment_yy
    g_xx = (left_x * a + left_y * b) * 0.5
    g_xy = (left_x * b + left_y * c) * 0.5
    g_yy = (right_x * b + right_y * c) * 0.5
    if view.is_antialiased:
        _, is_free = compensation(area, dilated_area)
        half = vsel(is_free, log_opacity * 0.5, 0.0)
        per_area = 1.0 / vsel(is_free, area, 1.0)
        g_xx += half * (yy * per_area - a)
        g_xy -= half * (xy * per_area + b)
        g_yy += half * (xx * per_area - c)
    return g_u, g_v, (g_xx, g_xy, g_yy)


@helper
def _point_gradient(
    scratch, view, seen, means, ray, inverse, g_pixel, g_axes, grad_means, grad_view, first, count
):
    """Write the gradients of the means and of the view, from those of the pixel and of the axes."""
    ray_x, ray_y = ray
    g_u, g_v = g_pixel
    g_axis_x, g_axis_y = g_axes
    _, _, scale_x, scale_y, clamped_x, clamped_y = screen_axes(view, ray_x, ray_y, inverse)
    # axis_x = scale_x (r0 - clamped_x r2) with scale_x = fx / z and rows r0, r2 of the rotation.
    r = view.rotation
    along_x, back_x = dot(r[0], g_axis_x), dot(r[2], g_axis_x)
    along_y, back_y = dot(r[1], g_axis_y), dot(r[2], g_axis_y)
    free_x = vsel((ray_x > -view.limit_x) & (ray_x < view.limit_x), 1.0, 0.0)
    free_y = vsel((ray_y > -view.limit_y) & (ray_y < view.limit_y), 1.0, 0.0)
    moved_x, moved_y = free_x, free_y
    if view.has_published_gradients:
        moved_x, moved_y = splat(1.0), splat(1.0)
    g_z = scale_x * (ray_x * g_u + inverse * (along_x - (1.0 + moved_x) * clamped_x * back_x))
    g_z += scale_y * (ray_y * g_v + inverse * (along_y - (1.0 + moved_y) * clamped_y * back_y))
    g_point = (
        scale_x * (g_u - free_x * inverse * back_x),
        scale_y * (g_v - free_y * inverse * back_y),
        plane(scratch, _DEPTH_GRAD) - g_z,
    )
    _emit(scratch, _OUTPUT, seen, apply_transposed(r, g_point))
    scatter(scratch, _OUTPUT, _OUTPUT + 3, grad_means, first, count)
    if grad_view.shape[0] > 0:
        gather(means, first, count, scratch, _MEAN, _OUTPUT)
        mean = planes(scratch, _MEAN)
        back = add(
            scale(scale_x * clamped_x * -1.0, g_axis_x),
            scale(scale_y * clamped_y * -1.0, g_axis_y),
        )
        rows = (
            add(scale(g_point[0], mean), scale(scale_x, g_axis_x)),
            add(scale(g_point[1], mean), scale(scale_y, g_axis_y)),
            add(scale(g_point[2], mean), back),
        )
        _emit_rows(scratch, _OUTPUT, seen, rows)
        _emit(scratch, _OUTPUT + 9, seen, g_point)
        focal_x = ray_x * g_u + inverse * (along_x - moved_x * clamped_x * back_x)
        focal_y = ray_y * g_v + inverse * (along_y - moved_y * clamped_y * back_y)
        _emit(scratch, _OUTPUT + 12, seen, (focal_x, focal_y, g_u))
        keep(scratch, _OUTPUT + 15, vsel(seen, g_v, 0.0))
        scatter(scratch, _OUTPUT, _OUTPUT + 16, grad_view, first, count)


@kernel(_cpu_layout.__file__, _cpu_algebra.__file__, _cpu_planes.__file__, _types.__file__)
def project_backward(
    start, stop, view, inputs, depth_channel, rects, first_pair, end_pair, pair_grads, totals, size,
    grads, grad_screen, grad_view,
):  # fmt: skip
    """Sum each Gaussian's pairs into ``totals`` and carry them to the inputs.

    ``pair_grads`` and ``totals`` are flat, with ``size`` columns. ``grad_screen`` is the
    densification signal; ``grad_view`` [n 16] has rotation, translation, focal lengths and
    principal point. ``grad_view`` may have length 0.
    """
    scratch = aligned_floats(_NUM_PLANES * LANES)
    has_covariances, has_jacobians = len(inputs.covariances) > 0, len(inputs.jacobians) > 0
    for first in range(start, stop, LANES):
        count = min(LANES, stop - first)
        is_any = _sum_pairs(
            first, count, rects, first_pair, end_pair, pair_grads, totals, size, depth_channel,
            scratch,
        )  # fmt: skip
        if not is_any:
            _clear(
                first, count,
                (grads.means, grads.quats, grads.scales, grads.covariances, grads.jacobians,
                 grads.opacities, grad_screen, grad_view),
            )  # fmt: skip
            continue
        load_inputs(first, count, view, inputs, scratch)
        seen = plane(scratch, _SEEN) > 0.5
        x, y, z = planes(scratch, POINT_PLANE)
        inverse = 1.0 / vsel(seen, z, 1.0)
        ray_x, ray_y = x * inverse, y * inverse
        axis_x, axis_y, _, _, _, _ = screen_axes(view, ray_x, ray_y, inverse)
        local_x, local_y = pull_back(scratch, has_jacobians, axis_x, axis_y)
        xx, xy, yy, area = screen_covariance(scratch, view, has_covariances, local_x, local_y)
        g_u, g_v, g_covariance = _screen_gradients(scratch, view, seen, xx, xy, yy, area)
        log_opacity = plane(scratch, _MOMENTS)
        keep(scratch, _OUTPUT, vsel(seen, log_opacity / plane(scratch, OPACITY_PLANE), 0.0))
        scatter(scratch, _OUTPUT, _OUTPUT + 1, grads.opacities, first, count)
        keep(scratch, _OUTPUT, vsel(seen, g_u * (0.5 * view.width), 0.0))
        keep(scratch, _OUTPUT + 1, vsel(seen, g_v * (0.5 * view.height), 0.0))
        scatter(scratch, _OUTPUT, _OUTPUT + 2, grad_screen, first, count)

        g_axis_x, g_axis_y = _shape_gradient(
            scratch, view, seen, local_x, local_y, g_covariance, has_covariances, grads, first,
            count,
        )  # fmt: skip
        if has_jacobians:
            if grads.jacobians.shape[0] > 0:
                rows = _outer(axis_x, g_axis_x, axis_y, g_axis_y)
                _emit_rows(scratch, _OUTPUT, seen, rows)
                scatter(scratch, _OUTPUT, _OUTPUT + 9, grads.jacobians, first, count)
            rows = jacobian_rows(scratch)
            g_axis_x, g_axis_y = apply(rows, g_axis_x), apply(rows, g_axis_y)

        _point_gradient(
            scratch, view, seen, inputs.means, (ray_x, ray_y), inverse, (g_u, g_v),
            (g_axis_x, g_axis_y), grads.means, grad_view, first, count,
        )  # fmt: skip

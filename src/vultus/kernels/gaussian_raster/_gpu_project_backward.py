"""Backward pass of the projection: from gradients of records to those of the inputs."""

# ruff: noqa: PLR0915 -- one derivation, read from top to bottom.
from __future__ import annotations

from vultus.kernels.gaussian_raster._gpu_layout import (
    GRADIENT,
    GRADIENT_POWER,
    GRADIENT_REST,
    GRADIENT_SHAPE,
    RECORD,
    RECORD_COLOR,
)
from vultus.kernels.gaussian_raster._gpu_screen import (
    along_columns,
    compensation,
    load_gaussian,
    load_jacobian,
    pull_back,
    screen_axes,
    screen_covariance,
    times3,
)
from vultus.kernels.triton_math import (
    add3,
    apply3,
    apply_transposed3,
    dot3,
    load4,
    quat_gradient,
    rotation_gradient,
    scale3,
    store4,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_shade import load_view, shade_backward, single3
from vultus.kernels.triton_tiles import SIZES

__all__ = ["project_backward"]


@jit
def _keep3(visible, a):
    """A vector, zero where nothing is visible: NaN must not spread from there."""
    return (
        tl.where(visible, a[0], 0.0),
        tl.where(visible, a[1], 0.0),
        tl.where(visible, a[2], 0.0),
    )


@jit
def _store3(pointers, a, mask):
    tl.store(pointers, a[0], mask=mask)
    tl.store(pointers + 1, a[1], mask=mask)
    tl.store(pointers + 2, a[2], mask=mask)


@jit
def _screen_gradients(moments, covariance, area, dilation, visible, IS_ANTIALIASED: constexpr):
    """Gradients of the centre, and of xx, of half of xy and of yy of the covariance.

    ``covariance``: before dilation.
    """
    xx, xy, yy = covariance
    dilated_area = tl.where(visible, area + (xx + yy + dilation) * dilation, 1.0)
    # (a, b, c) is the inverse Q of the covariance: d covariance = -Q dQ Q.
    inverse = 1.0 / dilated_area
    a, b, c = (yy + dilation) * inverse, -xy * inverse, (xx + dilation) * inverse
    log_opacity, moment_x, moment_y, moment_xx, moment_xy, moment_yy = moments
    g_u, g_v = a * moment_x + b * moment_y, b * moment_x + c * moment_y
    left_x, left_y = a * moment_xx + b * moment_xy, a * moment_xy + b * moment_yy
    right_x, right_y = b * moment_xx + c * moment_xy, b * moment_xy + c * moment_yy
    g_xx = (left_x * a + left_y * b) * 0.5
    g_xy = (left_x * b + left_y * c) * 0.5
    g_yy = (right_x * b + right_y * c) * 0.5
    if IS_ANTIALIASED:
        _, is_free = compensation(area, dilated_area)
        half = tl.where(is_free, log_opacity * 0.5, 0.0)
        per_area = 1.0 / tl.where(is_free, area, 1.0)
        g_xx += half * (yy * per_area - a)
        g_xy -= half * (xy * per_area + b)
        g_yy += half * (xx * per_area - c)
    return g_u, g_v, (g_xx, g_xy, g_yy)


@jit
def _shape_gradient(
    shape, axis_x, axis_y, g, visible, row, mask, grad_quats, grad_scales, grad_covariances,
    HAS_COVARIANCES: constexpr, NORMALIZES: constexpr,
):  # fmt: skip
    """Write the gradients of what gives the shape; return those of the axes.

    ``g``: gradients of xx, of half of xy and of yy on the screen.
    """
    columns, scale, quat, covariance = shape
    if HAS_COVARIANCES:
        half_x = add3(scale3(g[0], axis_x), scale3(g[1], axis_y))
        half_y = add3(scale3(g[1], axis_x), scale3(g[2], axis_y))
        x = add3(scale3(half_x[0], axis_x), scale3(half_y[0], axis_y))
        y = add3(scale3(half_x[1], axis_x), scale3(half_y[1], axis_y))
        zz = half_x[2] * axis_x[2] + half_y[2] * axis_y[2]
        # Off the diagonal, an entry stands for both triangles.
        target = grad_covariances + 6 * row
        _store3(target, _keep3(visible, (x[0], 2.0 * x[1], 2.0 * x[2])), mask)
        _store3(target + 3, _keep3(visible, (y[1], 2.0 * y[2], zz)), mask)
        image_x, image_y = apply3(covariance, axis_x), apply3(covariance, axis_y)
        g_x = add3(scale3(g[0] * 2.0, image_x), scale3(g[1] * 2.0, image_y))
        return g_x, add3(scale3(g[1] * 2.0, image_x), scale3(g[2] * 2.0, image_y))
    else:
        along_x, along_y = along_columns(columns, axis_x), along_columns(columns, axis_y)
        root_x, root_y = times3(along_x, scale), times3(along_y, scale)
        g_x = add3(scale3(g[0] * 2.0, root_x), scale3(g[1] * 2.0, root_y))
        g_y = add3(scale3(g[1] * 2.0, root_x), scale3(g[2] * 2.0, root_y))
        g_scale = add3(times3(g_x, along_x), times3(g_y, along_y))
        _store3(grad_scales + 3 * row, _keep3(visible, g_scale), mask)
        g_x, g_y = times3(g_x, scale), times3(g_y, scale)
        g_0 = add3(scale3(g_x[0], axis_x), scale3(g_y[0], axis_y))
        g_1 = add3(scale3(g_x[1], axis_x), scale3(g_y[1], axis_y))
        g_2 = add3(scale3(g_x[2], axis_x), scale3(g_y[2], axis_y))
        w, x, y, z, inverse = quat
        if NORMALIZES:
            g_w, g_i, g_j, g_k = quat_gradient(w, x, y, z, inverse, g_0, g_1, g_2)
        else:
            g_w, g_i, g_j, g_k = rotation_gradient(w, x, y, z, g_0, g_1, g_2)
        store4(
            grad_quats + 4 * row, tl.where(visible, g_w, 0.0), tl.where(visible, g_i, 0.0),
            tl.where(visible, g_j, 0.0), tl.where(visible, g_k, 0.0), mask,
        )  # fmt: skip
        # The columns are the rows of the transposed rotation.
        return apply_transposed3(columns, g_x), apply_transposed3(columns, g_y)


@jit
def _store_view_gradient(grad_view, visible, rows, g_point, turned, translation, g_offset):
    """Sum a program's gradients of the camera's rotation (9) and translation (3)."""
    # View directions move with the camera centre -R^T t as they do, reversed, with the Gaussians.
    for a in tl.static_range(3):
        for b in tl.static_range(3):
            value = rows[a][b] + translation[a] * g_offset[b]
            total = tl.sum(tl.where(visible, value, 0.0).to(tl.float64), 0)
            tl.store(grad_view + 3 * a + b, total)
        total = tl.sum(tl.where(visible, g_point[a] + turned[a], 0.0).to(tl.float64), 0)
        tl.store(grad_view + 9 + a, total)


@jit(do_not_specialize=SIZES)
def project_backward(
    world_to_camera, intrinsics, means, quats, scales, covariances, opacities, jacobians,
    sh_coeffs, records, gradients,
    grad_means, grad_quats, grad_scales, grad_covariances, grad_opacities, grad_jacobians, grad_sh,
    grad_screen, grad_view, num, width, height, dilation,
    HAS_COVARIANCES: constexpr, HAS_JACOBIANS: constexpr, NORMALIZES: constexpr,
    SH_TERMS: constexpr, SH_STORED: constexpr, IS_ANTIALIASED: constexpr,
    HAS_PUBLISHED_GRADIENTS: constexpr, HAS_DEPTH: constexpr, NEEDS_VIEW: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Write the gradients of all inputs; one Gaussian per lane.

    ``grad_screen`` is the densification signal; ``grad_view`` holds 12 sums per program.
    """
    frame = tl.program_id(1)
    local = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = local < num
    row = frame * num + local
    rotation, translation, pinhole = load_view(world_to_camera, intrinsics, frame)
    axes = (single3(rotation[0]), single3(rotation[1]), single3(rotation[2]))
    fx, fy = pinhole[0].to(tl.float32), pinhole[1].to(tl.float32)
    record, gradient = records + row * RECORD, gradients + row.to(tl.int64) * GRADIENT
    red, green, blue, extent = load4(record + RECORD_COLOR, mask)
    visible = mask & (extent.to(tl.int32, bitcast=True) != 0)
    mean, point, shape = load_gaussian(
        rotation, translation, means, quats, scales, covariances, row, mask, HAS_COVARIANCES,
        NORMALIZES,
    )  # fmt: skip
    x, y, z = single3((point[0], point[1], tl.where(visible, point[2], 1.0)))
    inverse = 1.0 / z
    ray_x, ray_y = x * inverse, y * inverse
    axis_x, axis_y, scale_x, scale_y, clamped_x, clamped_y, is_free_x, is_free_y = screen_axes(
        axes, fx, fy, ray_x, ray_y, inverse, width, height
    )
    jacobian = axes
    if HAS_JACOBIANS:
        jacobian = load_jacobian(jacobians, row, mask)
    local_x, local_y = pull_back(jacobian, axis_x, axis_y, HAS_JACOBIANS)
    xx, xy, yy, area = screen_covariance(shape, local_x, local_y, HAS_COVARIANCES)
    log_opacity, moment_x, moment_y, moment_xx = load4(gradient + GRADIENT_POWER, visible)
    moment_xy, moment_yy, grad_red, grad_green = load4(gradient + GRADIENT_SHAPE, visible)
    g_u, g_v, g_covariance = _screen_gradients(
        (log_opacity, moment_x, moment_y, moment_xx, moment_xy, moment_yy), (xx, xy, yy), area,
        dilation, visible, IS_ANTIALIASED,
    )  # fmt: skip
    # Opacity enters as its logarithm, compensated or not.
    opacity = tl.load(opacities + row, mask=visible, other=1.0)
    tl.store(grad_opacities + row, tl.where(visible, log_opacity / opacity, 0.0), mask=mask)
    tl.store(grad_screen + 2 * row, tl.where(visible, g_u * (0.5 * width), 0.0), mask=mask)
    tl.store(grad_screen + 2 * row + 1, tl.where(visible, g_v * (0.5 * height), 0.0), mask=mask)

    g_axis_x, g_axis_y = _shape_gradient(
        shape, local_x, local_y, g_covariance, visible, row, mask, grad_quats, grad_scales,
        grad_covariances, HAS_COVARIANCES, NORMALIZES,
    )  # fmt: skip
    if HAS_JACOBIANS:
        for a in tl.static_range(3):
            along = add3(scale3(axis_x[a], g_axis_x), scale3(axis_y[a], g_axis_y))
            _store3(grad_jacobians + 9 * row + 3 * a, _keep3(visible, along), mask)
        g_axis_x, g_axis_y = apply3(jacobian, g_axis_x), apply3(jacobian, g_axis_y)

    # axis_x = scale_x (r0 - clamped_x r2) with scale_x = fx / z and rows r0, r2 of the rotation.
    along_x, back_x = dot3(axes[0], g_axis_x), dot3(axes[2], g_axis_x)
    along_y, back_y = dot3(axes[1], g_axis_y), dot3(axes[2], g_axis_y)
    free_x, free_y = tl.where(is_free_x, 1.0, 0.0), tl.where(is_free_y, 1.0, 0.0)
    moved_x, moved_y = free_x, free_y
    if HAS_PUBLISHED_GRADIENTS:
        moved_x, moved_y = free_x * 0.0 + 1.0, free_y * 0.0 + 1.0
    g_z = scale_x * (ray_x * g_u + inverse * (along_x - (1.0 + moved_x) * clamped_x * back_x))
    g_z += scale_y * (ray_y * g_v + inverse * (along_y - (1.0 + moved_y) * clamped_y * back_y))
    grad_blue, grad_depth = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
    if SH_TERMS > 0:
        grad_blue = tl.load(gradient + GRADIENT_REST, mask=visible, other=0.0)
    if HAS_DEPTH:
        grad_depth = tl.load(gradient + GRADIENT_REST + 1, mask=visible, other=0.0)
    g_point = (
        scale_x * (g_u - free_x * inverse * back_x),
        scale_y * (g_v - free_y * inverse * back_y),
        grad_depth - g_z,
    )
    g_point = _keep3(visible, g_point)
    g_offset = (grad_blue * 0.0, grad_blue * 0.0, grad_blue * 0.0)
    if SH_TERMS > 0:
        g_offset = shade_backward(
            rotation, translation, mean, sh_coeffs, grad_sh, row, mask, visible,
            (red, green, blue), (grad_red, grad_green, grad_blue), SH_TERMS, SH_STORED,
        )  # fmt: skip
    _store3(grad_means + 3 * row, add3(apply_transposed3(axes, g_point), g_offset), mask)
    if NEEDS_VIEW:
        back = add3(scale3(-scale_x * clamped_x, g_axis_x), scale3(-scale_y * clamped_y, g_axis_y))
        rows = (
            add3(scale3(g_point[0], mean), scale3(scale_x, g_axis_x)),
            add3(scale3(g_point[1], mean), scale3(scale_y, g_axis_y)),
            add3(scale3(g_point[2], mean), back),
        )
        _store_view_gradient(
            grad_view + 12 * (frame * tl.num_programs(0) + tl.program_id(0)), visible, rows,
            g_point, apply3(axes, g_offset), translation, g_offset,
        )  # fmt: skip

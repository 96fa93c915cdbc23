"""Backward pass of the projection: from gradients of records to those of the inputs."""

# ruff: noqa: PLR0915 -- one derivation; Triton unpacks no tuples.
from __future__ import annotations

from vultus.kernels.surfel_raster._gpu_layout import (
    GRADIENT,
    GRADIENT_COLOR,
    GRADIENT_NORMAL,
    GRADIENT_U,
    GRADIENT_V,
    GRADIENT_Z,
    RECORD,
    RECORD_COLOR,
    RECORD_EXTENT,
    RECORD_NORMAL,
)
from vultus.kernels.surfel_raster._gpu_project import (
    box_of,
    inverse_rows,
    load_surfel,
)
from vultus.kernels.triton_math import (
    add3,
    apply3,
    apply_transposed3,
    dot3,
    load4,
    quat_gradient,
    scale3,
    store4,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_shade import load_view, shade_backward
from vultus.kernels.triton_tiles import SIZES

__all__ = ["project_backward"]


@jit
def _load_gradient(gradients, mask):
    """Four neighbours in double precision."""
    a, b, c, d = load4(gradients, mask)
    return a.to(tl.float64), b.to(tl.float64), c.to(tl.float64), d.to(tl.float64)


@jit
def _ray_moments(moment, moment_x, moment_y, fx, fy, ray_x, ray_y):
    """Sum over pixels of a gradient times the ray (x, y, 1), from its moments in pixels."""
    return (moment_x / fx + moment * ray_x, moment_y / fy + moment * ray_y, moment)


@jit
def _box_center_gradient(column, x, y, gx, gy):
    """Gradient of one column of [tu tv p] from that of the box centre over its denominator."""
    z = gx * (column[0] - 2.0 * x * column[2]) + gy * (column[1] - 2.0 * y * column[2])
    return (gx * column[2], gy * column[2], z)


@jit
def _store3(pointers, a, mask):
    tl.store(pointers, a[0].to(tl.float32), mask=mask)
    tl.store(pointers + 1, a[1].to(tl.float32), mask=mask)
    tl.store(pointers + 2, a[2].to(tl.float32), mask=mask)


@jit
def _store_view_gradient(
    grad_view, visible, rotation, translation, mean, normal, scale, axis_u, axis_v,
    g_tu, g_tv, g_p, g_n, g_offset,
):  # fmt: skip
    """Sum a program's gradients of the camera's rotation (9) and translation (3)."""
    # View directions move with the camera centre -R^T t as they do, reversed, with the surfels.
    turned = apply3(rotation, g_offset)
    for a in tl.static_range(3):
        for b in tl.static_range(3):
            value = scale[0] * g_tu[a] * axis_u[b] + scale[1] * g_tv[a] * axis_v[b]
            value += g_p[a] * mean[b] + g_n[a] * normal[b] + translation[a] * g_offset[b]
            total = tl.sum(tl.where(visible, value, 0.0), 0)
            tl.store(grad_view + 3 * a + b, total)
        total = tl.sum(tl.where(visible, g_p[a] + turned[a], 0.0), 0)
        tl.store(grad_view + 9 + a, total)


@jit(do_not_specialize=SIZES)
def project_backward(
    world_to_camera, intrinsics, means, quats, scales, opacities, jacobians,
    sh_coeffs, records, gradients,
    grad_means, grad_quats, grad_scales, grad_opacities, grad_jacobians, grad_sh, grad_screen,
    grad_view, num, width, height,
    HAS_JACOBIANS: constexpr, SH_TERMS: constexpr, SH_STORED: constexpr, IS_SURFHEAD: constexpr,
    HAS_NORMAL: constexpr, NEEDS_JACOBIANS: constexpr, NEEDS_VIEW: constexpr, LANES: constexpr,
):  # fmt: skip
    """Write the gradients of all inputs; one surfel per lane.

    ``grad_screen`` is the densification signal; ``grad_view`` holds 12 sums per program.
    """
    frame = tl.program_id(1)
    local = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = local < num
    row = frame * num + local
    rotation, translation, pinhole = load_view(world_to_camera, intrinsics, frame)
    fx, fy, _, _ = pinhole
    (
        mean, quat, columns, scale, jacobian, inverse_transpose, _, p, axis_u, axis_v,
    ) = load_surfel(
        rotation, translation, means, quats, scales, jacobians, row, mask, HAS_JACOBIANS
    )  # fmt: skip
    record, gradient = records + row * RECORD, gradients + row.to(tl.int64) * GRADIENT
    extent = tl.load(record + RECORD_EXTENT + 3, mask=mask, other=0.0).to(tl.int32, bitcast=True)
    visible = mask & (extent != 0)
    p = (p[0], p[1], tl.where(visible, p[2], 1.0))
    tu = scale3(scale[0], apply3(rotation, axis_u))
    tv = scale3(scale[1], apply3(rotation, axis_v))
    row_u, row_v, row_z, _ = inverse_rows(tu, tv, p)
    moments_u = _load_gradient(gradient + GRADIENT_U, visible)
    moments_v = _load_gradient(gradient + GRADIENT_V, visible)
    moments_z = _load_gradient(gradient + GRADIENT_Z, visible)
    low_depth, grad_log_opacity, grad_low_x = moments_u[3], moments_v[3], moments_z[3]
    grad_low_y = tl.load(gradient + GRADIENT_COLOR, mask=visible, other=0.0).to(tl.float64)

    # h = I ray with I = [tu tv p]^-1: dI from the moments, then d[tu tv p] = -I^T dI I^T.
    ray_x, ray_y = p[0] / p[2], p[1] / p[2]
    rows = (row_u, row_v, row_z)
    moments = (
        _ray_moments(moments_u[0], moments_u[1], moments_u[2], fx, fy, ray_x, ray_y),
        _ray_moments(moments_v[0], moments_v[1], moments_v[2], fx, fy, ray_x, ray_y),
        _ray_moments(moments_z[0], moments_z[1], moments_z[2], fx, fy, ray_x, ray_y),
    )
    g_tu = scale3(-1.0, apply_transposed3(rows, apply3(moments, row_u)))
    g_tv = scale3(-1.0, apply_transposed3(rows, apply3(moments, row_v)))
    g_p = scale3(-1.0, apply_transposed3(rows, apply3(moments, row_z)))

    # Published signal: the ray/plane branch alone, scaled to half the image and by depth.
    screen_x, screen_y = g_p[0], g_p[1]
    if IS_SURFHEAD:
        g_p = (g_p[0], g_p[1], g_p[2] - low_depth / (p[2] * p[2]))
    else:
        screen_x += row_z[0] * low_depth
        screen_y += row_z[1] * low_depth
    screen_x = screen_x / fx * p[2] * 0.5 * width
    screen_y = screen_y / fy * p[2] * 0.5 * height
    tl.store(grad_screen + 2 * row, tl.where(visible, screen_x, 0.0).to(tl.float32), mask=mask)
    tl.store(grad_screen + 2 * row + 1, tl.where(visible, screen_y, 0.0).to(tl.float32), mask=mask)

    # Centre of the low-pass: centre of the box of u^2 + v^2 = support.
    support = 1.0 if IS_SURFHEAD else 9.0
    x, y, _, _, _, d = box_of(tu, tv, p, support)
    d = tl.where(visible, d, 1.0)
    gx, gy = grad_low_x * fx / d, grad_low_y * fy / d
    g_tu = add3(g_tu, scale3(support, _box_center_gradient(tu, x, y, gx, gy)))
    g_tv = add3(g_tv, scale3(support, _box_center_gradient(tv, x, y, gx, gy)))
    g_p = add3(g_p, scale3(-1.0, _box_center_gradient(p, x, y, gx, gy)))

    # To the world; what is not visible must not spread what it has instead of numbers.
    zero = fx * 0.0
    g_tu = (
        tl.where(visible, g_tu[0], zero),
        tl.where(visible, g_tu[1], zero),
        tl.where(visible, g_tu[2], zero),
    )
    g_tv = (
        tl.where(visible, g_tv[0], zero),
        tl.where(visible, g_tv[1], zero),
        tl.where(visible, g_tv[2], zero),
    )
    g_p = (
        tl.where(visible, g_p[0], zero),
        tl.where(visible, g_p[1], zero),
        tl.where(visible, g_p[2], zero),
    )
    w_tu, w_tv = apply_transposed3(rotation, g_tu), apply_transposed3(rotation, g_tv)
    w_p = apply_transposed3(rotation, g_p)
    g_n = (g_p[0] * 0.0, g_p[0] * 0.0, g_p[0] * 0.0)
    if HAS_NORMAL:
        n_x, n_y, n_z, _ = _load_gradient(gradient + GRADIENT_NORMAL, visible)
        sign = tl.load(record + RECORD_NORMAL + 3, mask=visible, other=0.0).to(tl.float64)
        g_n = (sign * n_x, sign * n_y, sign * n_z)
    g_normal = apply_transposed3(inverse_transpose, apply_transposed3(rotation, g_n))
    g_offset = (g_p[0] * 0.0, g_p[0] * 0.0, g_p[0] * 0.0)
    if SH_TERMS > 0:
        _, red, green, blue = load4(record + RECORD_COLOR, visible)
        _, grad_red, grad_green, grad_blue = load4(gradient + GRADIENT_COLOR, visible)
        g_offset = shade_backward(
            rotation, translation, mean, sh_coeffs, grad_sh, row, mask, visible,
            (red, green, blue), (grad_red, grad_green, grad_blue), SH_TERMS, SH_STORED,
        )  # fmt: skip
    _store3(grad_means + 3 * row, add3(w_p, g_offset), mask)
    opacity = tl.load(opacities + row, mask=visible, other=1.0)
    tl.store(grad_opacities + row, (grad_log_opacity / opacity).to(tl.float32), mask=mask)
    tl.store(grad_scales + 2 * row, dot3(w_tu, axis_u).to(tl.float32), mask=mask)
    tl.store(grad_scales + 2 * row + 1, dot3(w_tv, axis_v).to(tl.float32), mask=mask)
    g_0 = scale3(scale[0], apply_transposed3(jacobian, w_tu))
    g_1 = scale3(scale[1], apply_transposed3(jacobian, w_tv))
    g_w, g_x, g_y, g_z = quat_gradient(
        quat[0], quat[1], quat[2], quat[3], quat[4], g_0, g_1, g_normal
    )
    store4(
        grad_quats + 4 * row, g_w.to(tl.float32), g_x.to(tl.float32), g_y.to(tl.float32),
        g_z.to(tl.float32), mask,
    )  # fmt: skip
    normal = apply3(inverse_transpose, columns[2])
    if NEEDS_JACOBIANS:
        for a in tl.static_range(3):
            along = add3(
                scale3(scale[0] * w_tu[a], columns[0]), scale3(scale[1] * w_tv[a], columns[1])
            )
            _store3(
                grad_jacobians + 9 * row + 3 * a, add3(along, scale3(-normal[a], g_normal)), mask
            )
    if NEEDS_VIEW:
        _store_view_gradient(
            grad_view + 12 * (frame * tl.num_programs(0) + tl.program_id(0)), visible,
            rotation, translation, mean, normal, scale, axis_u, axis_v,
            g_tu, g_tv, g_p, g_n, g_offset,
        )  # fmt: skip

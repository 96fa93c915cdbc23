"""Gaussians on the screen, one per lane: what the projection and its backward pass both compute.

Only points in camera axes are computed in double precision, since the camera may be far from the
origin. Single precision is enough for the rest because the determinant of a covariance on the
screen is the squared area that two rows of its root span.
"""

from __future__ import annotations

from vultus.kernels.triton_math import (
    add3,
    apply3,
    apply_transposed3,
    cross3,
    dot3,
    load3,
    load4,
    rotation_columns,
    scale3,
    unit_quat,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_shade import single3

__all__ = ["along_columns", "compensation", "load_gaussian", "screen_axes", "screen_covariance"]

FOV_CLAMP = tl.constexpr(1.3)
MIN_COMPENSATION = tl.constexpr(2.5e-5)
# Areas in square pixels from which on dilation changes nothing; beyond, ratios overflow.
HUGE = tl.constexpr(1e30)


@jit
def times3(a, b):
    """Product of components."""
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


@jit
def along_columns(columns, axis):
    """Components of an axis along the columns of a rotation."""
    return (dot3(columns[0], axis), dot3(columns[1], axis), dot3(columns[2], axis))


@jit
def _load_shape(
    quats, scales, covariances, row, mask, HAS_COVARIANCES: constexpr, NORMALIZES: constexpr
):
    """Columns of the rotation, scales, quaternion and its inverse norm, rows of the covariance.

    Covariances come as xx, xy, xz, yy, yz, zz. What is not given is taken from what is.
    """
    if HAS_COVARIANCES:
        x = single3(load3(covariances + 6 * row, mask))
        y = single3(load3(covariances + 6 * row + 3, mask))
        rows = (x, (x[1], y[0], y[1]), (x[2], y[1], y[2]))
        return rows, x, (x[0], x[1], x[2], y[0], y[1]), rows
    else:
        w, x, y, z = load4(quats + 4 * row, mask)
        inverse = w * 0.0 + 1.0
        if NORMALIZES:
            w, x, y, z, inverse = unit_quat(w, x, y, z)
        columns = rotation_columns(w, x, y, z)
        scale = single3(load3(scales + 3 * row, mask))
        return columns, scale, (w, x, y, z, inverse), columns


@jit
def load_gaussian(
    rotation, translation, means, quats, scales, covariances, row, mask,
    HAS_COVARIANCES: constexpr, NORMALIZES: constexpr,
):  # fmt: skip
    """One Gaussian per lane: mean, point in camera axes (both double), and what gives its shape."""
    mean = load3(means + row * 3, mask)
    point = add3(apply3(rotation, mean), translation)
    shape = _load_shape(quats, scales, covariances, row, mask, HAS_COVARIANCES, NORMALIZES)
    return mean, point, shape


@jit
def screen_axes(rotation, fx, fy, ray_x, ray_y, inverse, width, height):
    """Derivatives of the pixel by the point in the world (EWA splatting, eq. 29).

    Also the scales pixels per unit, the clamped rays, and whether rays are not clamped.
    """
    limit_x, limit_y = FOV_CLAMP * 0.5 * width / fx, FOV_CLAMP * 0.5 * height / fy
    clamped_x = tl.minimum(tl.maximum(ray_x, -limit_x), limit_x)
    clamped_y = tl.minimum(tl.maximum(ray_y, -limit_y), limit_y)
    scale_x, scale_y = inverse * fx, inverse * fy
    axis_x = add3(scale3(scale_x, rotation[0]), scale3(-scale_x * clamped_x, rotation[2]))
    axis_y = add3(scale3(scale_y, rotation[1]), scale3(-scale_y * clamped_y, rotation[2]))
    is_free_x = (ray_x > -limit_x) & (ray_x < limit_x)
    is_free_y = (ray_y > -limit_y) & (ray_y < limit_y)
    return axis_x, axis_y, scale_x, scale_y, clamped_x, clamped_y, is_free_x, is_free_y


@jit
def load_jacobian(jacobians, row, mask):
    """Rows of the deformation gradient."""
    pointers = jacobians + 9 * row
    return (
        single3(load3(pointers, mask)),
        single3(load3(pointers + 3, mask)),
        single3(load3(pointers + 6, mask)),
    )


@jit
def pull_back(jacobian, axis_x, axis_y, HAS_JACOBIANS: constexpr):
    """Derivatives of the pixel by the point before its deformation."""
    if HAS_JACOBIANS:
        return apply_transposed3(jacobian, axis_x), apply_transposed3(jacobian, axis_y)
    else:
        return axis_x, axis_y


@jit
def screen_covariance(shape, axis_x, axis_y, HAS_COVARIANCES: constexpr):
    """Entries xx, xy, yy before dilation, and the determinant."""
    columns, scale, _, covariance = shape
    if HAS_COVARIANCES:
        image_x, image_y = apply3(covariance, axis_x), apply3(covariance, axis_y)
        xx, xy, yy = dot3(axis_x, image_x), dot3(axis_x, image_y), dot3(axis_y, image_y)
        return xx, xy, yy, tl.maximum(xx * yy - xy * xy, 0.0)
    else:
        root_x = times3(along_columns(columns, axis_x), scale)
        root_y = times3(along_columns(columns, axis_y), scale)
        normal = cross3(root_x, root_y)
        area = dot3(normal, normal)
        return dot3(root_x, root_x), dot3(root_x, root_y), dot3(root_y, root_y), area


@jit
def compensation(area, dilated_area):
    """Squared factor of the opacity (Mip-Splatting, eq. 9), and where it is not clamped."""
    ratio = tl.where(dilated_area < HUGE, area / dilated_area, 1.0)
    return tl.maximum(ratio, MIN_COMPENSATION), ratio > MIN_COMPENSATION

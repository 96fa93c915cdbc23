"""Gaussians on the screen, 16 at a time: what the projection and its backward pass both compute.

Planes of scratch hold one number of 16 Gaussians each. Only points in camera axes are computed in
double precision, since the camera may be far from the origin. Single precision is enough for the
rest because the determinant of a covariance on the screen is the squared area that two rows of its
root span, which does not cancel, however thin the Gaussian is.
"""

from __future__ import annotations

import numpy as np

from vultus.core.simd import (
    LANES,
    helper,
    splat,
    vload,
    vmax,
    vmin,
    vsel,
    vsqrt,
    vstore,
)
from vultus.kernels._cpu_algebra import (
    add,
    apply,
    apply_transposed,
    cross,
    dot,
    rotation_columns,
    row,
    scale,
)
from vultus.kernels.gaussian_raster._types import MIN_COMPENSATION

__all__: list[str] = []

# Planes of the inputs; a shape is either quaternion and scales or a covariance. NumPy integers,
# because Numba compiles helpers anew for every literal.
POINT_PLANE, OPACITY_PLANE, QUAT_PLANE, SCALE_PLANE = np.array([0, 3, 4, 8])
COVARIANCE_PLANE, JACOBIAN_PLANE, NUM_INPUT_PLANES = np.array([4, 11, 20])

# Areas above overflow in products; such Gaussians fill the screen.
_HUGE = 1e37


@helper
def plane(scratch, at):
    return vload(scratch, at * LANES)


@helper
def planes(scratch, at):
    return plane(scratch, at), plane(scratch, at + 1), plane(scratch, at + 2)


@helper
def keep(scratch, at, value):
    vstore(scratch, at * LANES, value)


@helper
def gather(array, first, count, scratch, at, stop):
    """Spread rows over the planes from ``at``; lanes beyond ``count`` repeat the last row."""
    for lane in range(LANES):
        i = first + min(lane, count - 1)
        for c in range(stop - at):
            scratch[(at + c) * LANES + lane] = array[i, c]


@helper
def scatter(scratch, at, stop, array, first, count):
    """Collect the planes from ``at`` into rows."""
    for lane in range(count):
        for c in range(stop - at):
            array[first + lane, c] = scratch[(at + c) * LANES + lane]


@helper
def load_inputs(first, count, view, inputs, scratch):
    """Fill the planes of the inputs."""
    for lane in range(LANES):
        mean = row(inputs.means, first + min(lane, count - 1))
        point = add(apply(view.rotation, mean), view.translation)
        for c in range(3):
            scratch[(POINT_PLANE + c) * LANES + lane] = point[c]
    gather(inputs.opacities, first, count, scratch, OPACITY_PLANE, QUAT_PLANE)
    if len(inputs.covariances) > 0:
        gather(inputs.covariances, first, count, scratch, COVARIANCE_PLANE, COVARIANCE_PLANE + 6)
    else:
        gather(inputs.quats, first, count, scratch, QUAT_PLANE, SCALE_PLANE)
        gather(inputs.scales, first, count, scratch, SCALE_PLANE, JACOBIAN_PLANE)
    if len(inputs.jacobians) > 0:
        gather(inputs.jacobians, first, count, scratch, JACOBIAN_PLANE, NUM_INPUT_PLANES)


@helper
def screen_axes(view, ray_x, ray_y, inverse):
    """Derivatives of the pixel by the point in the world (EWA splatting, eq. 29).

    Also the scales pixels per unit, and the clamped rays.
    """
    clamped_x = vmin(vmax(ray_x, -view.limit_x), view.limit_x)
    clamped_y = vmin(vmax(ray_y, -view.limit_y), view.limit_y)
    scale_x, scale_y = inverse * view.fx, inverse * view.fy
    r = view.rotation
    axis_x = add(scale(scale_x, r[0]), scale(scale_x * clamped_x * -1.0, r[2]))
    axis_y = add(scale(scale_y, r[1]), scale(scale_y * clamped_y * -1.0, r[2]))
    return axis_x, axis_y, scale_x, scale_y, clamped_x, clamped_y


@helper
def jacobian_rows(scratch):
    return (
        planes(scratch, JACOBIAN_PLANE),
        planes(scratch, JACOBIAN_PLANE + 3),
        planes(scratch, JACOBIAN_PLANE + 6),
    )


@helper
def pull_back(scratch, has_jacobians, axis_x, axis_y):
    """Derivatives of the pixel by the point before its deformation."""
    if has_jacobians:
        rows = jacobian_rows(scratch)
        return apply_transposed(rows, axis_x), apply_transposed(rows, axis_y)
    return axis_x, axis_y


@helper
def covariance_rows(scratch):
    xx, xy, xz = planes(scratch, COVARIANCE_PLANE)
    yy, yz, zz = planes(scratch, COVARIANCE_PLANE + 3)
    return (xx, xy, xz), (xy, yy, yz), (xz, yz, zz)


@helper
def used_quat(scratch, normalizes):
    """Quaternion as it is used, and the inverse norm (1 where it is used as it is)."""
    w = plane(scratch, QUAT_PLANE)
    x, y, z = planes(scratch, QUAT_PLANE + 1)
    inverse = splat(1.0)
    if normalizes:
        inverse = 1.0 / vsqrt(vmax(w * w + x * x + y * y + z * z, 1e-24))
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@helper
def along_columns(columns, axis):
    return dot(columns[0], axis), dot(columns[1], axis), dot(columns[2], axis)


@helper
def times(a, b):
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


@helper
def screen_covariance(scratch, view, has_covariances, axis_x, axis_y):
    """Entries xx, xy, yy before dilation, and the determinant."""
    if has_covariances:
        rows = covariance_rows(scratch)
        image_x, image_y = apply(rows, axis_x), apply(rows, axis_y)
        xx, xy, yy = dot(axis_x, image_x), dot(axis_x, image_y), dot(axis_y, image_y)
        return xx, xy, yy, vmax(xx * yy - xy * xy, 0.0)
    w, x, y, z, _ = used_quat(scratch, view.normalizes_quats)
    columns, scales = rotation_columns(w, x, y, z), planes(scratch, SCALE_PLANE)
    root_x = times(along_columns(columns, axis_x), scales)
    root_y = times(along_columns(columns, axis_y), scales)
    normal = cross(root_x, root_y)
    return dot(root_x, root_x), dot(root_x, root_y), dot(root_y, root_y), dot(normal, normal)


@helper
def compensation(area, dilated_area):
    """Squared factor of the opacity (Mip-Splatting, eq. 9), and where it is not clamped."""
    ratio = vsel(dilated_area < _HUGE, area / dilated_area, 1.0)
    return vmax(ratio, MIN_COMPENSATION), ratio > MIN_COMPENSATION

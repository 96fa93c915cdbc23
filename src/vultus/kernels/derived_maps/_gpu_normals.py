"""Triton kernels of derived normals. A lane works on a pixel.

With directions d through pixel centres, points are z d. Around a pixel d grows by constant steps:
by s_x to the right and s_y downwards. Differences across it are

    columns = P_right - P_left = d (z_right - z_left) + s_x (z_right + z_left)
    rows    = P_below - P_above = d (z_below - z_above) + s_y (z_below + z_above)

which loses fewer digits than subtracting points. The normal is rows x columns, made unit.
"""

# ruff: noqa: D417 -- flags explain themselves.
from __future__ import annotations

from vultus.kernels.triton_math import (
    add3,
    apply3,
    apply_transposed3,
    cross3,
    dot3,
    scale3,
)
from vultus.kernels.triton_matrices import load_vector, store_vector, subtract3
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["derive", "derive_backward"]

_SMALLEST_LENGTH = tl.constexpr(1e-12)
"""As in ``torch.nn.functional.normalize``."""


@jit
def _rotation(world_to_camera, frame):
    """Rows of the rotation in a rigid matrix [4 4]."""
    start = world_to_camera + 16 * frame
    row0 = (tl.load(start), tl.load(start + 1), tl.load(start + 2))
    row1 = (tl.load(start + 4), tl.load(start + 5), tl.load(start + 6))
    row2 = (tl.load(start + 8), tl.load(start + 9), tl.load(start + 10))
    return (row0, row1, row2)


@jit
def _lens(intrinsics, frame):
    """Reciprocal focal lengths, skew in units of the first, and the principal point."""
    start = intrinsics + 9 * frame
    inverse_x, inverse_y = 1.0 / tl.load(start), 1.0 / tl.load(start + 4)
    skew = tl.load(start + 1) * inverse_x
    return inverse_x, inverse_y, skew, tl.load(start + 2), tl.load(start + 5)


@jit
def _direction(lens, x, y):
    """Through a pixel's centre, with z = 1."""
    inverse_x, inverse_y, skew, center_x, center_y = lens
    down = (y + 0.5 - center_y) * inverse_y
    return ((x + 0.5 - center_x) * inverse_x - skew * down, down, down * 0.0 + 1.0)


@jit
def _is_inside(x, y, height, width):
    """Whether a pixel has four neighbours."""
    return (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)


@jit
def _differences(depth, lens, x, y, width, is_inside):
    """Differences of points across a pixel: along rows, along columns."""
    at = depth + y * width + x
    above = tl.load(at - width, mask=is_inside, other=0.0)
    below = tl.load(at + width, mask=is_inside, other=0.0)
    left = tl.load(at - 1, mask=is_inside, other=0.0)
    right = tl.load(at + 1, mask=is_inside, other=0.0)
    inverse_x, inverse_y, skew, _x, _y = lens
    direction = _direction(lens, x, y)
    rows, columns = scale3(below - above, direction), scale3(right - left, direction)
    down, across = (below + above) * inverse_y, (right + left) * inverse_x
    return (rows[0] - skew * down, rows[1] + down, rows[2]), (
        columns[0] + across,
        columns[1],
        columns[2],
    )


@jit
def _unit(vector):
    """A vector of length one, the factor that makes it that, and whether it had a length."""
    length = tl.sqrt(dot3(vector, vector))
    inverse = 1.0 / tl.maximum(length, _SMALLEST_LENGTH)
    return scale3(inverse, vector), inverse, length >= _SMALLEST_LENGTH


@jit
def derive(
    depth, alpha, view_normals, intrinsics, world_to_camera, depth_normals, normals, height, width,
    HAS_DEPTH: constexpr, HAS_NORMALS: constexpr, LANES: constexpr,
):  # fmt: skip
    """World normals of depth times alpha, and normals turned into the world.

    Args:
        depth: [b h w].
        alpha: [b h w].
        view_normals: [b 3 h w].
        intrinsics: [b 3 3].
        world_to_camera: [b 4 4].
        depth_normals: Written, [b 3 h w].
        normals: Written, [b 3 h w].
    """
    size = height * width
    pixel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = pixel < size
    rotation = _rotation(world_to_camera, frame)
    offset = 3 * frame * size + pixel
    if HAS_DEPTH:
        y = pixel // width
        x = pixel - y * width
        is_inside = _is_inside(x, y, height, width) & mask
        lens = _lens(intrinsics, frame)
        rows, columns = _differences(depth + frame * size, lens, x, y, width, is_inside)
        normal, _inverse, _has_length = _unit(cross3(rows, columns))
        opacity = tl.load(alpha + frame * size + pixel, mask=is_inside, other=0.0)
        turned = apply_transposed3(rotation, scale3(opacity, normal))
        store_vector(depth_normals, offset, turned, mask, size)
    if HAS_NORMALS:
        seen = load_vector(view_normals, offset, mask, size)
        store_vector(normals, offset, apply_transposed3(rotation, seen), mask, size)


@jit
def _gradients_of_differences(
    depth, alpha, grad, lens, rotation, x, y, height, width, mask
):  # fmt: skip
    """What a pixel's normal asks of the differences across it; zero on the border."""
    is_inside = _is_inside(x, y, height, width) & mask
    rows, columns = _differences(depth, lens, x, y, width, is_inside)
    normal, inverse, has_length = _unit(cross3(rows, columns))
    opacity = tl.load(alpha + y * width + x, mask=is_inside, other=0.0)
    in_world = load_vector(grad, y * width + x, is_inside, height * width)
    upstream = apply3(rotation, scale3(opacity, in_world))
    radial = tl.where(has_length, dot3(normal, upstream), 0.0)
    grad_cross = scale3(inverse, subtract3(upstream, scale3(radial, normal)))
    return cross3(columns, grad_cross), cross3(grad_cross, rows)


@jit
def derive_backward(
    depth, alpha, intrinsics, world_to_camera, grad_depth_normals, grad_normals,
    grad_depth, grad_view_normals, height, width,
    HAS_DEPTH: constexpr, HAS_NORMALS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of depth and of the normals that were turned.

    Args:
        grad_depth: Written, [b h w].
        grad_view_normals: Written, [b 3 h w].
    """
    size = height * width
    pixel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = pixel < size
    rotation = _rotation(world_to_camera, frame)
    offset = 3 * frame * size + pixel
    if HAS_DEPTH:
        y = pixel // width
        x = pixel - y * width
        lens = _lens(intrinsics, frame)
        z, a, g = depth + frame * size, alpha + frame * size, grad_depth_normals + 3 * frame * size
        # This pixel is the lower one of the pixel above it, the upper one of the pixel below, ...
        above, _columns = _gradients_of_differences(
            z, a, g, lens, rotation, x, y - 1, height, width, mask
        )
        below, _columns = _gradients_of_differences(
            z, a, g, lens, rotation, x, y + 1, height, width, mask
        )
        _rows, left = _gradients_of_differences(
            z, a, g, lens, rotation, x - 1, y, height, width, mask
        )
        _rows, right = _gradients_of_differences(
            z, a, g, lens, rotation, x + 1, y, height, width, mask
        )
        total = add3(subtract3(above, below), subtract3(left, right))
        value = dot3(_direction(lens, x, y), total)
        tl.store(grad_depth + frame * size + pixel, value, mask=mask)
    if HAS_NORMALS:
        upstream = load_vector(grad_normals, offset, mask, size)
        store_vector(grad_view_normals, offset, apply3(rotation, upstream), mask, size)

"""Cameras and SH colours in the rasterizers' GPU kernels, one primitive per lane."""

# ruff: noqa: RUF005 -- Triton unpacks no tuples.
from __future__ import annotations

from vultus.kernels.triton_math import (
    add3,
    apply_transposed3,
    color_sh_gradient,
    color_sh_term,
    dot3,
    load_floats,
    scale3,
    store_floats,
)
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["load_view", "shade", "shade_backward", "single3"]


@jit
def _load_row(pointer):
    return (
        tl.load(pointer).to(tl.float64),
        tl.load(pointer + 1).to(tl.float64),
        tl.load(pointer + 2).to(tl.float64),
    )


@jit
def load_view(world_to_camera, intrinsics, frame):
    """Rotation rows, translation and (fx, fy, cx, cy) of a camera, in double precision."""
    m, k = world_to_camera + frame * 16, intrinsics + frame * 9
    rotation = (_load_row(m), _load_row(m + 4), _load_row(m + 8))
    translation = (
        tl.load(m + 3).to(tl.float64),
        tl.load(m + 7).to(tl.float64),
        tl.load(m + 11).to(tl.float64),
    )
    pinhole = (
        tl.load(k).to(tl.float64),
        tl.load(k + 4).to(tl.float64),
        tl.load(k + 2).to(tl.float64),
        tl.load(k + 5).to(tl.float64),
    )
    return rotation, translation, pinhole


@jit
def single3(a):
    """A vector in single precision."""
    return (a[0].to(tl.float32), a[1].to(tl.float32), a[2].to(tl.float32))


@jit
def _view_direction(rotation, translation, mean):
    """Unit vector from the camera to a primitive in world axes, and the inverse distance."""
    offset = single3(add3(mean, apply_transposed3(rotation, translation)))
    inverse = 1.0 / tl.sqrt(tl.maximum(dot3(offset, offset), 1e-24))
    return scale3(inverse, offset), inverse


@jit
def shade(
    rotation, translation, mean, sh_coeffs, row, visible, SH_TERMS: constexpr, SH_STORED: constexpr
):
    """Colour 0.5 + SH in the direction from the camera, to be clamped at zero."""
    direction, _ = _view_direction(rotation, translation, mean)
    coeffs = load_floats(
        sh_coeffs + row.to(tl.int64) * (3 * SH_STORED), visible, 3 * SH_TERMS, SH_STORED % 4 == 0
    )
    red, green, blue = coeffs[0] * 0.0 + 0.5, coeffs[0] * 0.0 + 0.5, coeffs[0] * 0.0 + 0.5
    for term in tl.static_range(SH_TERMS):
        value = color_sh_term(term, direction[0], direction[1], direction[2])
        red += value * coeffs[3 * term]
        green += value * coeffs[3 * term + 1]
        blue += value * coeffs[3 * term + 2]
    return red, green, blue


@jit
def shade_backward(
    rotation, translation, mean, sh_coeffs, grad_sh, row, mask, visible, color, grad_color,
    SH_TERMS: constexpr, SH_STORED: constexpr,
):  # fmt: skip
    """Write the gradient of the coefficients; return that of the offset from the camera.

    ``color``: as stored in the record, clamped at zero.
    """
    red = tl.where(color[0] > 0.0, grad_color[0], 0.0)
    green = tl.where(color[1] > 0.0, grad_color[1], 0.0)
    blue = tl.where(color[2] > 0.0, grad_color[2], 0.0)
    direction, inverse = _view_direction(rotation, translation, mean)
    x, y, z = direction
    start = row.to(tl.int64) * (3 * SH_STORED)
    coeffs = load_floats(sh_coeffs + start, visible, 3 * SH_TERMS, SH_STORED % 4 == 0)
    zero = x * 0.0
    total, grads = (zero, zero, zero), ()
    for term in tl.static_range(SH_TERMS):
        value = color_sh_term(term, x, y, z)
        grads = grads + (value * red, value * green, value * blue)
        if term > 0:
            weight = red * coeffs[3 * term] + green * coeffs[3 * term + 1]
            weight += blue * coeffs[3 * term + 2]
            total = add3(total, scale3(weight, color_sh_gradient(term, x, y, z)))
    for _ in tl.static_range(SH_STORED - SH_TERMS):
        grads = grads + (zero, zero, zero)
    store_floats(grad_sh + start, grads, mask, 3 * SH_STORED, SH_STORED % 4 == 0)
    return scale3(inverse, add3(total, scale3(-dot3(total, direction), direction)))

"""Triton kernels of terms on rendered maps. A lane works on a pixel.

Constants named like terms are their rows of partial sums; -1 for terms that there are not.
"""

# ruff: noqa: D417 -- flags explain themselves.
from __future__ import annotations

from vultus.kernels.loss_terms._gpu_sums import add_up
from vultus.kernels.triton_math import dot3, scale3
from vultus.kernels.triton_matrices import load_vector, store_vector, subtract3
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["measure_maps", "measure_maps_backward"]

_SMALLEST_LENGTH = tl.constexpr(1e-12)
"""As in ``torch.nn.functional.normalize``."""


@jit
def _pixels(size, LANES: constexpr):
    """Where a program's pixels are in maps of one channel and of three, and whether they exist."""
    pixel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    return frame * size + pixel, 3 * frame * size + pixel, pixel < size


@jit
def _masked_unit(normal, coverage):
    """Masked normals made unit, the factor that makes them that, and whether they had a length."""
    masked = scale3(coverage, normal)
    length = tl.sqrt(dot3(masked, masked))
    inverse = 1.0 / tl.maximum(length, _SMALLEST_LENGTH)
    return scale3(inverse, masked), inverse, length >= _SMALLEST_LENGTH


@jit
def measure_maps(
    alpha, mask, normals, depth_normals, distortion, partials, size,
    ALPHA: constexpr, SURFEL_NORMAL: constexpr, DISTORTION: constexpr, TERMS: constexpr,
    IS_MASKED: constexpr, LANES: constexpr,
):  # fmt: skip
    """Add up the differences of a block of pixels.

    Args:
        alpha: [b h w], as are mask and distortion.
        normals: [b 3 h w], as are depth_normals.
        partials: Written, [2 TERMS programs].
    """
    at, at_vector, is_inside = _pixels(size, LANES)
    coverage = 1.0
    if IS_MASKED or ALPHA >= 0:
        coverage = tl.load(mask + at, mask=is_inside, other=0.0)
    if ALPHA >= 0:
        opacity = tl.load(alpha + at, mask=is_inside, other=0.0)
        add_up(partials, tl.abs(opacity - coverage), is_inside, ALPHA, TERMS)
    if SURFEL_NORMAL >= 0:
        normal = load_vector(normals, at_vector, is_inside, size)
        surface = load_vector(depth_normals, at_vector, is_inside, size)
        if IS_MASKED:
            normal, _inverse, _has_length = _masked_unit(normal, coverage)
            surface = scale3(coverage, surface)
        add_up(partials, 1.0 - dot3(normal, surface), is_inside, SURFEL_NORMAL, TERMS)
    if DISTORTION >= 0:
        value = tl.load(distortion + at, mask=is_inside, other=0.0)
        add_up(partials, value, is_inside, DISTORTION, TERMS)


@jit
def measure_maps_backward(
    alpha, mask, normals, depth_normals, factors, grads,
    grad_alpha, grad_normals, grad_depth_normals, grad_distortion, size,
    ALPHA: constexpr, SURFEL_NORMAL: constexpr, DISTORTION: constexpr,
    IS_MASKED: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of the maps of the terms that there are.

    Args:
        factors: From ``weigh_means``.
        grads: Of the terms, a pointer each.
    """
    at, at_vector, is_inside = _pixels(size, LANES)
    coverage = 1.0
    if IS_MASKED or ALPHA >= 0:
        coverage = tl.load(mask + at, mask=is_inside, other=0.0)
    if ALPHA >= 0:
        share = tl.load(grads[ALPHA]) * tl.load(factors + ALPHA)
        opacity = tl.load(alpha + at, mask=is_inside, other=0.0)
        sign = (opacity > coverage).to(tl.float32) - (opacity < coverage).to(tl.float32)
        tl.store(grad_alpha + at, share * sign, mask=is_inside)
    if SURFEL_NORMAL >= 0:
        share = -tl.load(grads[SURFEL_NORMAL]) * tl.load(factors + SURFEL_NORMAL)
        normal = load_vector(normals, at_vector, is_inside, size)
        surface = load_vector(depth_normals, at_vector, is_inside, size)
        grad_normal = scale3(share, surface)
        grad_surface = scale3(share, normal)
        if IS_MASKED:
            unit, inverse, has_length = _masked_unit(normal, coverage)
            grad_surface = scale3(share * coverage, unit)
            grad_unit = scale3(coverage, grad_normal)
            radial = tl.where(has_length, dot3(unit, grad_unit), 0.0)
            grad_normal = scale3(coverage * inverse, subtract3(grad_unit, scale3(radial, unit)))
        store_vector(grad_normals, at_vector, grad_normal, is_inside, size)
        store_vector(grad_depth_normals, at_vector, grad_surface, is_inside, size)
    if DISTORTION >= 0:
        share = tl.load(grads[DISTORTION]) * tl.load(factors + DISTORTION)
        tl.store(grad_distortion + at, tl.zeros([LANES], tl.float32) + share, mask=is_inside)

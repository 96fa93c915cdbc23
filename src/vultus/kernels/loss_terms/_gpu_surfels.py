"""Triton kernels of terms on surfels. A lane works on a surfel.

Every term is a function that returns a surfel's value and the gradient of that. Constants named
like terms are their rows of partial sums; -1 for terms that there are not.
"""

# ruff: noqa: D417 -- flags explain themselves.
from __future__ import annotations

from vultus.kernels.loss_terms._gpu_sums import add_up
from vultus.kernels.triton_math import dot3, load4, scale3, store4
from vultus.kernels.triton_matrices import load_vector, store_vector
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_shares import logits_to_shares, shares_gradient

__all__ = ["measure_surfels", "measure_surfels_backward"]


@jit
def _unit(vector):
    """Direction of a vector, zero if it has none, and its length."""
    length = tl.sqrt(dot3(vector, vector))
    inverse = tl.where(length > 0, 1.0 / length, 0.0)
    return scale3(inverse, vector), length


@jit
def _excess(value, threshold):
    return tl.maximum(value - threshold, 0.0)


@jit
def _xyz(mean, face_scale, threshold, IS_METRIC: constexpr):
    """Distance from the triangle beyond what is free."""
    if IS_METRIC:
        offset = scale3(face_scale, mean)
        direction, value = _unit(
            (
                _excess(offset[0], threshold),
                _excess(offset[1], threshold),
                _excess(offset[2], threshold),
            )
        )
        return value, scale3(face_scale, direction)
    else:
        direction, length = _unit(mean)
        is_far = (length > threshold).to(tl.float32)
        return _excess(length, threshold), scale3(is_far, direction)


@jit
def _scale(log_scales, at, face_scale, threshold, mask, IS_METRIC: constexpr):
    """Extent beyond what is free."""
    first = tl.exp(tl.load(log_scales + at, mask=mask, other=0.0))
    second = tl.exp(tl.load(log_scales + at + 1, mask=mask, other=0.0))
    if IS_METRIC:
        first *= face_scale
        second *= face_scale
    direction, value = _unit((_excess(first, threshold), _excess(second, threshold), first * 0.0))
    return value, (first * direction[0], second * direction[1])


@jit
def _eye_alpha(logit):
    """What an opacity lacks, squared."""
    opacity = tl.sigmoid(logit)
    gap = opacity - 1.0
    return gap * gap, 2.0 * gap * opacity * (1.0 - opacity)


@jit
def _blend_weight(logits, free):
    """What neighbours' blend weights, the last three, exceed."""
    shares, sigmoids, inverse = logits_to_shares(logits)
    direction, value = _unit(
        (_excess(shares[1], free), _excess(shares[2], free), _excess(shares[3], free))
    )
    grad = (value * 0.0, direction[0], direction[1], direction[2])
    return value, shares_gradient(shares, sigmoids, inverse, grad)


@jit
def _normal_norm(normal):
    """How far a length is from one."""
    direction, length = _unit(normal)
    sign = (length > 1.0).to(tl.float32) - (length < 1.0).to(tl.float32)
    return tl.abs(length - 1.0), scale3(sign, direction)


@jit
def _is_visible(radii, surfel, num, batch, mask, LANES: constexpr):
    """Whether a surfel is visible in any frame."""
    largest = tl.zeros([LANES], tl.int32)
    for frame in range(batch):
        radius = tl.load(radii + frame * num + surfel, mask=mask, other=0)
        largest = tl.maximum(largest, radius.to(tl.int32))
    return largest > 0


@jit
def _weigh3(share, gradient, is_counted):
    """A term's gradient where it counts; what is not finite elsewhere must not spread."""
    return (
        tl.where(is_counted, share * gradient[0], 0.0),
        tl.where(is_counted, share * gradient[1], 0.0),
        tl.where(is_counted, share * gradient[2], 0.0),
    )


@jit
def measure_surfels(
    local_means, log_scales, opacity_logits, blend_weight_logits, normals, face_scales, eyeballs,
    radii, partials, num, batch, xyz_threshold, scale_threshold, free_blend_weight,
    XYZ: constexpr, SCALE: constexpr, EYE_ALPHA: constexpr, BLEND_WEIGHT: constexpr,
    NORMAL_NORM: constexpr, TERMS: constexpr,
    METRIC_XYZ: constexpr, METRIC_SCALE: constexpr, LANES: constexpr,
):  # fmt: skip
    """Add up what a block of surfels exceeds.

    Args:
        normals: [b n 3]; the first frame counts.
        eyeballs: [n] bytes.
        radii: [b n].
        partials: Written, [2 TERMS programs].
    """
    surfel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = surfel < num
    is_visible = _is_visible(radii, surfel, num, batch, mask, LANES)
    face_scale = tl.load(face_scales + surfel, mask=mask, other=1.0)
    mean = load_vector(local_means, 3 * surfel, mask)
    value, _gradient = _xyz(mean, face_scale, xyz_threshold, METRIC_XYZ)
    add_up(partials, value, is_visible, XYZ, TERMS)
    value, _gradient = _scale(
        log_scales, 2 * surfel, face_scale, scale_threshold, mask, METRIC_SCALE
    )
    add_up(partials, value, is_visible, SCALE, TERMS)
    if EYE_ALPHA >= 0:
        is_eye = tl.load(eyeballs + surfel, mask=mask, other=0) != 0
        value, _gradient = _eye_alpha(tl.load(opacity_logits + surfel, mask=is_eye, other=0.0))
        add_up(partials, value, is_eye, EYE_ALPHA, TERMS)
    if BLEND_WEIGHT >= 0:
        logits = load4(blend_weight_logits + 4 * surfel, mask)
        value, _gradient = _blend_weight(logits, free_blend_weight)
        add_up(partials, value, is_visible, BLEND_WEIGHT, TERMS)
    if NORMAL_NORM >= 0:
        value, _gradient = _normal_norm(load_vector(normals, 3 * surfel, mask))
        add_up(partials, value, is_visible, NORMAL_NORM, TERMS)


@jit
def measure_surfels_backward(
    local_means, log_scales, opacity_logits, blend_weight_logits, normals, face_scales, eyeballs,
    radii, factors, grads, grad_means, grad_log_scales, grad_opacity_logits, grad_blend_logits,
    grad_normals, num, batch, xyz_threshold, scale_threshold, free_blend_weight,
    XYZ: constexpr, SCALE: constexpr, EYE_ALPHA: constexpr, BLEND_WEIGHT: constexpr,
    NORMAL_NORM: constexpr,
    METRIC_XYZ: constexpr, METRIC_SCALE: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of the parameters of the terms that there are.

    Args:
        factors: From ``weigh_means``.
        grads: Of the terms, a pointer each.
    """
    surfel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = surfel < num
    is_visible = _is_visible(radii, surfel, num, batch, mask, LANES)
    face_scale = tl.load(face_scales + surfel, mask=mask, other=1.0)

    share = tl.load(grads[XYZ]) * tl.load(factors + XYZ)
    mean = load_vector(local_means, 3 * surfel, mask)
    _value, gradient = _xyz(mean, face_scale, xyz_threshold, METRIC_XYZ)
    store_vector(grad_means, 3 * surfel, _weigh3(share, gradient, is_visible), mask)

    share = tl.load(grads[SCALE]) * tl.load(factors + SCALE)
    _value, pair = _scale(log_scales, 2 * surfel, face_scale, scale_threshold, mask, METRIC_SCALE)
    first = tl.where(is_visible, share * pair[0], 0.0)
    tl.store(grad_log_scales + 2 * surfel, first, mask=mask)
    second = tl.where(is_visible, share * pair[1], 0.0)
    tl.store(grad_log_scales + 2 * surfel + 1, second, mask=mask)
    if EYE_ALPHA >= 0:
        share = tl.load(grads[EYE_ALPHA]) * tl.load(factors + EYE_ALPHA)
        is_eye = tl.load(eyeballs + surfel, mask=mask, other=0) != 0
        _value, slope = _eye_alpha(tl.load(opacity_logits + surfel, mask=is_eye, other=0.0))
        slope = tl.where(is_eye, share * slope, 0.0)
        tl.store(grad_opacity_logits + surfel, slope, mask=mask)
    if BLEND_WEIGHT >= 0:
        share = tl.load(grads[BLEND_WEIGHT]) * tl.load(factors + BLEND_WEIGHT)
        logits = load4(blend_weight_logits + 4 * surfel, mask)
        _value, gradient = _blend_weight(logits, free_blend_weight)
        a = tl.where(is_visible, share * gradient[0], 0.0)
        b, c, d = _weigh3(share, (gradient[1], gradient[2], gradient[3]), is_visible)
        store4(grad_blend_logits + 4 * surfel, a, b, c, d, mask)
    if NORMAL_NORM >= 0:
        share = tl.load(grads[NORMAL_NORM]) * tl.load(factors + NORMAL_NORM)
        _value, gradient = _normal_norm(load_vector(normals, 3 * surfel, mask))
        gradient = _weigh3(share, gradient, is_visible)
        store_vector(grad_normals, 3 * surfel, gradient, mask)
        none = scale3(0.0, gradient)
        for frame in range(1, batch):
            store_vector(grad_normals, 3 * (frame * num + surfel), none, mask)

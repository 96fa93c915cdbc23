"""Kernels for what follows a convolution: a tile of pixels and channels per program.

Features are [image, pixel, channel] in memory. Before doubling, a pixel of the small image holds
four groups of channels, one for each pixel of two by two.
"""

# ruff: noqa: D417 -- shapes are those of the launch, in gpu.py.
from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["finish", "finish_backward"]

_SLOPE = tl.constexpr(0.2)
_GAIN = tl.constexpr(1.4142135623730951)


@jit
def _source(image, pixel, channel, height, width, CHANNELS: constexpr, DOUBLE: constexpr):
    """Where the convolution has left a channel of a pixel of the output."""
    if DOUBLE:
        row = pixel // width
        column = pixel % width
        small = (row // 2) * (width // 2) + column // 2
        phase = (row % 2) * 2 + column % 2
        start = (image * (height // 2) * (width // 2) + small) * 4 + phase
    else:
        start = image * height * width + pixel
    return start[:, None] * CHANNELS + channel[None, :]


@jit
def _before_activation(
    x, source, mask, image, pixel, is_pixel, scale, bias, noise, strength, noise_stride,
    HAS_NOISE: constexpr,
):  # fmt: skip
    """Convolved features, the noise of the pixels, and what enters the activation."""
    convolved = tl.load(x + source, mask=mask, other=0.0).to(tl.float32)
    drawn = tl.zeros_like(pixel).to(tl.float32)
    y = convolved * scale[None, :] + bias[None, :]
    if HAS_NOISE:
        drawn = tl.load(noise + image * noise_stride + pixel, mask=is_pixel, other=0.0)
        y += (drawn * tl.load(strength))[:, None]
    return convolved, drawn, y


@jit
def _activate(y, clamp, HAS_CLAMP: constexpr):
    y = _GAIN * tl.where(y > 0.0, y, _SLOPE * y)
    if HAS_CLAMP:
        y = tl.minimum(tl.maximum(y, -clamp), clamp)
    return y


@jit
def finish(
    x, scales, biases, noise, strength, styles, kept, scaled, height, width, noise_stride, clamp,
    CHANNELS: constexpr, DOUBLE: constexpr, HAS_NOISE: constexpr, HAS_CLAMP: constexpr,
    KEEPS: constexpr, SCALES: constexpr, ROWS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Write the layer's output, and its product with the next styles."""
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_pixel = pixel < height * width
    is_channel = channel < CHANNELS
    mask = is_pixel[:, None] & is_channel[None, :]
    scale = tl.load(scales + image * CHANNELS + channel, mask=is_channel, other=0.0)
    bias = tl.load(biases + channel, mask=is_channel, other=0.0)
    source = _source(image, pixel, channel, height, width, CHANNELS, DOUBLE)
    _convolved, _drawn, y = _before_activation(
        x, source, mask, image, pixel, is_pixel, scale, bias, noise, strength, noise_stride,
        HAS_NOISE,
    )  # fmt: skip
    y = _activate(y, clamp, HAS_CLAMP)
    target = (image * height * width + pixel)[:, None] * CHANNELS + channel[None, :]
    if KEEPS:
        tl.store(kept + target, y.to(kept.dtype.element_ty), mask=mask)
    if SCALES:
        style = tl.load(styles + image * CHANNELS + channel, mask=is_channel, other=0.0)
        product = (y * style[None, :]).to(scaled.dtype.element_ty)
        tl.store(scaled + target, product, mask=mask)


@jit
def finish_backward(
    x, scales, biases, noise, strength, styles, g_kept, g_scaled, g_x, sums, g_noise,
    height, width, noise_stride, clamp, turns,
    CHANNELS: constexpr, DOUBLE: constexpr, HAS_NOISE: constexpr, HAS_CLAMP: constexpr,
    KEEPS: constexpr, SCALES: constexpr, NEEDS_NOISE: constexpr,
    ROWS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of what ``finish`` has read.

    A program walks over ``turns`` tiles of pixels and leaves its share of the sums over pixels,
    so that they do not depend on the order in which programs run.

    Args:
        sums: [4, image, program, channel]: gradients of scales, biases and styles, and the sum of
            noise times gradient.
        g_noise: [column of programs, image, pixel], of noise times strength.
    """
    image = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    is_channel = channel < CHANNELS
    scale = tl.load(scales + image * CHANNELS + channel, mask=is_channel, other=0.0)
    bias = tl.load(biases + channel, mask=is_channel, other=0.0)
    style = tl.zeros((LANES,), tl.float32)
    if SCALES:
        style = tl.load(styles + image * CHANNELS + channel, mask=is_channel, other=0.0)
    of_scale = tl.zeros((LANES,), tl.float32)
    of_bias = tl.zeros((LANES,), tl.float32)
    of_style = tl.zeros((LANES,), tl.float32)
    of_strength = tl.zeros((LANES,), tl.float32)
    for turn in range(turns):
        tile = turn * tl.num_programs(0) + tl.program_id(0)
        pixel = tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
        is_pixel = pixel < height * width
        mask = is_pixel[:, None] & is_channel[None, :]
        source = _source(image, pixel, channel, height, width, CHANNELS, DOUBLE)
        convolved, drawn, y = _before_activation(
            x, source, mask, image, pixel, is_pixel, scale, bias, noise, strength, noise_stride,
            HAS_NOISE,
        )  # fmt: skip
        target = (image * height * width + pixel)[:, None] * CHANNELS + channel[None, :]
        upstream = tl.zeros((ROWS, LANES), tl.float32)
        if KEEPS:
            upstream += tl.load(g_kept + target, mask=mask, other=0.0).to(tl.float32)
        if SCALES:
            g = tl.load(g_scaled + target, mask=mask, other=0.0).to(tl.float32)
            of_style += tl.sum(g * _activate(y, clamp, HAS_CLAMP), axis=0)
            upstream += g * style[None, :]
        slope = tl.where(y > 0.0, _GAIN, _GAIN * _SLOPE)
        if HAS_CLAMP:
            slope = tl.where(tl.abs(y * slope) <= clamp, slope, 0.0)
        g_y = tl.where(mask, upstream * slope, 0.0)
        tl.store(g_x + source, (g_y * scale[None, :]).to(g_x.dtype.element_ty), mask=mask)
        of_scale += tl.sum(g_y * convolved, axis=0)
        of_bias += tl.sum(g_y, axis=0)
        if HAS_NOISE:
            of_strength += tl.sum(g_y * drawn[:, None], axis=0)
        if NEEDS_NOISE:
            column = tl.program_id(1).to(tl.int64) * tl.num_programs(2) + image
            place = column * height * width + pixel
            tl.store(g_noise + place, tl.sum(g_y, axis=1), mask=is_pixel)
    stride = tl.num_programs(2).to(tl.int64) * tl.num_programs(0) * CHANNELS
    place = (image * tl.num_programs(0) + tl.program_id(0)) * CHANNELS + channel
    tl.store(sums + place, of_scale, mask=is_channel)
    tl.store(sums + stride + place, of_bias, mask=is_channel)
    tl.store(sums + 2 * stride + place, of_style, mask=is_channel)
    tl.store(sums + 3 * stride + place, of_strength, mask=is_channel)

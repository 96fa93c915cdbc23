"""Kernels that double images and add others: a tile of pixels and channels per program.

Images are [image, pixel, channel] in memory.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["double", "double_backward"]


@jit
def _tile(size, CHANNELS: constexpr, ROWS: constexpr, LANES: constexpr):
    """Image, pixels, channels and mask of a program; ``size`` pixels in all."""
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * LANES + tl.arange(0, LANES)
    mask = (pixel < size)[:, None] & (channel < CHANNELS)[None, :]
    return image, pixel, channel, mask


@jit
def _load(values, image, row, column, channel, mask, height, width, CHANNELS: constexpr):
    """Values at pixels, zero beyond the border."""
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = (image * height + row) * width + column
    offset = place[:, None] * CHANNELS + channel[None, :]
    return tl.load(values + offset, mask=mask & is_inside[:, None], other=0.0).to(tl.float32)


@jit
def double(
    small, added, doubled, height, width,
    CHANNELS: constexpr, ROWS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Write the small image at twice its size plus the other; height and width are the small ones.

    A pixel takes three quarters of the small one that it lies in and a quarter of the nearest
    other, along both axes.
    """
    image, pixel, channel, mask = _tile(4 * height * width, CHANNELS, ROWS, LANES)
    row = pixel // (2 * width)
    column = pixel % (2 * width)
    near_row = row // 2
    near_column = column // 2
    far_row = near_row + 2 * (row % 2) - 1
    far_column = near_column + 2 * (column % 2) - 1
    offset = (image * 4 * height * width + pixel)[:, None] * CHANNELS + channel[None, :]
    total = tl.load(added + offset, mask=mask, other=0.0).to(tl.float32)
    near = 0.75 * _load(small, image, near_row, near_column, channel, mask, height, width, CHANNELS)
    near += 0.25 * _load(small, image, near_row, far_column, channel, mask, height, width, CHANNELS)
    far = 0.75 * _load(small, image, far_row, near_column, channel, mask, height, width, CHANNELS)
    far += 0.25 * _load(small, image, far_row, far_column, channel, mask, height, width, CHANNELS)
    total += 0.75 * near + 0.25 * far
    tl.store(doubled + offset, total.to(doubled.dtype.element_ty), mask=mask)


@jit
def double_backward(
    g_doubled, g_small, height, width,
    CHANNELS: constexpr, ROWS: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradient of the small image: four by four pixels around each one, weighted 1, 3, 3, 1."""
    image, pixel, channel, mask = _tile(height * width, CHANNELS, ROWS, LANES)
    row = 2 * (pixel // width) - 1
    column = 2 * (pixel % width) - 1
    total = tl.zeros((ROWS, LANES), tl.float32)
    for k in tl.static_range(16):
        # The two in the middle of four have three times the weight.
        tap_row = 0.75 if k // 4 % 3 != 0 else 0.25
        tap_column = 0.75 if k % 4 % 3 != 0 else 0.25
        total += tap_row * tap_column * _load(
            g_doubled, image, row + k // 4, column + k % 4, channel, mask, 2 * height, 2 * width,
            CHANNELS,
        )  # fmt: skip
    offset = (image * height * width + pixel)[:, None] * CHANNELS + channel[None, :]
    tl.store(g_small + offset, total.to(g_small.dtype.element_ty), mask=mask)

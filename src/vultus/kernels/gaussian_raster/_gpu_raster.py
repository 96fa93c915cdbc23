"""Forward blending: one warp per subtile, pixels on lanes, some Gaussians of the list per trip.

Without a backward pass to come, a warp blends both subtiles of a bin, a pixel of each per lane: the
bin's list need not be split, and Gaussians are fetched once instead of twice.

What a trip blends is fetched during the trip before: a warp walks its list alone, and would spend
most of its time waiting. A lane prepares one Gaussian of the trip: it expands the logarithm of its
opacity about the middle of the tile, so that a pixel is left with products of its coordinates,
and what both pixels of a column share is computed once.

Tensors of a trip are [Gaussians, pixels]. With one warp and the pixels last, Triton keeps the whole
axis of Gaussians in the registers of each lane, so that scans and sums along it are plain
sequential code without a shuffle.
"""

# ruff: noqa: PLR0915, RUF005, D417 -- Triton unpacks no tuples; flags explain themselves.
from __future__ import annotations

from vultus.kernels.gaussian_raster._gpu_layout import (
    RECORD,
    RECORD_COLOR,
    RECORD_DEPTH,
    RECORD_POWER,
)
from vultus.kernels.triton_blend import add_weighted, load_features, store_colors, zeros
from vultus.kernels.triton_math import multiply, multiply_pairs, split4
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import (
    MIN_LOG2_ALPHA,
    MIN_TRANSMITTANCE,
    NUM_COUNTERS,
    PIXELS,
    SUBTILE_HEIGHT,
    SUBTILE_WIDTH,
    bin_origin,
    pixel_coordinates,
    subtile_origin,
)

__all__ = ["blend", "expand_power"]

FEATURES_AHEAD = tl.constexpr(8)
"""More features are not fetched ahead: they would take registers from their sums."""


@jit
def _fetch(records, features, rows, mask, HAS_COLOR: constexpr, NUM_FEATURES: constexpr):
    """What blending reads of a trip's Gaussians: quadruples of their records, features.

    Quadruples are split only where they are used, since that waits for them.
    """
    record = (records + rows * RECORD)[:, None] + tl.arange(0, 4)[None, :]
    quads = (
        tl.load(record + RECORD_POWER, mask=mask[:, None], other=0.0),
        tl.load(record + RECORD_DEPTH, mask=mask[:, None], other=0.0),
    )
    if HAS_COLOR:
        quads = quads + (tl.load(record + RECORD_COLOR, mask=mask[:, None], other=0.0),)
    values = ()
    if NUM_FEATURES <= FEATURES_AHEAD:
        values = load_features(features, rows, mask, 0, NUM_FEATURES, NUM_FEATURES)
    return quads, values


@jit
def expand_power(center_x, center_y, xx, xy, yy, log2_opacity, x, y):
    """Expand log2 alpha about a point.

    Returns the offset of the Gaussian from there, and the coefficients of 1, x, y.
    """
    dx, dy = center_x - x, center_y - y
    one = log2_opacity + dx * (xx * dx + xy * dy) + yy * dy * dy
    return dx, dy, one, -(2 * xx * dx + xy * dy), -(2 * yy * dy + xy * dx)


@jit
def _start_pixels(column, line, width, height, CHANNELS: constexpr, SUBTILES: constexpr):
    """What blending keeps of the pixels of every subtile: see ``_blend_pixels``."""
    subtiles = ()
    for s in tl.static_range(SUBTILES):
        inside = (column < width) & (line + s * SUBTILE_HEIGHT < height)
        zero = tl.zeros([PIXELS], tl.float32)
        start = tl.where(inside, 1.0, 0.0)
        pixels = (zeros(CHANNELS, PIXELS), zero, start, zero, zero.to(tl.int32) - 1)
        subtiles = subtiles + (pixels,)
    return subtiles


@jit
def _blend_pixels(pixels, log2_alpha, values, k, depth, max_alpha, HAS_MEDIAN: constexpr):
    """Blend a trip's Gaussians.

    ``pixels``: sums of channels and of weights, transmittance, depth of the median and its position
    in the list, so far.
    """
    sums, total, transmittance, median, position = pixels
    is_kept = log2_alpha >= MIN_LOG2_ALPHA
    alpha = tl.where(is_kept, tl.minimum(tl.exp2(log2_alpha), max_alpha), 0.0)
    # Exclusive and inclusive transmittance from one scan; the first row carries the past.
    is_first = (tl.arange(0, k.shape[0]) == 0)[:, None]
    rest = tl.where(is_first, (1.0 - alpha) * transmittance[None, :], 1.0 - alpha)
    start = tl.where(is_first, transmittance[None, :], 1.0)
    after, before = tl.associative_scan((rest, start), 0, multiply_pairs)
    weight = tl.where(after > MIN_TRANSMITTANCE, before * alpha, 0.0)
    total += tl.sum(weight, 0)
    sums = add_weighted(sums, weight, values)
    if HAS_MEDIAN:
        is_candidate = (weight > 0.0) & (before > 0.5)
        best = tl.max(tl.where(is_candidate, k[:, None], -1), 0)
        chosen = tl.sum(tl.where(k[:, None] == best[None, :], depth[:, None], 0.0), 0)
        median = tl.where(best >= 0, chosen, median)
        position = tl.maximum(position, best)
    # The last row of ``after``; Triton 3.6 finds it in the scan.
    return sums, total, tl.reduce(rest, 0, multiply), median, position


@jit
def _blend_subtiles(subtiles, y, power, values, k, depth, max_alpha, HAS_MEDIAN: constexpr):
    """Blend a trip's Gaussians in all subtiles.

    ``power``: coefficients of log2 alpha along a pixel's column; ``y``: of the first subtile.

    Returns also 1, or 0 where all pixels have stopped.
    """
    one, along, square = power
    alive = 0
    blended = ()
    for s in tl.static_range(len(subtiles)):
        below = y + s * SUBTILE_HEIGHT
        log2_alpha = one + below * (along + square * below)
        pixels = _blend_pixels(subtiles[s], log2_alpha, values, k, depth, max_alpha, HAS_MEDIAN)
        alive |= tl.max((pixels[2] > MIN_TRANSMITTANCE).to(tl.int32), 0)
        blended = blended + (pixels,)
    return blended, alive


@jit
def blend(
    lists, lengths, records, features, background, counts,
    image, alpha_image, depth_image, median_image, positions, ends,
    width, height, bins_x, bins_y, capacity, max_alpha,
    HAS_COLOR: constexpr, NUM_FEATURES: constexpr, HAS_DEPTH: constexpr, HAS_MEDIAN: constexpr,
    HAS_BACKGROUND: constexpr, IS_WHOLE: constexpr, CHUNK: constexpr,
):  # fmt: skip
    """Blend one subtile, or with IS_WHOLE one bin, front to back.

    One whose list did not fit (length -1) becomes NaN: it is never silently wrong.

    Args:
        lists: Rows of records by depth, one segment of ``capacity`` per subtile; per bin, of twice
            as much.
        lengths: Length of every subtile's list.
        records: One per Gaussian.
        features: [rows, NUM_FEATURES], blended after the colour.
        background: Value per channel.
        counts: Starts with the counters, of which one is a mask of problems with the inputs; then
            the length of every bin's list.
        image: And the other images: [frames, channels, height, width].
        positions: Of the median Gaussian in the list, per pixel.
        ends: Length of the part of every subtile's list that was needed.
        CHUNK: Gaussians per trip.
    """
    tile = tl.program_id(0)
    SUBTILES: constexpr = 2 if IS_WHOLE else 1
    COLORS: constexpr = 3 * HAS_COLOR + NUM_FEATURES
    if IS_WHOLE:
        frame, x0, y0 = bin_origin(tile, bins_x, bins_y)
        length = tl.load(counts + NUM_COUNTERS + tile)
        length = tl.where(length > capacity, -1, length)
        segment = lists + tile.to(tl.int64) * 2 * capacity
    else:
        frame, x0, y0 = subtile_origin(tile, bins_x, bins_y)
        length = tl.load(lengths + tile)
        segment = lists + tile.to(tl.int64) * capacity
    column, line = pixel_coordinates(x0, y0)
    middle_x, middle_y = x0 + SUBTILE_WIDTH / 2, y0 + SUBTILES * SUBTILE_HEIGHT / 2
    x = (column.to(tl.float32) + 0.5 - middle_x)[None, :]
    y = (line.to(tl.float32) + 0.5 - middle_y)[None, :]
    subtiles = _start_pixels(column, line, width, height, COLORS + HAS_DEPTH, SUBTILES)
    slot = tl.arange(0, CHUNK)
    # Rows are known two trips ahead, what they point to one.
    rows = tl.load(segment + slot, mask=slot < length, other=0)
    next_rows = tl.load(segment + CHUNK + slot, mask=CHUNK + slot < length, other=0)
    quads, values = _fetch(records, features, rows, slot < length, HAS_COLOR, NUM_FEATURES)
    i = 0
    alive = 1
    while (i < length) & (alive > 0):
        k = i + slot
        mask = k < length
        next_quads, next_values = _fetch(
            records, features, next_rows, k + CHUNK < length, HAS_COLOR, NUM_FEATURES
        )
        later = k + 2 * CHUNK
        later_rows = tl.load(segment + later, mask=later < length, other=0)
        center_x, center_y, xx, xy = split4(quads[0])
        yy, log2_opacity, depth, _ = split4(quads[1])
        log2_opacity = tl.where(mask, log2_opacity, -1e30)
        _, _, one, along_x, along_y = expand_power(
            center_x, center_y, xx, xy, yy, log2_opacity, middle_x, middle_y
        )
        if NUM_FEATURES > FEATURES_AHEAD:
            values = load_features(features, rows, mask, 0, NUM_FEATURES, NUM_FEATURES)
        if HAS_COLOR:
            red, green, blue, _ = split4(quads[2])
            values = (red, green, blue) + values
        if HAS_DEPTH:
            values = values + (depth,)
        of_column = one[:, None] + x * (along_x[:, None] + xx[:, None] * x)
        slope = along_y[:, None] + xy[:, None] * x
        subtiles, alive = _blend_subtiles(
            subtiles, y, (of_column, slope, yy[:, None]), values, k, depth, max_alpha, HAS_MEDIAN
        )
        quads, values = next_quads, next_values
        rows, next_rows = next_rows, later_rows
        i += CHUNK
    if not IS_WHOLE:
        tl.store(ends + tile, tl.minimum(i, tl.maximum(length, 0)))

    size = width * height
    poison = tl.where(length < 0, float("nan"), 0.0)
    for s in tl.static_range(SUBTILES):
        sums, total, _, median, position = subtiles[s]
        row = line + s * SUBTILE_HEIGHT
        inside = (column < width) & (row < height)
        local = row * width + column
        pixel = frame.to(tl.int64) * size + local
        at = frame.to(tl.int64) * size * COLORS + local
        store_colors(
            image + at, size, sums, total, poison, background, inside, counts, COLORS,
            HAS_BACKGROUND,
        )  # fmt: skip
        tl.store(alpha_image + pixel, total + poison, mask=inside)
        if HAS_DEPTH:
            tl.store(depth_image + pixel, sums[COLORS] + poison, mask=inside)
        if HAS_MEDIAN:
            tl.store(median_image + pixel, median + poison, mask=inside)
            tl.store(positions + pixel, position.to(tl.float32), mask=inside)

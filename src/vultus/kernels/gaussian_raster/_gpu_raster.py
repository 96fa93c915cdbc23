"""Forward blending: one warp per subtile, pixels on lanes, a few Gaussians of the list per trip.

Without a backward pass to come, a warp blends a whole bin, two pixels per lane: its list need not
be split, and Gaussians are fetched once instead of twice.

What a trip blends is fetched during the trip before: a warp walks its list alone, and would spend
most of its time waiting.

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
from vultus.kernels.triton_blend import add_weighted, load_features, zeros
from vultus.kernels.triton_math import is_finite, multiply_pairs, split4
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import (
    COUNT_PROBLEMS,
    MIN_LOG2_ALPHA,
    MIN_TRANSMITTANCE,
    NUM_COUNTERS,
    PIXELS,
    bin_origin,
    pixel_coordinates,
    subtile_origin,
)

__all__ = ["blend"]

BAD_FEATURES = tl.constexpr(64)
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
    NUM_PIXELS: constexpr = 2 * PIXELS if IS_WHOLE else PIXELS
    if IS_WHOLE:
        frame, x0, y0 = bin_origin(tile, bins_x, bins_y)
        length = tl.load(counts + NUM_COUNTERS + tile)
        length = tl.where(length > capacity, -1, length)
        segment = lists + tile.to(tl.int64) * 2 * capacity
    else:
        frame, x0, y0 = subtile_origin(tile, bins_x, bins_y)
        length = tl.load(lengths + tile)
        segment = lists + tile.to(tl.int64) * capacity
    column, line = pixel_coordinates(x0, y0, NUM_PIXELS)
    x, y = (column.to(tl.float32) + 0.5)[None, :], (line.to(tl.float32) + 0.5)[None, :]
    inside = (column < width) & (line < height)
    COLORS: constexpr = 3 * HAS_COLOR + NUM_FEATURES
    sums = zeros(COLORS + HAS_DEPTH, NUM_PIXELS)
    zero = tl.zeros([NUM_PIXELS], tl.float32)
    total, median = zero, zero
    position = zero.to(tl.int32) - 1
    transmittance = tl.where(inside, 1.0, 0.0)
    slot = tl.arange(0, CHUNK)
    is_first = (slot == 0)[:, None]
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
        yy, log2_opacity, z, _ = split4(quads[1])
        log2_opacity = tl.where(mask, log2_opacity, -1e30)
        dx, dy = x - center_x[:, None], y - center_y[:, None]
        log2_alpha = log2_opacity[:, None] + dx * (xx[:, None] * dx + xy[:, None] * dy)
        log2_alpha += yy[:, None] * dy * dy
        is_kept = log2_alpha >= MIN_LOG2_ALPHA
        alpha = tl.where(is_kept, tl.minimum(tl.exp2(log2_alpha), max_alpha), 0.0)
        # Exclusive and inclusive transmittance from one scan; the first row carries the past.
        rest = tl.where(is_first, (1.0 - alpha) * transmittance[None, :], 1.0 - alpha)
        start = tl.where(is_first, transmittance[None, :], 1.0)
        after, before = tl.associative_scan((rest, start), 0, multiply_pairs)
        weight = tl.where(after > MIN_TRANSMITTANCE, before * alpha, 0.0)
        total += tl.sum(weight, 0)
        if NUM_FEATURES > FEATURES_AHEAD:
            values = load_features(features, rows, mask, 0, NUM_FEATURES, NUM_FEATURES)
        if HAS_COLOR:
            red, green, blue, _ = split4(quads[2])
            values = (red, green, blue) + values
        if HAS_DEPTH:
            values = values + (z,)
        sums = add_weighted(sums, weight, values)
        if HAS_MEDIAN:
            is_candidate = (weight > 0.0) & (before > 0.5)
            best = tl.max(tl.where(is_candidate, k[:, None], -1), 0)
            chosen = tl.sum(tl.where(k[:, None] == best[None, :], z[:, None], 0.0), 0)
            median = tl.where(best >= 0, chosen, median)
            position = tl.maximum(position, best)
        # It never rises along the list: the least one is the last.
        transmittance = tl.min(after, 0)
        alive = tl.max((transmittance > MIN_TRANSMITTANCE).to(tl.int32), 0)
        quads, values = next_quads, next_values
        rows, next_rows = next_rows, later_rows
        i += CHUNK
    if not IS_WHOLE:
        tl.store(ends + tile, tl.minimum(i, tl.maximum(length, 0)))

    size = width * height
    pixel = frame.to(tl.int64) * size + line * width + column
    at = line * width + column + frame.to(tl.int64) * size * COLORS
    poison = tl.where(length < 0, float("nan"), 0.0)
    checked = zero
    for c in tl.static_range(COLORS):
        value = sums[c] + poison
        checked += sums[c]
        if HAS_BACKGROUND:
            value += (1.0 - total) * tl.load(background + c)
        tl.store(image + at + c * size, value, mask=inside)
    is_bad = tl.sum((inside & ~is_finite(checked)).to(tl.int32), 0) > 0
    tl.atomic_or(counts + COUNT_PROBLEMS, BAD_FEATURES, mask=is_bad, sem="relaxed")
    tl.store(alpha_image + pixel, total + poison, mask=inside)
    if HAS_DEPTH:
        tl.store(depth_image + pixel, sums[COLORS] + poison, mask=inside)
    if HAS_MEDIAN:
        tl.store(median_image + pixel, median + poison, mask=inside)
        tl.store(positions + pixel, position.to(tl.float32), mask=inside)

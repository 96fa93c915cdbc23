"""Where the rasterizers' GPU kernels draw: bins of the image, their subtiles, lists and counters.

Primitives are listed per bin; a bin's list is split for its two subtiles, and one warp draws a
subtile; Gaussians without gradients are the exception: there a warp draws a whole bin. The bins of
a batch follow each other.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = [
    "BIN",
    "CHUNK",
    "COUNT_CHUNKS",
    "COUNT_LARGE",
    "COUNT_LONGEST",
    "COUNT_PROBLEMS",
    "MIN_ALPHA",
    "MIN_LOG2_ALPHA",
    "MIN_TRANSMITTANCE",
    "NUM_COUNTERS",
    "PIXELS",
    "SIZES",
    "SUBTILE_HEIGHT",
    "SUBTILE_WIDTH",
    "bin_origin",
    "bins_between",
    "key_of",
    "note_counters",
    "pixel_coordinates",
    "published_bins",
    "report",
    "subtile_origin",
]

BIN = tl.constexpr(8)
"""Edge in pixels of the bins that primitives are listed in."""
SUBTILE_WIDTH = tl.constexpr(8)
SUBTILE_HEIGHT = tl.constexpr(4)
"""A bin has two subtiles, one above the other."""
PIXELS = tl.constexpr(32)
CHUNK = tl.constexpr(32)
"""Primitives per trip of the raster loops: one per lane when they are fetched."""
PUBLISHED_TILE = tl.constexpr(2)
"""Edge of the published tiles in bins."""

# Counters in front of the bins' counts; four of them keep those aligned.
COUNT_LARGE = tl.constexpr(0)
COUNT_LONGEST = tl.constexpr(1)
COUNT_CHUNKS = tl.constexpr(2)
COUNT_PROBLEMS = tl.constexpr(3)
NUM_COUNTERS = tl.constexpr(4)

SIZES = ("num", "bins_x", "bins_y")
"""Arguments whose values change no code: densification must not wait for a compiler."""

MIN_ALPHA = tl.constexpr(1.0 / 255.0)
MIN_LOG2_ALPHA = tl.constexpr(-7.994353436858858)
MIN_TRANSMITTANCE = tl.constexpr(1e-4)


@jit
def bins_between(low, high, bins):
    """First and end bin with a pixel centre between two coordinates along one axis."""
    first = tl.minimum(tl.maximum(tl.ceil(low - 0.5) / BIN, 0.0), bins)
    end = tl.minimum(tl.maximum(tl.floor((high - 0.5) / BIN) + 1.0, 0.0), bins)
    return first.to(tl.int32), end.to(tl.int32)


@jit
def published_bins(center, radius, bins):
    """First and end bin of the published square along one axis (pixel centres at integers)."""
    edge: constexpr = BIN * PUBLISHED_TILE
    tiles = (bins + 1) // PUBLISHED_TILE
    low = tl.minimum(tl.maximum((center - 0.5 - radius) / edge, 0.0), tiles)
    high = tl.minimum(tl.maximum((center - 0.5 + radius + (edge - 1)) / edge, 0.0), tiles)
    return low.to(tl.int32) * PUBLISHED_TILE, high.to(tl.int32) * PUBLISHED_TILE


@jit
def report(problems, bit, is_bad):
    """Set a bit of the problem mask if any lane has the problem."""
    count = tl.sum(is_bad.to(tl.int32), 0)
    tl.atomic_or(problems, bit, mask=count > 0, sem="relaxed")


@jit(do_not_specialize=("capacity",))
def note_counters(counts, peaks, overflow_flag, capacity):
    """Raise the peaks of captured calls: longest list, (number of pairs,) problem mask.

    ``overflow_flag`` is set where the longest list exceeds the capacity.
    """
    longest = tl.load(counts + COUNT_LONGEST)
    tl.atomic_max(peaks, longest.to(tl.int64), sem="relaxed")
    tl.atomic_or(peaks + 2, tl.load(counts + COUNT_PROBLEMS).to(tl.int64), sem="relaxed")
    tl.atomic_or(overflow_flag, 1, mask=longest > capacity, sem="relaxed")


@jit
def key_of(depth, row):
    """Sort key: positive floats compare like their bits; rows break ties."""
    return (depth.to(tl.int32, bitcast=True).to(tl.int64) << 32) | row.to(tl.int64)


@jit
def bin_origin(index, bins_x, bins_y):
    """Frame and first pixel of a bin."""
    frame = index // (bins_x * bins_y)
    local = index - frame * (bins_x * bins_y)
    return frame, local % bins_x * BIN, local // bins_x * BIN


@jit
def subtile_origin(subtile, bins_x, bins_y):
    """Frame and first pixel of a subtile."""
    frame, x0, y0 = bin_origin(subtile // 2, bins_x, bins_y)
    return frame, x0, y0 + subtile % 2 * SUBTILE_HEIGHT


@jit
def pixel_coordinates(x0, y0):
    """Column and row of every pixel of a subtile."""
    p = tl.arange(0, PIXELS)
    return x0 + p % SUBTILE_WIDTH, y0 + p // SUBTILE_WIDTH

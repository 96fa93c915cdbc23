"""Lists of Gaussians per bin, and their split into lists per subtile."""

from __future__ import annotations

from vultus.kernels.gaussian_raster._gpu_layout import (
    RECORD,
    RECORD_COLOR,
    RECORD_DEPTH,
    RECORD_POWER,
)
from vultus.kernels.triton_listing import list_large_primitive, split_list
from vultus.kernels.triton_math import load4
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import COUNT_LARGE, MIN_LOG2_ALPHA, SIZES

__all__ = ["filter_lists", "list_large", "touches"]

# Bounds of log2 alpha are raised by this, and by this share of their largest terms, so that
# rounding loses no pixel.
SLACK, ROUNDING = tl.constexpr(1e-3), tl.constexpr(2e-6)


@jit
def touches(x, y, WIDTH: constexpr, HEIGHT: constexpr, power):
    """Whether a Gaussian reaches the least visible opacity at a pixel centre of a tile.

    ``x, y``: the first pixel centre. The maximum over the tile lies on the edges nearest to the
    centre, where along each of them it is that of a parabola.
    """
    center_x, center_y, xx, xy, yy, log2_opacity = power
    left, top = x - center_x, y - center_y
    right, bottom = left + (WIDTH - 1), top + (HEIGHT - 1)
    near_x = tl.minimum(tl.maximum(left, 0.0), right)
    near_y = tl.minimum(tl.maximum(top, 0.0), bottom)
    half = xy * -0.5
    best_y = tl.minimum(tl.maximum(half * near_x / tl.minimum(yy, -1e-30), top), bottom)
    best_x = tl.minimum(tl.maximum(half * near_y / tl.minimum(xx, -1e-30), left), right)
    sum_1 = xx * near_x * near_x + yy * best_y * best_y
    sum_2 = xx * best_x * best_x + yy * near_y * near_y
    power_1 = sum_1 * (1.0 - ROUNDING) + xy * near_x * best_y
    power_2 = sum_2 * (1.0 - ROUNDING) + xy * best_x * near_y
    return tl.maximum(power_1, power_2) + log2_opacity >= MIN_LOG2_ALPHA - SLACK


@jit(do_not_specialize=SIZES)
def list_large(records, counts, keys, large, num, bins_x, bins_y, capacity, LANES: constexpr):
    """List the large Gaussians: one program each, its lanes walk over the bins."""
    i = tl.program_id(0)
    count = tl.load(counts + COUNT_LARGE)
    while i < count:
        row = tl.load(large + i)
        record = records + row * RECORD
        power = (
            tl.load(record + RECORD_POWER),
            tl.load(record + RECORD_POWER + 1),
            tl.load(record + RECORD_POWER + 2),
            tl.load(record + RECORD_POWER + 3),
            tl.load(record + RECORD_DEPTH),
            tl.load(record + RECORD_DEPTH + 1),
        )
        depth = tl.load(record + RECORD_DEPTH + 2)
        corner = tl.load(record + RECORD_DEPTH + 3).to(tl.int32, bitcast=True)
        extent = tl.load(record + RECORD_COLOR + 3).to(tl.int32, bitcast=True)
        list_large_primitive(
            touches, power, corner, extent, depth, row, row // num * bins_x * bins_y, bins_x,
            counts, keys, capacity, LANES,
        )  # fmt: skip
        i += tl.num_programs(0)


@jit
def _load_power(records, row, mask):
    record = records + row * RECORD
    center_x, center_y, xx, xy = load4(record + RECORD_POWER, mask)
    yy, log2_opacity, _, _ = load4(record + RECORD_DEPTH, mask)
    return center_x, center_y, xx, xy, yy, log2_opacity


@jit(do_not_specialize=SIZES)
def filter_lists(records, counts, rows, lists, lengths, bins_x, bins_y, capacity, LANES: constexpr):
    """Split a bin's sorted list into those of its subtiles, as told in ``split_list``."""
    split_list(
        touches, _load_power, records, counts, rows, lists, lengths, bins_x, bins_y, capacity, LANES
    )

"""Lists of surfels per bin, and their split into lists per subtile."""

from __future__ import annotations

from vultus.kernels.surfel_raster._gpu_layout import (
    RECORD,
    RECORD_ALPHA,
    RECORD_COLOR,
    RECORD_ELLIPSE,
    RECORD_EXTENT,
)
from vultus.kernels.triton_listing import list_large_primitive, split_list
from vultus.kernels.triton_math import load4
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import COUNT_LARGE, SIZES

__all__ = ["filter_lists", "list_large", "touches"]

# The outline's equation is compared with 1 plus these shares of 1 and of its largest terms.
OUTLINE_SLACK, OUTLINE_ROUNDING = tl.constexpr(1.001), tl.constexpr(2e-6)


@jit
def touches(x, y, WIDTH: constexpr, HEIGHT: constexpr, outline):
    """Whether a surfel's outline or low-pass disc reaches a pixel centre of a tile.

    ``x, y``: the first pixel centre. The minimum of the outline's quadratic over the tile lies on
    the edges nearest to its centre.
    """
    ox, oy, xx, xy, yy, low_x, low_y, low_radius2 = outline
    left, top = x - ox, y - oy
    right, bottom = left + (WIDTH - 1), top + (HEIGHT - 1)
    near_x = tl.minimum(tl.maximum(left, 0.0), right)
    near_y = tl.minimum(tl.maximum(top, 0.0), bottom)
    best_y = tl.minimum(tl.maximum(-xy * near_x / yy, top), bottom)
    best_x = tl.minimum(tl.maximum(-xy * near_y / xx, left), right)
    sum_1 = xx * near_x * near_x + yy * best_y * best_y
    sum_2 = xx * best_x * best_x + yy * near_y * near_y
    value_1 = sum_1 * (1.0 - OUTLINE_ROUNDING) + 2 * xy * near_x * best_y
    value_2 = sum_2 * (1.0 - OUTLINE_ROUNDING) + 2 * xy * best_x * near_y
    low_dx = tl.minimum(tl.maximum(x - low_x, 0.0), x - low_x + (WIDTH - 1))
    low_dy = tl.minimum(tl.maximum(y - low_y, 0.0), y - low_y + (HEIGHT - 1))
    return (tl.minimum(value_1, value_2) <= OUTLINE_SLACK) | (
        low_dx * low_dx + low_dy * low_dy <= low_radius2
    )


@jit(do_not_specialize=SIZES)
def list_large(records, counts, keys, large, num, bins_x, bins_y, capacity, LANES: constexpr):
    """List the large surfels: one program each, its lanes walk over the bins."""
    i = tl.program_id(0)
    count = tl.load(counts + COUNT_LARGE)
    while i < count:
        row = tl.load(large + i)
        record = records + row * RECORD
        outline = (
            tl.load(record + RECORD_ELLIPSE),
            tl.load(record + RECORD_ELLIPSE + 1),
            tl.load(record + RECORD_ELLIPSE + 2),
            tl.load(record + RECORD_ELLIPSE + 3),
            tl.load(record + RECORD_EXTENT),
            tl.load(record + RECORD_ALPHA + 2),
            tl.load(record + RECORD_ALPHA + 3),
            tl.load(record + RECORD_EXTENT + 1),
        )
        corner = tl.load(record + RECORD_EXTENT + 2).to(tl.int32, bitcast=True)
        extent = tl.load(record + RECORD_EXTENT + 3).to(tl.int32, bitcast=True)
        list_large_primitive(
            touches, outline, corner, extent, tl.load(record + RECORD_COLOR), row,
            row // num * bins_x * bins_y, bins_x, counts, keys, capacity, LANES,
        )  # fmt: skip
        i += tl.num_programs(0)


@jit
def _load_outline(records, row, mask):
    record = records + row * RECORD
    ox, oy, xx, xy = load4(record + RECORD_ELLIPSE, mask)
    yy, low_radius2, _, _ = load4(record + RECORD_EXTENT, mask)
    _, _, low_x, low_y = load4(record + RECORD_ALPHA, mask)
    return ox, oy, xx, xy, yy, low_x, low_y, low_radius2


@jit(do_not_specialize=SIZES)
def filter_lists(records, counts, rows, lists, lengths, bins_x, bins_y, capacity, LANES: constexpr):
    """Split a bin's sorted list into those of its subtiles, as told in ``split_list``."""
    split_list(
        touches, _load_outline, records, counts, rows, lists, lengths, bins_x, bins_y, capacity,
        LANES,
    )  # fmt: skip

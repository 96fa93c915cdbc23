"""Which tiles a Gaussian touches."""

from __future__ import annotations

import math

from vultus.core.simd import kernel
from vultus.kernels import _cpu_tiles
from vultus.kernels._cpu_tiles import TILE
from vultus.kernels.gaussian_raster import _cpu_layout, _types
from vultus.kernels.gaussian_raster._cpu_layout import (
    CENTER_X,
    CENTER_Y,
    LOG2_OPACITY,
    POWER_XX,
    POWER_XY,
    POWER_YY,
    SLOPE,
)
from vultus.kernels.gaussian_raster._types import MIN_ALPHA

__all__ = ["emit_pairs"]

# Slack in log2 alpha, for the rounding of the tile loop.
_MIN_LOG2_ALPHA = math.log2(MIN_ALPHA) - 1e-4
# Rectangles of so few tiles are taken as they are: testing costs more than it saves.
_FEW_TILES = 2


@kernel(_cpu_layout.__file__, _cpu_tiles.__file__, _types.__file__)
def emit_pairs(
    start, stop, order, rects, records, tiles_x, tile_counts, pair_tiles, pair_rows, first, end,
    first_pair, end_pair,
):  # fmt: skip
    """Write a pair for every tile with a visible pixel (see ``TileLists.build``).

    The largest alpha over the box of a tile's pixel centres: on the edges that face the Gaussian's
    centre, where the centre itself is outside.
    """
    k = first
    for a in range(start, stop):
        i = order[a]
        first_pair[i] = k
        x0, x1, y0, y1 = rects[i, 0], rects[i, 1], rects[i, 2], rects[i, 3]
        is_tested = (x1 - x0) * (y1 - y0) > _FEW_TILES
        u, v = float(records[i, CENTER_X]), float(records[i, CENTER_Y])
        xx, xy = float(records[i, POWER_XX]), float(records[i, POWER_XY])
        yy = float(records[i, POWER_YY])
        slope_y = float(records[i, SLOPE])
        slope_x = -xy / (2 * yy) if yy < 0 else 0.0
        least = _MIN_LOG2_ALPHA - records[i, LOG2_OPACITY]
        for tile_y in range(y0, y1):
            low_y = tile_y * TILE + 0.5 - v
            high_y = low_y + (TILE - 1)
            near_y = min(max(0.0, low_y), high_y)
            for tile_x in range(x0, x1):
                is_hit = True
                if is_tested:
                    low_x = tile_x * TILE + 0.5 - u
                    high_x = low_x + (TILE - 1)
                    near_x = min(max(0.0, low_x), high_x)
                    best_y = min(max(slope_x * near_x, low_y), high_y)
                    best_x = min(max(slope_y * near_y, low_x), high_x)
                    on_column = xx * near_x * near_x + (xy * near_x + yy * best_y) * best_y
                    on_row = yy * near_y * near_y + (xy * near_y + xx * best_x) * best_x
                    is_hit = max(on_column, on_row) >= least
                # No branch on the hit: it would be mispredicted half of the time.
                if k < end:
                    tile = tile_y * tiles_x + tile_x
                    pair_tiles[k] = tile
                    pair_rows[k] = i
                    tile_counts[tile] += is_hit
                k += is_hit
        end_pair[i] = k
    return k - first

"""Which tiles a surfel touches."""

from __future__ import annotations

from vultus.core.simd import kernel

__all__ = ["emit_pairs"]


@kernel()
def emit_pairs(
    start, stop, order, rects, tiles_x, tile_counts, pair_tiles, pair_rows, first, end,
    first_pair, end_pair,
):  # fmt: skip
    """Write a pair for every tile of the rectangles (see ``TileLists.build``)."""
    k = first
    for a in range(start, stop):
        i = order[a]
        first_pair[i] = k
        for tile_y in range(rects[i, 2], rects[i, 3]):
            for tile_x in range(rects[i, 0], rects[i, 1]):
                if k < end:
                    tile = tile_y * tiles_x + tile_x
                    pair_tiles[k] = tile
                    pair_rows[k] = i
                    tile_counts[tile] += 1
                k += 1
        end_pair[i] = k
    return k - first

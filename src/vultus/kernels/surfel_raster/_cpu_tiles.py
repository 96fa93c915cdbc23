"""Which surfels touch which tiles, each list sorted by depth."""

from __future__ import annotations

import numpy as np

from vultus.core.simd import kernel
from vultus.kernels.surfel_raster import _cpu_layout
from vultus.kernels.surfel_raster._cpu_layout import DEPTH

__all__ = ["depth_order", "emit_pairs", "sort_pairs"]

_DIGITS = 2048
_LOW = np.uint32(_DIGITS - 1)
_SHIFT_1, _SHIFT_2 = np.uint32(11), np.uint32(22)


@kernel(_cpu_layout.__file__)
def depth_order(records, rects, order, scratch, keys):
    """List the surfels that touch a tile by ascending depth; ties keep the row order.

    Radix sort of the float bits (positive floats order like integers), three passes of 11 bits.
    """
    depth_bits = records.view(np.uint32)
    counts = np.zeros((3, _DIGITS), np.int64)
    num = 0
    for i in range(records.shape[0]):
        if rects[i, 1] > rects[i, 0]:
            key = depth_bits[i, DEPTH]
            keys[i] = key
            scratch[num] = i
            num += 1
            counts[0, key & _LOW] += 1
            counts[1, (key >> _SHIFT_1) & _LOW] += 1
            counts[2, key >> _SHIFT_2] += 1
    for digit in range(3):
        start = 0
        for j in range(_DIGITS):
            count = counts[digit, j]
            counts[digit, j] = start
            start += count
    for a in range(num):
        i = scratch[a]
        digit = keys[i] & _LOW
        order[counts[0, digit]] = i
        counts[0, digit] += 1
    for a in range(num):
        i = order[a]
        digit = (keys[i] >> _SHIFT_1) & _LOW
        scratch[counts[1, digit]] = i
        counts[1, digit] += 1
    for a in range(num):
        i = scratch[a]
        digit = keys[i] >> _SHIFT_2
        order[counts[2, digit]] = i
        counts[2, digit] += 1
    return num


@kernel()
def emit_pairs(
    order, num, rects, tiles_x, tile_counts, pair_tiles, pair_rows, first_pair, end_pair
):
    """Write (tile, surfel) pairs in depth order and count them per tile.

    A surfel's pairs are consecutive; pair k is also where its gradient will go. Returns the number
    of pairs: if it exceeds the arrays, call again with larger ones.
    """
    capacity = pair_tiles.shape[0]
    k = 0
    for a in range(num):
        i = order[a]
        first_pair[i] = k
        for tile_y in range(rects[i, 2], rects[i, 3]):
            for tile_x in range(rects[i, 0], rects[i, 1]):
                if k < capacity:
                    tile = tile_y * tiles_x + tile_x
                    pair_tiles[k] = tile
                    pair_rows[k] = i
                    tile_counts[tile] += 1
                k += 1
        end_pair[i] = k
    return k


@kernel()
def sort_pairs(num_pairs, pair_tiles, pair_rows, tile_counts, tile_starts, list_rows, list_slots):
    """Distribute the pairs to their tiles; the lists are born sorted by depth."""
    start = 0
    num_tiles = tile_counts.shape[0]
    for tile in range(num_tiles):
        tile_starts[tile] = start
        start += tile_counts[tile]
        tile_counts[tile] = tile_starts[tile]
    tile_starts[num_tiles] = start
    for k in range(num_pairs):
        tile = pair_tiles[k]
        position = tile_counts[tile]
        tile_counts[tile] = position + 1
        list_rows[position] = pair_rows[k]
        list_slots[position] = k

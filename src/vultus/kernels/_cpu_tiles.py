"""Which primitives touch which tiles, each list sorted by depth; and rows of tiles in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vultus.core.simd import cttz, helper, kernel, splat, vload, vstore

__all__ = [
    "PLANE",
    "TILE",
    "TileLists",
    "copy_row",
    "depth_order",
    "load_row",
    "published_rect",
    "tile_floor",
    "weighted_rows",
]

TILE = 16
"""Edge of a tile in pixels; one vector is one row of a tile."""
PLANE = TILE * TILE + TILE
"""Distance of a tile's planes in scratch. One row of air: planes a power of two apart share cache
sets, which made 32 channels 1.6 times slower."""

_DIGITS = 2048
_LOW = np.uint32(_DIGITS - 1)
_SHIFT_1, _SHIFT_2 = np.uint32(11), np.uint32(22)


@helper
def tile_floor(x, tiles):
    """Truncate towards zero and clamp to [0, tiles]; safe for numbers beyond the integers."""
    return int(min(max(x, 0.0), float(tiles)))


@helper
def published_rect(x, y, radius, tiles_x, tiles_y):
    """Tiles of the square around a centre whose pixel centres are at integers (3DGS)."""
    x0 = tile_floor((x - radius) / TILE, tiles_x)
    x1 = tile_floor((x + radius + TILE - 1) / TILE, tiles_x)
    y0 = tile_floor((y - radius) / TILE, tiles_y)
    y1 = tile_floor((y + radius + TILE - 1) / TILE, tiles_y)
    return x0, x1, y0, y1


@helper
def copy_row(scratch, at, image, target, cols):
    """Copy the part of a tile's row that lies inside the image."""
    if cols == TILE:
        vstore(image, target, vload(scratch, at))
    else:
        for q in range(cols):
            image[target + q] = scratch[at + q]


@helper
def load_row(image, source, cols):
    """Load a tile's row; lanes outside the image are zero."""
    if cols == TILE:
        return vload(image, source)
    row = np.zeros(TILE, np.float32)
    for q in range(cols):
        row[q] = image[source + q]
    return vload(row, 0)


@helper
def weighted_rows(scratch, visited, at_weight, at_grad):
    """Sums of weight times the gradients of three channels over the visited rows of a tile."""
    total_0, total_1, total_2 = splat(0.0), splat(0.0), splat(0.0)
    while visited != 0:
        r = cttz(visited)
        visited &= visited - 1
        weight, at = vload(scratch, at_weight + r * TILE), at_grad + r * TILE
        total_0 += weight * vload(scratch, at)
        total_1 += weight * vload(scratch, at + PLANE)
        total_2 += weight * vload(scratch, at + 2 * PLANE)
    return total_0, total_1, total_2


@kernel()
def depth_order(depth_bits, rects, order, scratch, keys):
    """List the primitives that touch a tile by ascending depth; ties keep the row order.

    Radix sort of the float bits (positive floats order like integers), three passes of 11 bits.
    """
    counts = np.zeros((3, _DIGITS), np.int64)
    num = 0
    for i in range(depth_bits.shape[0]):
        if rects[i, 1] > rects[i, 0]:
            key = depth_bits[i]
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
def _sort_pairs(num_pairs, pair_tiles, pair_rows, tile_counts, tile_starts, list_rows, list_slots):
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


class TileLists:
    """Lists of the primitives of every tile of one image, and the buffers to build them.

    The list of tile t is ``rows[starts[t] : starts[t + 1]]``. A primitive's (tile, primitive) pairs
    are consecutive, from ``first_pair`` to ``end_pair``; ``slots`` says which pair a list entry is,
    which is also where its gradient goes.
    """

    def __init__(self, num: int, width: int, height: int) -> None:
        """Make room for ``num`` primitives and images of one size."""
        self.tiles_x = -(-width // TILE)
        tiles = self.tiles_x * -(-height // TILE)
        self.rects = np.zeros((num, 4), np.int16)
        """x0, x1, y0, y1 of the touched tiles, empty where x1 <= x0; to be filled in."""
        self.first_pair, self.end_pair = np.zeros(num, np.int32), np.zeros(num, np.int32)
        self.starts, self.ends = np.zeros(tiles + 1, np.int32), np.zeros(tiles, np.int32)
        """``ends``: where the forward pass stopped reading a tile's list; to be filled in."""
        self._order, self._scratch = np.zeros(num, np.int32), np.zeros(num, np.int32)
        self._keys, self._counts = np.zeros(num, np.uint32), np.zeros(tiles, np.int32)
        self._reserve(4 * num)

    def _reserve(self, capacity: int) -> None:
        """Make room for pairs; what was there is lost."""
        self.capacity = capacity
        self._pair_tiles = np.zeros(capacity, np.int32)
        self._pair_rows = np.zeros(capacity, np.int32)
        self.rows, self.slots = np.zeros(capacity, np.int32), np.zeros(capacity, np.int32)

    def build(self, depths: NDArray[np.float32], emit: Any, *records: Any) -> None:
        """Fill the lists.

        Args:
            depths: Positive.
            emit: Kernel ``(order, num, rects, *records, tiles_x, counts, pair_tiles, pair_rows,
                first_pair, end_pair)`` that writes the pairs in the order of the first ``num``
                entries of ``order``, counts them per tile and returns their number; it is called
                again with larger arrays if it exceeds them.
            records: What ``emit`` wants to know beside the rectangles.
        """
        num = depth_order(
            depths.view(np.uint32), self.rects, self._order, self._scratch, self._keys
        )
        while True:
            self._counts[:] = 0
            pairs = emit(
                self._order, num, self.rects, *records, self.tiles_x, self._counts,
                self._pair_tiles, self._pair_rows, self.first_pair, self.end_pair,
            )  # fmt: skip
            if pairs <= self.capacity:
                break
            self._reserve(pairs * 5 // 4)
        _sort_pairs(
            pairs, self._pair_tiles, self._pair_rows, self._counts, self.starts,
            self.rows, self.slots,
        )  # fmt: skip

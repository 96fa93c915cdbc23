"""Which primitives touch which tiles, each list sorted by depth; and rows of tiles in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vultus.core.simd import cttz, helper, kernel, run_chunks, splat, vload, vstore

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

# Waking another thread takes as long as listing some thousand primitives.
_PRIMITIVES_PER_WORKER = 8192
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
def _start_lists(counts, starts):
    """Turn counts per worker and tile into where the worker's part of the tile's list starts."""
    start = 0
    for tile in range(counts.shape[1]):
        starts[tile] = start
        for worker in range(counts.shape[0]):
            count = counts[worker, tile]
            counts[worker, tile] = start
            start += count
    starts[counts.shape[1]] = start


@kernel()
def _sort_pairs(start, stop, pair_tiles, pair_rows, positions, list_rows, list_slots):
    """Distribute pairs to their tiles; the lists are born sorted by depth."""
    for k in range(start, stop):
        tile = pair_tiles[k]
        position = positions[tile]
        positions[tile] = position + 1
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
        self._keys = np.zeros(num, np.uint32)
        self._reserve(4 * num)

    def _reserve(self, capacity: int) -> None:
        """Make room for pairs; what was there is lost."""
        self.capacity = capacity
        self._pair_tiles = np.zeros(capacity, np.int32)
        self._pair_rows = np.zeros(capacity, np.int32)
        self.rows, self.slots = np.zeros(capacity, np.int32), np.zeros(capacity, np.int32)

    def build(
        self, max_workers: int, depths: NDArray[np.float32], emit: Any, *records: Any
    ) -> None:
        """Fill the lists.

        Every worker writes the pairs of a part of the depth order to a part of the buffers.

        Args:
            max_workers: Threads; small scenes take fewer.
            depths: Positive.
            emit: Kernel ``(start, stop, order, rects, *records, tiles_x, counts, pair_tiles,
                pair_rows, first, end, first_pair, end_pair)`` that writes the pairs of
                ``order[start:stop]`` in that order, from ``first`` up to ``end``, counts them per
                tile and returns their number; it is called again with more room if it needs it.
            records: What ``emit`` wants to know beside the rectangles.
        """
        num = depth_order(
            depths.view(np.uint32), self.rects, self._order, self._scratch, self._keys
        )
        workers = min(max_workers, 1 + num // _PRIMITIVES_PER_WORKER)
        edges = [num * j // workers for j in range(workers + 1)]
        sizes = [0] * workers
        while True:
            counts = np.zeros((workers, len(self.ends)), np.int32)
            room = self.capacity // workers

            def emit_part(part: int, _: int, counts: Any = counts, room: int = room) -> None:
                sizes[part] = emit(
                    edges[part], edges[part + 1], self._order, self.rects, *records, self.tiles_x,
                    counts[part], self._pair_tiles, self._pair_rows, part * room,
                    (part + 1) * room, self.first_pair, self.end_pair,
                )  # fmt: skip

            run_chunks(workers, emit_part, workers)
            if max(sizes) <= room:
                break
            self._reserve(workers * (max(sizes) * 5 // 4))
        _start_lists(counts, self.starts)

        def sort_part(part: int, _: int) -> None:
            _sort_pairs(
                part * room, part * room + sizes[part], self._pair_tiles, self._pair_rows,
                counts[part], self.rows, self.slots,
            )  # fmt: skip

        run_chunks(workers, sort_part, workers)

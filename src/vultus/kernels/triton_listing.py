"""Lists of the primitives that touch bins, and their subtiles, for both rasterizers.

The projection lists most of them, in order of arrival: the bins of a warp's primitives are dealt
out to its lanes, so that none waits for one with many. Those of very many bins, which would keep
one warp busy when all others are through, get a program of their own afterwards.

A rasterizer gives a function: whether an outline, some numbers that it knows, touches a tile of
``WIDTH`` by ``HEIGHT`` pixels with its first pixel centre at (x, y).
"""

# ruff: noqa: RUF005 -- Triton unpacks no tuples.
from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import (
    BIN,
    COUNT_LARGE,
    NUM_COUNTERS,
    SUBTILE_HEIGHT,
    SUBTILE_WIDTH,
    bin_origin,
    key_of,
)

__all__ = ["list_large_primitive", "list_primitives", "split_list"]

# A lane's bins at a time, which keep as many atomic operations in flight.
TRIPS = tl.constexpr(4)


@jit
def _find_bin(touches: constexpr, outline, j, x0, y0, columns, first_bin, bins_x):
    """Whether an outline touches the j-th bin of its rectangle, and the bin's number."""
    bin_x, bin_y = x0 + j % columns, y0 + j // columns
    x, y = bin_x.to(tl.float32) * BIN + 0.5, bin_y.to(tl.float32) * BIN + 0.5
    return touches(x, y, BIN, BIN, outline), first_bin + bin_y * bins_x + bin_x


@jit
def _take_slot(is_hit, index, counts):
    """Lengthen the lists of bins; returns where on them the new keys belong.

    ``counts``: the counters, then one count per bin, which keeps growing beyond the capacity.
    """
    return tl.atomic_add(counts + NUM_COUNTERS + index, 1, mask=is_hit, sem="relaxed")


@jit
def _put_key(is_hit, index, slot, key, keys, capacity):
    """Put keys on the lists of bins; those beyond the capacity are dropped."""
    target = keys + index.to(tl.int64) * capacity + slot
    tl.store(target, key, mask=is_hit & (slot < capacity))


@jit
def _owners(ends, items, LANES: constexpr):
    """Which lane's share items belong to, where shares follow each other and end at ``ends``."""
    lane = tl.zeros([LANES], tl.int32)
    step: constexpr = LANES // 2
    for bit in tl.static_range(LANES.bit_length() - 1):
        probe = lane + (step >> bit)
        lane = tl.where(tl.gather(ends, probe - 1, 0) <= items, probe, lane)
    return lane


@jit
def _take(values, lanes):
    """Values of other lanes."""
    taken = ()
    for v in tl.static_range(len(values)):
        taken = taken + (tl.gather(values[v], lanes, 0),)
    return taken


@jit
def list_primitives(
    touches: constexpr, outline, rectangle, depth, first_row, first_bin, bins_x,
    counts, large, keys, capacity, MANY: constexpr, LANES: constexpr,
):  # fmt: skip
    """List the primitives of a warp's lanes; those of more than ``MANY`` bins become large ones.

    Args:
        touches: As told above.
        outline: Of every lane.
        rectangle: First bin across and down, number of bins across and down.
        depth: Of every lane.
        first_row: Row of the first lane.
        first_bin: Of the frame.
        bins_x: Bins across the frame.
        counts: The counters of `triton_tiles`, then one count per bin.
        large: Receives the rows of large primitives.
        keys: The bins' segments.
        capacity: Keys per bin.
        MANY: Bins that a lane's primitive may have here.
        LANES: Of the warp.
    """
    x0, y0, wide, high = rectangle
    lane = tl.arange(0, LANES)
    num = wide * high
    is_large = num > MANY
    slot = tl.atomic_add(counts + COUNT_LARGE + lane * 0, 1, mask=is_large, sem="relaxed")
    tl.store(large + slot, first_row + lane, mask=is_large)
    num = tl.where(is_large, 0, num)
    ends, total = tl.cumsum(num, 0), tl.sum(num, 0)
    shares = (ends - num, x0, y0, tl.maximum(wide, 1), depth)
    j = 0
    while j < total:
        hits, bins, slots, pair_keys = (), (), (), ()
        for k in tl.static_range(TRIPS):
            pair = j + k * LANES + lane
            owner = _owners(ends, pair, LANES)
            start, corner_x, corner_y, columns, pair_depth = _take(shares, owner)
            is_hit, index = _find_bin(
                touches, _take(outline, owner), pair - start, corner_x, corner_y, columns,
                first_bin, bins_x,
            )  # fmt: skip
            is_hit = is_hit & (pair < total)
            hits, bins = hits + (is_hit,), bins + (index,)
            slots = slots + (_take_slot(is_hit, index, counts),)
            pair_keys = pair_keys + (key_of(pair_depth, first_row + owner),)
        for k in tl.static_range(TRIPS):
            _put_key(hits[k], bins[k], slots[k], pair_keys[k], keys, capacity)
        j += TRIPS * LANES


@jit
def list_large_primitive(
    touches: constexpr, outline, corner, extent, depth, row, first_bin, bins_x, counts, keys,
    capacity, LANES: constexpr,
):  # fmt: skip
    """List one primitive: the program's lanes walk over its bins.

    ``corner``, ``extent``: its first bin, and how many, across in the lower 16 bits.
    """
    wide = extent & 0xFFFF
    touched = wide * (extent >> 16)
    key = key_of(depth, row) + tl.zeros([LANES], tl.int64)
    j = 0
    while j < touched:
        k = j + tl.arange(0, LANES)
        is_hit, index = _find_bin(
            touches, outline, k, corner & 0xFFFF, corner >> 16, wide, first_bin, bins_x
        )
        is_hit = is_hit & (k < touched)
        _put_key(is_hit, index, _take_slot(is_hit, index, counts), key, keys, capacity)
        j += LANES


@jit
def split_list(
    touches: constexpr, load_outline: constexpr, records, counts, rows, lists, lengths,
    bins_x, bins_y, capacity, LANES: constexpr,
):  # fmt: skip
    """Split a bin's sorted list into those of its subtiles; the order is kept.

    Args:
        touches: As told above.
        load_outline: Loads the outlines of rows from the records, where a mask says.
        records: Of all primitives.
        counts: As for ``list_primitives``.
        rows: The sorted keys' segments, whose first halves hold rows.
        lists: Receives rows, in a segment per subtile.
        lengths: Receives their numbers. A list that did not fit gets -1: what was kept of it is
            arbitrary.
        bins_x: Bins across a frame.
        bins_y: Bins down a frame.
        capacity: Keys per bin, and rows per subtile.
        LANES: Rows at a time.
    """
    index = tl.program_id(0)
    count = tl.load(counts + NUM_COUNTERS + index)
    upper, lower = 0, 0
    if count > capacity:
        upper, lower = -1, -1
    else:
        _, left, top = bin_origin(index, bins_x, bins_y)
        x, y = left.to(tl.float32) + 0.5, top.to(tl.float32) + 0.5
        source = rows + index.to(tl.int64) * capacity * 2
        target = lists + index.to(tl.int64) * capacity * 2
        i = 0
        while i < count:
            k = i + tl.arange(0, LANES)
            mask = k < count
            row = tl.load(source + k, mask=mask, other=0)
            outline = load_outline(records, row, mask)
            is_hit = mask & touches(x, y, SUBTILE_WIDTH, SUBTILE_HEIGHT, outline)
            upper = _append(target, upper, row, is_hit)
            is_hit = mask & touches(x, y + SUBTILE_HEIGHT, SUBTILE_WIDTH, SUBTILE_HEIGHT, outline)
            lower = _append(target + capacity, lower, row, is_hit)
            i += LANES
    tl.store(lengths + 2 * index, upper)
    tl.store(lengths + 2 * index + 1, lower)


@jit
def _append(target, length, row, is_hit):
    hit = is_hit.to(tl.int32)
    tl.store(target + length + tl.cumsum(hit, 0) - hit, row, mask=is_hit)
    return length + tl.sum(hit, 0)

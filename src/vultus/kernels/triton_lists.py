"""Sorting of the per-bin lists that the rasterizers blend, front to back.

A bin owns ``capacity`` 64-bit keys (depth bits above, row below), in order of arrival, and twice as
many 32-bit words of scratch. Lists are short and almost all of their keys share the upper depth
bits, so a network sorts 32-bit words: depth above the list's nearest one, then the position of
arrival. Pairs of equal depth, which some lists of every scene contain, are then ordered by row.
Where more depths are equal, their range is too large or the list too long for the networks, rows
are ranked by counting smaller keys: the result never depends on the order of arrival.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, is_interpreted, jit, tl
from vultus.kernels.triton_tiles import COUNT_LONGEST, NUM_COUNTERS

__all__ = ["LARGEST_NETWORK", "largest_network", "sort_lists"]

LARGEST_NETWORK = 2048
"""Larger networks take minutes to compile; counting takes quadratic time, but no more memory."""

_RANK_ROWS, _RANK_COLUMNS = tl.constexpr(128), tl.constexpr(16)


def largest_network(capacity: int) -> int:
    """The largest sorting network that lists of this capacity need; none in the interpreter.

    The interpreter compares one by one, and counting is faster there.
    """
    return 0 if is_interpreted() else max(256, min(capacity, LARGEST_NETWORK))


@jit
def _order_twins(words, scratch, start, count, k, mask, word, row, BITS: constexpr):
    """Order pairs of equal depth by row; ``word`` and ``row`` are sorted by depth.

    Returns 1, or 0 where more than two depths are equal.
    """
    tl.store(scratch + k, word.to(tl.int32, bitcast=True), mask=mask)
    tl.store(scratch + count + k, row, mask=mask)
    tl.debug_barrier()
    has_next, has_previous = k + 1 < count, mask & (k > 0)
    after = tl.load(scratch + k + 1, mask=has_next, other=0).to(tl.uint32, bitcast=True)
    before = tl.load(scratch + k - 1, mask=has_previous, other=0).to(tl.uint32, bitcast=True)
    is_first = has_next & ((after >> BITS) == (word >> BITS))
    is_second = has_previous & ((before >> BITS) == (word >> BITS))
    row_after = tl.load(scratch + count + k + 1, mask=is_first, other=0x7FFFFFFF)
    row_before = tl.load(scratch + count + k - 1, mask=is_second, other=0)
    row = tl.maximum(tl.minimum(row, row_after), row_before)
    is_sorted = (tl.sum((is_first & is_second).to(tl.int32), 0) == 0).to(tl.int32)
    if is_sorted > 0:
        tl.store(words + 2 * start + k, row, mask=mask)
    return is_sorted


@jit
def _sort_by_network(words, scratch, start, count, SIZE: constexpr, BITS: constexpr):
    """Sort ``count <= SIZE = 2^BITS`` keys; the rows take the front of the segment.

    Returns 1, or 0 where keys were left as they are because depths alone do not order them.
    """
    k = tl.arange(0, SIZE)
    mask = k < count
    depth = tl.load(words + 2 * (start + k) + 1, mask=mask, other=0x7FFFFFFF)
    nearest = tl.min(depth, 0)
    span = tl.max(tl.where(mask, depth - nearest, 0), 0)
    is_sorted = 0
    if span < (1 << (32 - BITS)) - 1:
        word = ((depth - nearest).to(tl.uint32) << BITS) | k.to(tl.uint32)
        word = tl.sort(tl.where(mask, word, 0xFFFFFFFF))
        row = tl.load(words + 2 * (start + (word & (SIZE - 1)).to(tl.int64)), mask=mask, other=0)
        is_sorted = _order_twins(words, scratch, start, count, k, mask, word, row, BITS)
    return is_sorted


@jit
def _sort_by_rank(keys, words, scratch, start, count):
    """Put every row at the number of smaller keys."""
    tl.debug_barrier()
    i = 0
    while i < count:
        k = i + tl.arange(0, _RANK_ROWS)
        mask = k < count
        key = tl.load(keys + start + k, mask=mask, other=0)
        rank = tl.zeros([_RANK_ROWS], tl.int32)
        j = 0
        while j < count:
            other_at = j + tl.arange(0, _RANK_COLUMNS)
            other = tl.load(
                keys + start + other_at, mask=other_at < count, other=0x7FFFFFFFFFFFFFFF
            )
            rank += tl.sum((other[None, :] < key[:, None]).to(tl.int32), 1)
            j += _RANK_COLUMNS
        tl.store(scratch + rank, (key & 0xFFFFFFFF).to(tl.int32), mask=mask)
        i += _RANK_ROWS
    tl.debug_barrier()
    i = 0
    while i < count:
        k = i + tl.arange(0, _RANK_ROWS)
        row = tl.load(scratch + k, mask=k < count, other=0)
        tl.store(words + 2 * start + k, row, mask=k < count)
        i += _RANK_ROWS


@jit
def sort_lists(keys, words, scratch, counts, capacity, LARGEST: constexpr):
    """Sort the list of every bin; one program each picks the smallest network that holds it.

    Args:
        keys: One segment of ``capacity`` 64-bit keys per bin.
        words: The same memory as 32-bit words; on return a segment starts with the sorted rows.
        scratch: Two 32-bit words per key.
        counts: The counters of `triton_tiles`, of which one receives the length of lists beyond
            half of the capacity; then the length of every list. One beyond the capacity is left as
            it is.
        capacity: Keys per bin.
        LARGEST: Size of the largest network to compile; 0 for none.
    """
    index = tl.program_id(0)
    count = tl.load(counts + NUM_COUNTERS + index)
    start = index.to(tl.int64) * capacity
    tl.atomic_max(counts + COUNT_LONGEST, count, mask=2 * count > capacity, sem="relaxed")
    scratch += 2 * start
    if (count > 1) & (count <= capacity):
        is_sorted = 0
        if LARGEST >= 256:
            if count <= 256:
                is_sorted = _sort_by_network(words, scratch, start, count, 256, 8)
        if LARGEST >= 512:
            if (count > 256) & (count <= 512):
                is_sorted = _sort_by_network(words, scratch, start, count, 512, 9)
        if LARGEST >= 1024:
            if (count > 512) & (count <= 1024):
                is_sorted = _sort_by_network(words, scratch, start, count, 1024, 10)
        if LARGEST >= 2048:
            if (count > 1024) & (count <= 2048):
                is_sorted = _sort_by_network(words, scratch, start, count, 2048, 11)
        if is_sorted == 0:
            _sort_by_rank(keys, words, scratch, start, count)

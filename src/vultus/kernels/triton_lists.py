"""Sorting of the per-bin lists that the rasterizers blend, front to back.

A bin owns ``capacity`` 64-bit keys (depth bits above, row below), in order of arrival, and twice as
many 32-bit words of scratch. Lists are short and almost all of their keys share the upper depth
bits, so a list is sorted by 32-bit words: depth above the list's nearest one, then the position of
arrival. Where depths are equal or the range is too large the whole key decides: the order never
depends on the order of arrival.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["LARGEST_NETWORK", "largest_network", "sort_lists"]

LARGEST_NETWORK = 4096
"""Longer lists are ranked by counting, which takes quadratic time but no more memory."""

_RANK_ROWS, _RANK_COLUMNS = tl.constexpr(128), tl.constexpr(32)


def largest_network(capacity: int) -> int:
    """The largest sorting network that lists of this capacity need."""
    return max(256, min(capacity, LARGEST_NETWORK))


@jit
def _sort_by_network(words, scratch, start, count, SIZE: constexpr, BITS: constexpr):
    """Sort ``count <= SIZE = 2^BITS`` keys; the rows take the front of the segment."""
    k = tl.arange(0, SIZE)
    mask = k < count
    depth = tl.load(words + 2 * (start + k) + 1, mask=mask, other=0x7FFFFFFF)
    nearest = tl.min(depth, 0)
    span = tl.max(tl.where(mask, depth - nearest, 0), 0)
    is_short = 0
    if span < (1 << (32 - BITS)) - 1:
        word = tl.where(
            mask, ((depth - nearest).to(tl.uint32) << BITS) | k.to(tl.uint32), 0xFFFFFFFF
        )
        word = tl.sort(word)
        # Equal depths must not stay in the order of arrival: compare with the next neighbour.
        tl.store(scratch + k, word.to(tl.int32, bitcast=True), mask=mask)
        row = tl.load(words + 2 * (start + (word & (SIZE - 1)).to(tl.int64)), mask=mask, other=0)
        tl.debug_barrier()
        follower = tl.load(scratch + k + 1, mask=k + 1 < count, other=-1)
        follower = follower.to(tl.uint32, bitcast=True)
        is_tie = mask & (k + 1 < count) & ((follower >> BITS) == (word >> BITS))
        is_short = (tl.sum(is_tie.to(tl.int32), 0) == 0).to(tl.int32)
        if is_short > 0:
            tl.store(words + 2 * start + k, row, mask=mask)
    if is_short == 0:
        row = tl.load(words + 2 * (start + k), mask=mask, other=0x7FFFFFFF)
        key = tl.sort((depth.to(tl.int64) << 32) | row.to(tl.int64))
        tl.debug_barrier()
        tl.store(words + 2 * start + k, (key & 0xFFFFFFFF).to(tl.int32), mask=mask)


@jit
def _sort_by_rank(keys, words, scratch, start, count):
    """Put every row at the number of smaller keys; for lists beyond the networks."""
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
def sort_lists(keys, words, scratch, counts, longest, capacity, LARGEST: constexpr):
    """Sort the list of every bin; one program each picks the smallest network that holds it.

    Args:
        keys: One segment of ``capacity`` 64-bit keys per bin.
        words: The same memory as 32-bit words; on return a segment starts with the sorted rows.
        scratch: Two 32-bit words per key.
        counts: Length of every list; one beyond the capacity is left as it is.
        longest: Counter that receives the length of lists beyond half of the capacity.
        capacity: Keys per bin.
        LARGEST: Size of the largest network to compile.
    """
    index = tl.program_id(0)
    count = tl.load(counts + index)
    start = index.to(tl.int64) * capacity
    tl.atomic_max(longest, count, mask=2 * count > capacity, sem="relaxed")
    scratch += 2 * start
    if (count > 1) & (count <= capacity):
        if count <= 256:
            _sort_by_network(words, scratch, start, count, 256, 8)
        elif count <= 512:
            _sort_by_network(words, scratch, start, count, 512, 9)
        elif count <= 1024:
            _sort_by_network(words, scratch, start, count, 1024, 10)
        else:
            if LARGEST >= 2048:
                if count <= 2048:
                    _sort_by_network(words, scratch, start, count, 2048, 11)
            if LARGEST >= 4096:
                if (count > 2048) & (count <= 4096):
                    _sort_by_network(words, scratch, start, count, 4096, 12)
                if count > 4096:
                    _sort_by_rank(keys, words, scratch, start, count)

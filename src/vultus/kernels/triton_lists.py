"""Sorting of the per-bin lists that the rasterizers blend, front to back.

A bin owns ``capacity`` 64-bit keys (depth bits above, row below), in order of arrival, and twice as
many 32-bit words of scratch. Lists are short and almost all of their keys share the upper depth
bits, so a network sorts 32-bit words: depth above the list's nearest one, then the position of
arrival. Pairs of equal depth, which some lists of every scene contain, are then ordered by row.
Where more depths are equal or their range is too large, whole keys are sorted by merging: the
result never depends on the order of arrival.

Lists that are too long for the networks are sorted in chunks, by as many programs, and then merged:
a key goes to the number of smaller ones in all chunks.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, is_interpreted, jit, tl
from vultus.kernels.triton_tiles import COUNT_CHUNKS, COUNT_LONGEST, NUM_COUNTERS

__all__ = [
    "LARGEST_NETWORK",
    "largest_network",
    "merge_chunks",
    "sort_chunks",
    "sort_lists",
]

LARGEST_NETWORK = 1024
"""Larger networks take long to compile, from 18 seconds on; longer lists are sorted in chunks."""

_TILE, _COLUMNS = tl.constexpr(128), tl.constexpr(16)
_LAST = tl.constexpr(0x7FFFFFFFFFFFFFFF)


def largest_network(capacity: int) -> int:
    """The largest sorting network that lists of this capacity need; none in the interpreter.

    The interpreter compares one by one, and merging is faster there.
    """
    return 0 if is_interpreted() else max(256, min(capacity, LARGEST_NETWORK))


@jit
def _order_twins(scratch, count, k, mask, word, row, SIZE: constexpr, BITS: constexpr):
    """Order pairs of equal depth by row; ``word`` and ``row`` are sorted by depth.

    Returns the rows; and 1, or 0 where more than two depths are equal.
    """
    after = tl.gather(word, tl.minimum(k + 1, SIZE - 1), 0)
    is_first = (k + 1 < count) & ((after >> BITS) == (word >> BITS))
    is_sorted = 1
    # Few lists have any.
    if tl.max(is_first.to(tl.int32), 0) > 0:
        tl.store(scratch + k, row, mask=mask)
        before = tl.gather(word, tl.maximum(k - 1, 0), 0)
        is_second = mask & (k > 0) & ((before >> BITS) == (word >> BITS))
        tl.debug_barrier()
        row_after = tl.load(scratch + k + 1, mask=is_first, other=0x7FFFFFFF)
        row_before = tl.load(scratch + k - 1, mask=is_second, other=0)
        row = tl.maximum(tl.minimum(row, row_after), row_before)
        is_sorted = (tl.sum((is_first & is_second).to(tl.int32), 0) == 0).to(tl.int32)
    return row, is_sorted


@jit
def _sort_by_network(
    words, scratch, start, count, SIZE: constexpr, BITS: constexpr, AS_KEYS: constexpr
):  # fmt: skip
    """Sort ``count <= SIZE = 2^BITS`` keys; the rows take the front of the segment.

    With ``AS_KEYS`` whole keys take the scratch memory instead. Returns 1, or 0 where keys were
    left as they are because depths alone do not order them.
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
        row, is_sorted = _order_twins(scratch, count, k, mask, word, row, SIZE, BITS)
        if is_sorted > 0:
            # Other lanes may still be reading what is overwritten here.
            tl.debug_barrier()
            if AS_KEYS:
                depth = nearest + (word >> BITS).to(tl.int32)
                tl.store(scratch + 2 * k, row, mask=mask)
                tl.store(scratch + 2 * k + 1, depth, mask=mask)
            else:
                tl.store(words + 2 * start + k, row, mask=mask)
    return is_sorted


@jit
def _sort_tiles(keys, target, count):
    """Sort every tile of keys into ``target``: a key goes to the number of smaller ones."""
    i = 0
    while i < count:
        k = tl.arange(0, _TILE)
        key = tl.load(keys + i + k, mask=i + k < count, other=_LAST)
        rank = tl.zeros([_TILE], tl.int32)
        for j in range(0, _TILE, _COLUMNS):
            at = i + j + tl.arange(0, _COLUMNS)
            other = tl.load(keys + at, mask=at < count, other=_LAST)
            rank += tl.sum((other[None, :] < key[:, None]).to(tl.int32), 1)
        tl.store(target + i + rank, key, mask=i + k < count)
        i += _TILE
    tl.debug_barrier()


@jit
def _merge_runs(keys, target, count, width):
    """Merge pairs of sorted runs: a key goes past all smaller ones of the other run."""
    i = 0
    while i < count:
        k = i + tl.arange(0, _TILE)
        key = tl.load(keys + k, mask=k < count, other=_LAST)
        run = i // width
        other_run = (run ^ 1) * width
        found = tl.zeros([_TILE], tl.int32)
        step = width
        while step > 0:
            probe = found + step
            is_inside = (probe <= width) & (other_run + probe <= count)
            other = tl.load(keys + other_run + probe - 1, mask=is_inside, other=_LAST)
            found = tl.where(other < key, probe, found)
            step = step // 2
        rank = k - (run & 1) * width + found
        tl.store(target + rank, key, mask=k < count)
        i += _TILE
    tl.debug_barrier()


@jit
def _sort_by_merging(keys, scratch, count):
    """Sort ``count`` keys, any number, into the scratch memory, which holds as many."""
    other = scratch.to(tl.pointer_type(tl.int64), bitcast=True)
    tl.debug_barrier()
    _sort_tiles(keys, other, count)
    width = _TILE
    while width < count:
        _merge_runs(other, keys, count, width)
        _merge_runs(keys, other, count, 2 * width)
        width *= 4


@jit
def _store_rows(words, scratch, count):
    """Put the rows of sorted keys to the front of the segment."""
    keys = scratch.to(tl.pointer_type(tl.int64), bitcast=True)
    i = 0
    while i < count:
        k = i + tl.arange(0, _TILE)
        key = tl.load(keys + k, mask=k < count, other=0)
        tl.store(words + k, (key & 0xFFFFFFFF).to(tl.int32), mask=k < count)
        i += _TILE


@jit
def sort_lists(
    keys, words, scratch, counts, chunks, capacity, LARGEST: constexpr, CHUNK: constexpr
):  # fmt: skip
    """Sort the list of every bin; one program each picks the smallest network that holds it.

    Args:
        keys: One segment of ``capacity`` 64-bit keys per bin.
        words: The same memory as 32-bit words; on return a segment starts with the sorted rows.
        scratch: Two 32-bit words per key.
        counts: The counters of `triton_tiles`, of which one receives the length of lists beyond
            half of the capacity, another the number of chunks; then the length of every list. One
            beyond the capacity is left as it is.
        chunks: Receives the chunks of lists that are longer than one: numbers of ``_chunk``.
        capacity: Keys per bin.
        LARGEST: Size of the largest network to compile; 0 for none.
        CHUNK: Keys of a chunk; 0 sorts long lists here.
    """
    index = tl.program_id(0)
    count = tl.load(counts + NUM_COUNTERS + index)
    start = index.to(tl.int64) * capacity
    tl.atomic_max(counts + COUNT_LONGEST, count, mask=2 * count > capacity, sem="relaxed")
    scratch += 2 * start
    if (count > 1) & (count <= capacity):
        is_sorted = 0
        if LARGEST >= 256:
            if count <= 128:
                is_sorted = _sort_by_network(words, scratch, start, count, 128, 7, False)
            if (count > 128) & (count <= 256):
                is_sorted = _sort_by_network(words, scratch, start, count, 256, 8, False)
        if LARGEST >= 512:
            if (count > 256) & (count <= 512):
                is_sorted = _sort_by_network(words, scratch, start, count, 512, 9, False)
        if LARGEST >= 1024:
            if (count > 512) & (count <= 1024):
                is_sorted = _sort_by_network(words, scratch, start, count, 1024, 10, False)
        if CHUNK > 0:
            if count > CHUNK:
                num = (count + CHUNK - 1) // CHUNK
                slot = tl.atomic_add(counts + COUNT_CHUNKS, num, sem="relaxed")
                first = index * ((capacity + CHUNK - 1) // CHUNK)
                for j in range(num):
                    tl.store(chunks + slot + j, first + j)
                is_sorted = 1
        if is_sorted == 0:
            _sort_by_merging(keys + start, scratch, count)
            _store_rows(words + 2 * start, scratch, count)


@jit
def _chunk(chunks, counts, i, capacity, CHUNK: constexpr):
    """The i-th chunk: first key of its list, length of the list, first key within the list."""
    per_list = (capacity + CHUNK - 1) // CHUNK
    number = tl.load(chunks + i)
    index = number // per_list
    count = tl.load(counts + NUM_COUNTERS + index)
    return index.to(tl.int64) * capacity, count, (number - index * per_list) * CHUNK


@jit
def sort_chunks(keys, words, scratch, counts, chunks, capacity, CHUNK: constexpr, BITS: constexpr):
    """Sort the chunks of long lists into the scratch memory; any number of programs.

    Args: those of ``sort_lists``; ``CHUNK = 2^BITS``.
    """
    i = tl.program_id(0)
    num = tl.load(counts + COUNT_CHUNKS)
    while i < num:
        start, count, first = _chunk(chunks, counts, i, capacity, CHUNK)
        start += first
        size = tl.minimum(count - first, CHUNK)
        own = scratch + 2 * start
        if _sort_by_network(words, own, start, size, CHUNK, BITS, True) == 0:
            _sort_by_merging(keys + start, own, size)
        # The next chunk is another part of the memory, but shares what sorting exchanges.
        tl.debug_barrier()
        i += tl.num_programs(0)


@jit
def merge_chunks(words, scratch, counts, chunks, capacity, CHUNK: constexpr, BITS: constexpr):
    """Merge the sorted chunks of long lists; the rows take the front of the segments.

    Args: those of ``sort_lists``; ``CHUNK = 2^BITS``.
    """
    i = tl.program_id(0)
    num = tl.load(counts + COUNT_CHUNKS)
    while i < num:
        start, count, first = _chunk(chunks, counts, i, capacity, CHUNK)
        keys = scratch.to(tl.pointer_type(tl.int64), bitcast=True) + start
        k = tl.arange(0, CHUNK)
        mask = first + k < count
        key = tl.load(keys + first + k, mask=mask, other=_LAST)
        rank = k
        other = 0
        while other < count:
            if other != first:
                size = tl.minimum(count - other, CHUNK)
                found = tl.zeros([CHUNK], tl.int32)
                for bit in tl.static_range(BITS + 1):
                    probe = found + (CHUNK >> bit)
                    value = tl.load(keys + other + probe - 1, mask=probe <= size, other=_LAST)
                    found = tl.where(value < key, probe, found)
                rank += found
            other += CHUNK
        row = (key & 0xFFFFFFFF).to(tl.int32)
        tl.store(words + 2 * start + rank, row, mask=mask)
        i += tl.num_programs(0)

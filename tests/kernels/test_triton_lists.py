"""Sorting of per-bin lists, by networks and by merging."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from triton_support import is_interpreting, triton_device

pytestmark = pytest.mark.triton


def sort(
    lists: list[Tensor], capacity: int, largest: int, bits: int = 0
) -> tuple[list[Tensor], int]:
    """Sort lists of 64-bit keys on the device; returns rows, and the longest length reported.

    With ``bits``, longer lists are sorted in chunks of 2^bits.
    """
    from vultus.kernels.triton_lists import merge_chunks, sort_chunks, sort_lists
    from vultus.kernels.triton_runtime import launch
    from vultus.kernels.triton_tiles import COUNT_LONGEST, NUM_COUNTERS

    device = triton_device()
    keys = torch.zeros(len(lists), capacity, dtype=torch.int64)
    for segment, values in zip(keys, lists, strict=True):
        kept = values[:capacity]
        segment[: len(kept)] = kept
    keys = keys.to(device)
    words = keys.view(torch.int32)
    lengths = [len(values) for values in lists]
    counters = [0] * NUM_COUNTERS.value
    counts = torch.tensor([*counters, *lengths], dtype=torch.int32, device=device)
    scratch = torch.zeros(len(lists), 2 * capacity, dtype=torch.int32, device=device)
    chunks = counts.new_empty(len(lists) * -(-capacity >> bits)) if bits else counts
    launch(
        sort_lists, (len(lists),), keys, words, scratch, counts, chunks, capacity,
        LARGEST=largest, CHUNK=1 << bits if bits else 0, num_warps=4,
    )  # fmt: skip
    if bits:
        constants = {"CHUNK": 1 << bits, "BITS": bits, "num_warps": 4}
        launch(sort_chunks, (3,), keys, words, scratch, counts, chunks, capacity, **constants)
        launch(merge_chunks, (3,), words, scratch, counts, chunks, capacity, **constants)
    rows = [row[: min(len(v), capacity)] for row, v in zip(words.cpu(), lists, strict=True)]
    return rows, int(counts[COUNT_LONGEST.value])


def make_keys(depths: Tensor, seed: int = 0) -> Tensor:
    """Keys of rows 0, 1, ... with these depths, in random order."""
    bits = depths.float().view(torch.int32).long() << 32
    order = torch.randperm(len(depths), generator=torch.Generator().manual_seed(seed))
    return (bits | torch.arange(len(depths)))[order]


def expected_rows(keys: Tensor) -> Tensor:
    return (keys.sort().values & 0xFFFFFFFF).int()


@pytest.mark.parametrize("largest", [0, 256])
def test_lists_are_sorted_by_depth_then_row(largest):
    rng = torch.Generator().manual_seed(1)
    near = 1 + 0.1 * torch.rand(40, generator=rng)
    lists = [
        make_keys(near),
        make_keys(near[:20].repeat(2)),
        make_keys((near * 20).round() / 20),
        make_keys(torch.rand(60, generator=rng) * 1000),
        make_keys(near[:1]),
        make_keys(near[:0]),
        make_keys(torch.full((17,), 2.0)),
        make_keys((1 + 0.1 * torch.rand(100, generator=rng)).repeat(2)),
    ]
    actual, _ = sort(lists, 256, largest)
    for rows, keys in zip(actual, lists, strict=True):
        assert torch.equal(rows, expected_rows(keys))


def test_lists_are_sorted_in_chunks_by_depth_then_row():
    rng = torch.Generator().manual_seed(3)
    near = 1 + 0.1 * torch.rand(150, generator=rng)
    lists = [
        make_keys(near[:33]),
        make_keys(near[:32]),
        make_keys(near[:5]),
        make_keys(near),
        make_keys(near[:50].repeat(2)),
        make_keys((near * 20).round() / 20),
        make_keys(torch.rand(97, generator=rng) * 1000),
        make_keys(torch.full((64,), 2.0)),
        make_keys(torch.rand(161, generator=rng)),
    ]
    actual, longest = sort(lists, 160, 0, bits=5)
    assert longest == 161
    for rows, keys in zip(actual[:-1], lists[:-1], strict=True):
        assert torch.equal(rows, expected_rows(keys))
    assert torch.equal(actual[-1][0::2], (lists[-1] & 0xFFFFFFFF).int()[:80])


@pytest.mark.parametrize("depths", ["different", "pairs", "equal"])
@pytest.mark.parametrize("num", [127, 128, 129, 256, 257, 512, 1024, 1025, 2049, 5000])
def test_long_lists_are_sorted(num, depths):
    rng = torch.Generator().manual_seed(num)
    different = torch.rand(num, generator=rng)
    share = {"different": different, "pairs": different[: num // 2 + 1].repeat(2)[:num]}
    keys = make_keys(1 + 0.3 * share.get(depths, torch.zeros(num)))
    actual, longest = sort([keys], 8192, *((0, 0) if is_interpreting() else (1024, 10)))
    assert torch.equal(actual[0], expected_rows(keys))
    assert longest == (num if 2 * num > 8192 else 0)


def test_a_list_that_does_not_fit_is_reported_and_left_alone():
    keys = make_keys(1 + torch.rand(20))
    actual, longest = sort([keys, keys[:9], keys[:2]], 16, 0)
    assert longest == 20
    assert torch.equal(actual[0][0::2], (keys & 0xFFFFFFFF).int()[:8])
    assert torch.equal(actual[1], expected_rows(keys[:9]))

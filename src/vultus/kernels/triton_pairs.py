"""Sums of gradients per primitive that do not depend on the order in which programs finish.

Every (subtile, primitive) pair gets a row of its own; the rows are sorted by primitive, stably,
and summed in that order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["Pairs", "number_pairs", "sum_pairs"]


@dataclass(frozen=True)
class Pairs:
    """How pairs are numbered, and in which order those of a primitive are summed."""

    num: int
    first: Tensor
    """Number of every subtile's first pair."""
    order: Tensor
    """Pairs sorted by primitive."""
    starts: Tensor
    """Where every primitive begins in ``order``; one more at the end."""
    poison: Tensor
    """0, or NaN where the pairs do not fit."""


def number_pairs(lists: Tensor, per_list: int, ends: Tensor, rows: int, num: int) -> Pairs:
    """Number the pairs of all subtiles.

    Args:
        lists: Rows of primitives, one segment of ``per_list`` per subtile.
        per_list: Size of a segment.
        ends: Length of the part of every list that was blended.
        rows: Number of primitives.
        num: Room for pairs.
    """
    last = ends.cumsum(0, dtype=torch.int64)
    first = last - ends
    pair = torch.arange(num, device=ends.device)
    subtile = torch.searchsorted(last, pair, right=True).clamp(max=len(ends) - 1)
    position = (pair - first[subtile]).clamp(max=per_list - 1)
    row = lists.view(-1)[subtile * per_list + position]
    row = torch.where(pair < last[-1], row, rows)
    by_row, order = torch.sort(row, stable=True)
    primitives = torch.arange(rows + 1, dtype=by_row.dtype, device=ends.device)
    poison = torch.where(last[-1] > num, torch.nan, 0.0)
    return Pairs(num, first, order, torch.searchsorted(by_row, primitives), poison)


def sum_pairs(source: Tensor, pairs: Pairs, rows: int) -> Tensor:
    """Sum the rows of pairs, one per primitive; NaN if the pairs did not fit."""
    total = source.new_empty(rows, source.shape[1])
    if total.numel():
        columns = source.shape[1]
        launch(
            _sum_rows, (rows,), source, pairs.order, pairs.starts, total,
            COLUMNS=columns, PADDED=1 << (columns - 1).bit_length(),
        )  # fmt: skip
    return total.add_(pairs.poison)


@jit
def _sum_rows(pairs, order, starts, totals, COLUMNS: constexpr, PADDED: constexpr):
    """Sum the rows of ``pairs`` that belong to one primitive, in the given order."""
    row = tl.program_id(0)
    column = tl.arange(0, PADDED)
    total = tl.zeros([PADDED], tl.float32)
    k, end = tl.load(starts + row), tl.load(starts + row + 1)
    while k < end:
        source = pairs + tl.load(order + k).to(tl.int64) * COLUMNS
        total += tl.load(source + column, mask=column < COLUMNS, other=0.0)
        k += 1
    tl.store(totals + row.to(tl.int64) * COLUMNS + column, total, mask=column < COLUMNS)

"""Selection of rows in Triton: a program handles one row of all tables."""

# ruff: noqa: D417 -- sizes explain themselves.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["select_rows"]

_BLOCK = 128
"""Columns of each table per program."""


def select_rows(tables: Sequence[Tensor], index: Tensor) -> tuple[Tensor, ...]:
    """See ``vultus.kernels.row_selection.select_rows``."""
    return _Select.apply(index, *tables) if tables else ()


@jit
def _wrap(row, num_rows):
    return tl.where(row < 0, row + num_rows, row)


@jit
def select(
    tables, rows, index, num_rows,
    WIDTHS: constexpr, NUM_TABLES: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Copy row ``index[i]`` of every table to row i.

    Args:
        rows: Written; a table each.
    """
    target = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    source = _wrap(tl.load(index + target), num_rows)
    exists = (source >= 0) & (source < num_rows)
    for k in tl.static_range(NUM_TABLES):
        available = tl.where(exists, WIDTHS[k], 0)
        values = tl.load(
            tables[k] + source * WIDTHS[k] + column, mask=column < available, other=float("nan")
        )
        tl.store(rows[k] + target * WIDTHS[k] + column, values, mask=column < WIDTHS[k])


@jit
def select_backward(
    grad_rows, grad_tables, index, num_selected, num_rows,
    WIDTHS: constexpr, NUM_TABLES: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Add up the gradients of all copies of a row, in their order.

    Args:
        grad_tables: Written, whole.
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    for k in tl.static_range(NUM_TABLES):
        total = tl.zeros((BLOCK,), tl.float32)
        for i in range(num_selected):
            is_copy = _wrap(tl.load(index + i), num_rows) == row
            added = tl.where(is_copy, WIDTHS[k], 0)
            total += tl.load(grad_rows[k] + i * WIDTHS[k] + column, mask=column < added, other=0.0)
        tl.store(grad_tables[k] + row * WIDTHS[k] + column, total, mask=column < WIDTHS[k])


def _widths(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Numbers in a row of each table."""
    return tuple(tensor.shape[1:].numel() for tensor in tensors)


class _Select(Function):
    @staticmethod
    def forward(ctx: Any, index: Tensor, *tables: Tensor) -> Any:
        index = index.contiguous()
        num_rows, widths = tables[0].shape[0], _widths(tables)
        rows = tuple(table.new_empty(len(index), *table.shape[1:]) for table in tables)
        launch(
            select, (len(index), -(-max(widths) // _BLOCK)),
            tuple(table.contiguous() for table in tables), rows, index, num_rows,
            WIDTHS=widths, NUM_TABLES=len(tables), BLOCK=_BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(index)
        ctx.num_rows = num_rows
        ctx.set_materialize_grads(False)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        (index,) = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        used = [k for k, grad in enumerate(grads) if grad is not None and needs[k]]
        given = tuple(grad.contiguous() for k in used if (grad := grads[k]) is not None)
        tables = tuple(grad.new_empty(ctx.num_rows, *grad.shape[1:]) for grad in given)
        if used:
            widths = _widths(given)
            launch(
                select_backward, (ctx.num_rows, -(-max(widths) // _BLOCK)), given, tables, index,
                len(index), ctx.num_rows,
                WIDTHS=widths, NUM_TABLES=len(used), BLOCK=_BLOCK,
            )  # fmt: skip
        results: list[Tensor | None] = [None] * len(grads)
        for k, table in zip(used, tables, strict=True):
            results[k] = table
        return None, *results

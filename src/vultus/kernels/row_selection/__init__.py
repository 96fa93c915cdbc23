"""The same rows of several tables, in one launch each way.

Does what ``table[index]`` does for each table. On a GPU each of those takes a launch, and its
gradient several: they add up rows that were selected twice in an order that has to be sorted out.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["select_rows"]


def select_rows(
    tables: Sequence[Float[Tensor, "t ..."]], index: Int[Tensor, " b"]
) -> tuple[Tensor, ...]:
    """Select rows; gradients are dense and the same bits in every run.

    Args:
        tables: With equally many rows, float32 on a GPU.
        index: Numbers of rows, int64 on the same GPU. Negative ones count from the end; a row that
            does not exist becomes NaN, as the host does not see the numbers.

    Returns:
        For each table [b ...].

    Raises:
        ValueError: If the tables differ in their numbers of rows.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.row_selection import gpu

    if len({table.shape[0] for table in tables}) > 1:
        shapes = [tuple(table.shape) for table in tables]
        raise ValueError(f"tables must have equally many rows, got shapes {shapes}")
    return gpu.select_rows(tables, index)

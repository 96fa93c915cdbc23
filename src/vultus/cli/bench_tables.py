"""Tables of what ``vultus bench`` has timed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from vultus.bench.results import Row, ratio_to
from vultus.cli.console import print_table

__all__ = ["print_rows", "print_speedups", "require_positive"]

Unit = Literal["milliseconds", "seconds"]

_MIB = 2**20
_PER_SECOND: dict[Unit, float] = {"milliseconds": 1e3, "seconds": 1.0}


def print_rows(
    rows: Sequence[Row], baselines: Sequence[str] = (), *, unit: Unit = "milliseconds"
) -> None:
    """Print a table per scene.

    Args:
        rows: Those of a scene follow each other.
        baselines: Implementations that get a column with the ratio of medians of the last part.
        unit: Of times.
    """
    for _, table in groupby(rows, key=lambda row: row.scene):
        _print_scene(list(table), baselines, unit)


def print_speedups(rows: Sequence[Row], threads: Sequence[int]) -> None:
    """Print what more threads gain over the first number of them, by scene and implementation."""
    if len(threads) < 2:
        return
    by_implementation: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_implementation.setdefault((row.scene, row.implementation), []).append(row)
    cells = [
        [scene, implementation, *(same[0].total.median / row.total.median for row in same[1:])]
        for (scene, implementation), same in by_implementation.items()
        if len(same) == len(threads)
    ]
    columns = [f"{count} to {threads[0]} threads" for count in threads[1:]]
    print_table("speedup, medians", ["scene", "implementation", *columns], cells)


def require_positive(options: object, *names: str) -> None:
    """Check options that are counts, or tuples of counts.

    Raises:
        ValueError: Naming the option.
    """
    for name in names:
        value = getattr(options, name)
        counts = value if isinstance(value, tuple) else (value,)
        option = name.replace("_", "-")
        if not counts:
            raise ValueError(f"--{option} must not be empty")
        for count in counts:
            if count < 1:
                raise ValueError(f"--{option} must be positive, got {count}")


def _print_scene(rows: Sequence[Row], baselines: Sequence[str], unit: Unit) -> None:
    scale = _PER_SECOND[unit]
    parts = list(rows[0].seconds)
    ratios = {name: [ratio_to(row, rows, name) for row in rows] for name in baselines}
    ratios = {name: column for name, column in ratios.items() if any(column)}
    has_memory = any(row.peak_bytes is not None for row in rows)
    columns = ["implementation", "mode", *parts, "fastest", *(f"to {name}" for name in ratios)]
    cells = [
        [
            row.implementation,
            row.mode,
            *(scale * row.seconds[part].median for part in parts),
            scale * row.total.minimum,
            *(column[index] for column in ratios.values()),
            *([_mib(row.peak_bytes)] if has_memory else []),
        ]
        for index, row in enumerate(rows)
    ]
    if has_memory:
        columns.append("MiB")
    print_table(f"{rows[0].scene}, {unit}", columns, cells)


def _mib(size: int | None) -> float | None:
    return None if size is None else size / _MIB

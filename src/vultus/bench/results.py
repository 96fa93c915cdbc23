"""Rows of all benchmarks, how they compare, and the file that keeps them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vultus.bench.timing import Timing
from vultus.core.environment import code_revision, describe_hardware, package_versions
from vultus.core.files import write_json

__all__ = ["BOTH", "FORWARD", "Row", "machine_facts", "ratio_to", "threads_mode", "write_rows"]

FORWARD, BOTH = "forward", "forward + backward"
"""Names of what most rows time."""


@dataclass(frozen=True)
class Row:
    """One line of a table: what ran, how, and what it took."""

    scene: str
    implementation: str
    mode: str
    """``eager``, ``graph``, a number of threads, or where a published figure comes from."""
    seconds: Mapping[str, Timing]
    """Of each part; the last one is compared between implementations."""
    peak_bytes: int | None = None
    """Most memory on the GPU at once, parameters and gradients included; None if not measured."""
    facts: Mapping[str, int | str] = field(default_factory=dict)
    """The scene again, for programs."""

    @property
    def total(self) -> Timing:
        """Time of the last part."""
        return list(self.seconds.values())[-1]


def threads_mode(count: int) -> str:
    """Mode of rows on the CPU."""
    return "1 thread" if count == 1 else f"{count} threads"


def ratio_to(row: Row, rows: Sequence[Row], baseline: str) -> float | None:
    """Median time of a row over that of an implementation in the same mode.

    An implementation with a single row has no such modes and is compared with all others. None if
    there is nothing to compare with.
    """
    bases = [base for base in rows if base.implementation == baseline]
    same = [base for base in bases if base.mode == row.mode] or (bases if len(bases) == 1 else [])
    return row.total.median / same[0].total.median if same else None


def machine_facts() -> dict[str, Any]:
    """Hardware, versions and commit behind the figures."""
    return {
        **describe_hardware(),
        "driver": _gpu_driver(),
        "torch_threads": torch.get_num_threads(),
        "versions": package_versions(),
        "code_revision": code_revision(),
    }


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write machine and rows as JSON; times in milliseconds."""
    write_json(path, {"machine": machine_facts(), "rows": [_row_data(row) for row in rows]})


def _row_data(row: Row) -> dict[str, Any]:
    return {
        **row.facts,
        "scene": row.scene,
        "implementation": row.implementation,
        "mode": row.mode,
        "milliseconds": {
            part: {"median": 1e3 * time.median, "minimum": 1e3 * time.minimum}
            for part, time in row.seconds.items()
        },
        "peak_bytes": row.peak_bytes,
    }


def _gpu_driver() -> str | None:
    """Version of NVIDIA's driver; None without one."""
    if not torch.cuda.is_available():
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

"""Timing on a machine that others use at the same time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "time_in_alternation"]


@dataclass(frozen=True)
class Timing:
    """Seconds that calls of one function took."""

    median: float
    minimum: float


def time_in_alternation(
    functions: Mapping[str, Callable[[], object]], repeats: int, *, warmup: int = 2
) -> dict[str, Timing]:
    """Call the functions in turn, so that a busy minute slows all of them alike.

    Args:
        functions: By name.
        repeats: Timed calls of each.
        warmup: Calls of each before; the first one compiles.
    """
    for function in functions.values():
        for _ in range(warmup):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(statistics.median(s), min(s)) for name, s in seconds.items()}

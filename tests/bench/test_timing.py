"""Timings count what they say and alternate between the functions."""

from __future__ import annotations

import time

from vultus.bench.timing import time_in_alternation


def test_functions_take_turns_after_the_warm_up():
    calls: list[str] = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    timings = time_in_alternation(functions, 3, warmup=2)
    assert "".join(calls) == "aabb" + "ab" * 3
    assert set(timings) == {"a", "b"}


def test_the_minimum_is_the_fastest_call_and_outliers_leave_the_median_alone():
    pauses = iter([0.0, 0.02, 0.2, 0.04])
    timing = time_in_alternation({"a": lambda: time.sleep(next(pauses))}, 3, warmup=1)["a"]
    assert 0.02 <= timing.minimum <= timing.median
    assert 0.04 <= timing.median < 0.2

"""Thread counts obey the environment; the parallel map keeps order and does not run ahead."""

from __future__ import annotations

import os
import threading
import time

import pytest

from vultus.core.threads import map_in_threads, num_threads


def test_the_environment_decides_and_else_the_cores_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VULTUS_NUM_THREADS", "3")
    assert num_threads() == 3
    monkeypatch.delenv("VULTUS_NUM_THREADS")
    assert 1 <= num_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_senseless_number_of_threads_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_NUM_THREADS", text)
    with pytest.raises(ValueError, match="VULTUS_NUM_THREADS must be a positive whole number"):
        num_threads()


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(map_in_threads(slow_first, range(20), workers=4)) == [i * i for i in range(20)]


def test_items_are_worked_on_at_the_same_time() -> None:
    barrier = threading.Barrier(3)

    def meet(item: int) -> int:
        barrier.wait(timeout=10)  # breaks unless three workers get here together
        return item

    assert list(map_in_threads(meet, range(3), workers=3)) == [0, 1, 2]


def test_items_are_drawn_only_as_far_as_the_lookahead() -> None:
    drawn: list[int] = []

    def items():
        for item in range(100):
            drawn.append(item)
            yield item

    results = map_in_threads(lambda item: item, items(), workers=2, lookahead=3)
    for _ in range(5):
        next(results)
    assert len(drawn) == 3 + 5


def test_an_error_is_raised_at_its_turn() -> None:
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise ZeroDivisionError
        return item

    results = map_in_threads(fail_at_two, range(5), workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_workers_must_be_positive() -> None:
    with pytest.raises(ValueError, match="workers and lookahead must be positive, got 0"):
        map_in_threads(abs, [1], workers=0)

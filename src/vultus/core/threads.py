"""How many threads to use, and an ordered parallel map with bounded look-ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["map_in_threads", "num_threads"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_VARIABLE = "VULTUS_NUM_THREADS"


def num_threads() -> int:
    """Return ``VULTUS_NUM_THREADS`` if set, else the number of cores this process may use.

    Raises:
        ValueError: If the variable is not a positive whole number.
    """
    text = os.environ.get(_VARIABLE, "")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{_VARIABLE} must be a positive whole number, got {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_threads(
    function: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    *,
    workers: int | None = None,
    lookahead: int | None = None,
) -> Iterator[ResultT]:
    """Apply a function in threads and yield the results in order.

    Args:
        function: Called in a worker thread; its errors are raised here, at their turn.
        items: Drawn from only as fast as results are taken.
        workers: Number of threads, by default ``num_threads()``.
        lookahead: Largest number of items in work or waiting, by default twice the workers.

    Raises:
        ValueError: If ``workers`` or ``lookahead`` is not positive.
    """
    count = num_threads() if workers is None else workers
    ahead = 2 * count if lookahead is None else lookahead
    if count < 1 or ahead < 1:
        raise ValueError(f"workers and lookahead must be positive, got {count} and {ahead}")
    return _results(function, iter(items), count, ahead)


def _results(
    function: Callable[[ItemT], ResultT], items: Iterator[ItemT], count: int, ahead: int
) -> Iterator[ResultT]:
    pool = ThreadPoolExecutor(count, thread_name_prefix="vultus")
    waiting: deque[Future[ResultT]] = deque()
    try:
        waiting.extend(pool.submit(function, item) for item in islice(items, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

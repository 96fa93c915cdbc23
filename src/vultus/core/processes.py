"""An ordered parallel map over processes, for work of Python code that threads cannot share."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

__all__ = ["map_in_processes"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def map_in_processes(
    function: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    *,
    workers: int,
    lookahead: int | None = None,
) -> Iterator[ResultT]:
    """Apply a function in fresh processes and yield the results in order.

    Each process imports what the function needs, which takes seconds, and works with one thread.
    Processes end with this one, however it ends.

    Args:
        function: Defined at the top of a module, or a ``partial`` of one that is.
        items: Drawn from only as fast as results are taken.
        workers: Number of processes.
        lookahead: Largest number of items in work or waiting, by default twice the workers.

    Raises:
        ValueError: If ``workers`` or ``lookahead`` is not positive.
        BrokenProcessPool: If a process is killed.
    """
    ahead = 2 * workers if lookahead is None else lookahead
    if workers < 1 or ahead < 1:
        raise ValueError(f"workers and lookahead must be positive, got {workers} and {ahead}")
    return _results(function, iter(items), workers, ahead)


def _results(
    function: Callable[[ItemT], ResultT], items: Iterator[ItemT], workers: int, ahead: int
) -> Iterator[ResultT]:
    # A forked process would inherit threads' locks and a GPU that it cannot use.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_work)
    waiting: deque[Future[bytes]] = deque()
    try:
        waiting.extend(pool.submit(_call, function, item) for item in islice(items, ahead))
        while waiting:
            result = pickle.loads(waiting.popleft().result())
            waiting.extend(pool.submit(_call, function, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _call(function: Callable[[ItemT], ResultT], item: ItemT) -> bytes:
    """Pickle the result by value: otherwise every tensor in it would take a file descriptor."""
    return pickle.dumps(function(item), protocol=pickle.HIGHEST_PROTOCOL)


def _begin_work() -> None:
    # Processes share the cores; a team of threads in each would only wait for the others.
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Processes of a pool would wait for work forever if their parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""Timing on a GPU: by its own clock, launched op by op or replayed as a CUDA graph."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping

import torch

from vultus.bench.timing import Timing
from vultus.kernels.capacity import check_captured, repeat_while_growing

__all__ = ["allocated_memory", "captured", "memory_of_call", "peak_memory", "time_on_gpu"]

_WARMUP = 3


def time_on_gpu(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Call the functions in turn; the GPU's own clock measures from a call's start to its end.

    Warming up also lets the rasterizers' buffers grow: what fits then fits afterwards.
    """
    for function in functions.values():
        _warm_up(function)
    torch.cuda.synchronize()
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {n: [] for n in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # An idle GPU would start the clock before the first kernel has been prepared.
            torch.cuda.synchronize()
            start.record()
            function()
            end.record()
            events[name].append((start, end))
    torch.cuda.synchronize()
    seconds = {
        name: [1e-3 * start.elapsed_time(end) for start, end in pairs]
        for name, pairs in events.items()
    }
    return {name: Timing(statistics.median(s), min(s)) for name, s in seconds.items()}


def captured(function: Callable[[], object]) -> Callable[[], object]:
    """Capture a call into a CUDA graph whose buffers its lists fit into; returns its replay."""
    # A graph has no second try of its own: its lists may be longer than those of the warm-up.
    return repeat_while_growing(lambda: _captured_once(function))


def _captured_once(function: Callable[[], object]) -> Callable[[], object]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _warm_up(function)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    graph.replay()
    check_captured()
    return graph.replay


def allocated_memory() -> int:
    """Bytes on the GPU that tensors take now."""
    gc.collect()
    return torch.cuda.memory_allocated()


def peak_memory(function: Callable[[], object]) -> int:
    """Most bytes that tensors take during a call, what was there before included."""
    _warm_up(function)
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    function()
    return torch.cuda.max_memory_allocated()


def memory_of_call(function: Callable[[], object], device: torch.device | str) -> int | None:
    """Most bytes that a call takes beyond what was there before; None on the CPU."""
    if torch.device(device).type != "cuda":
        return None
    before = allocated_memory()
    return peak_memory(function) - before


def _warm_up(function: Callable[[], object]) -> None:
    for _ in range(_WARMUP):
        repeat_while_growing(function)

"""CUDA graphs of work beside which other threads use the GPU."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["capturing"]


def capturing(
    graph: torch.cuda.CUDAGraph, *, stream: torch.cuda.Stream | None = None, pool: Any = None
) -> torch.cuda.graph:
    """Make the context that captures into a graph, while threads that read images go on.

    They wait for streams of their own. In the default mode, "global", a wait in any thread breaks
    the capture.

    Args:
        graph: An empty one.
        stream: The one to capture, by default one that all captures share.
        pool: Memory of other graphs that may be used again.
    """
    return torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")

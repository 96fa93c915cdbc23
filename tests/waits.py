"""Code that must not make the host wait for a GPU, checked there and, where possible, on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["refusing_to_wait"]

_OF_LISTS = torch.ops.aten.lift_fresh.default
"""What ``torch.tensor`` and ``new_tensor`` call with numbers of the host."""


@contextmanager
def refusing_to_wait(device: torch.device) -> Generator[None]:
    """Fail where the host waits for a GPU.

    On a CPU nothing waits; there, what fails is a tensor made of numbers of the host, which a GPU
    would have to be given by a copy.
    """
    if device.type == "cpu":
        with _NoTensorsOfLists():
            yield
        return
    try:
        with warnings.catch_warnings():
            # PyTorch says once per process that this mode does not see every wait.
            warnings.simplefilter("ignore", UserWarning)
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _NoTensorsOfLists(TorchDispatchMode):
    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        assert func is not _OF_LISTS, "a tensor is made of numbers of the host"
        return func(*args, **(kwargs or {}))

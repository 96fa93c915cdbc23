"""Compiling and launching Triton kernels, and recording launches without a GPU.

Importing this module imports Triton; only modules of the gpu backends do so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import triton
    import triton.language
    from triton import knobs
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "backend gpu needs Triton, which comes with PyTorch for CUDA: pip install 'triton>=3.6'"
    ) from error

if TYPE_CHECKING:
    from typing import Any as constexpr
else:
    from triton.language import constexpr

__all__ = [
    "Launch",
    "constexpr",
    "is_interpreted",
    "is_recording",
    "jit",
    "launch",
    "recorded_launches",
    "tl",
]


tl: Any = triton.language
"""Triton's language without its types: they describe what runs before, not inside, compilation."""


@dataclass(frozen=True)
class Launch:
    """One call of a kernel."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    num_warps: int


_recordings: list[list[Launch]] = []


def jit(function: Callable[..., Any]) -> Any:
    """Compile with Triton; decorators that check types at run time are removed first."""
    return triton.jit(inspect.unwrap(function))


def is_interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors (``TRITON_INTERPRET=1``)."""
    return bool(knobs.runtime.interpret)


def is_recording() -> bool:
    """Whether launches are collected instead of run."""
    return bool(_recordings)


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 1, **constants: Any
) -> None:
    """Run a kernel on the grid, unless one of its dimensions is empty.

    Args:
        kernel: What ``jit`` returned.
        grid: Number of programs along each axis.
        arguments: Tensors and numbers.
        num_warps: Warps per program.
        constants: Compile-time arguments.
    """
    if _recordings:
        _recordings[-1].append(Launch(kernel, grid, arguments, constants, num_warps))
    elif not all(grid):
        return
    elif is_interpreted():
        # Lanes that are masked off compute with whatever they have, on a GPU as well.
        with np.errstate(all="ignore"):
            kernel[grid](*arguments, **constants)
    else:
        kernel[grid](*arguments, **constants, num_warps=num_warps, enable_fp_fusion=True)


@contextmanager
def recorded_launches() -> Iterator[list[Launch]]:
    """Collect launches instead of running them, so that they can be compiled without a GPU."""
    _recordings.append([])
    try:
        yield _recordings[-1]
    finally:
        _recordings.pop()

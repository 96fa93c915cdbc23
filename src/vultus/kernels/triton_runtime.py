"""Compiling and launching Triton kernels, and recording launches without a GPU.

Triton binds the arguments of every launch to the kernel's signature and checks every constant that
its code mentions: 50 microseconds for the rasterizers' kernels, which take less on the GPU. Here a
launch that resembles an earlier one goes straight to what Triton has compiled for that; and those
that differ in their tensors alone can be prepared (``Launcher``), so that only these are looked at.

Importing this module imports Triton; only modules of the gpu backends do so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

try:
    import triton
    import triton.language
    from triton import knobs
    from triton.runtime import driver
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "backend gpu needs Triton, which comes with PyTorch for CUDA: pip install 'triton>=3.6'"
    ) from error

from vultus.kernels.cuda_launch import CudaLaunch, clear_words, copy_words, cuda_launch
from vultus.kernels.parts import Part, as_tensor

if TYPE_CHECKING:
    from typing import Any as constexpr
else:
    from triton.language import constexpr

__all__ = [
    "Buffer",
    "Launch",
    "Launcher",
    "constexpr",
    "fill_with_zeros",
    "is_interpreted",
    "is_recording",
    "jit",
    "launch",
    "recorded_launches",
    "start_copy_of_head",
    "tl",
]


tl: Any = triton.language
"""Triton's language without its types: they describe what runs before, not inside, compilation."""
_driver: Any = driver

Buffer = Tensor | Part
"""What prepared launches take."""


@dataclass(frozen=True)
class Launch:
    """One call of a kernel."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    num_warps: int


_recordings: list[list[Launch]] = []
_compiled: dict[tuple[Any, ...], Any] = {}
"""What Triton has compiled, by everything that it compiles for."""
_MAX_COMPILED = 4096
_ON_CPU = -1
_ALIGNMENT = 16
"""Bytes; Triton compiles other code for pointers that are not aligned to this."""


def jit(
    function: Callable[..., Any] | None = None, *, do_not_specialize: Sequence[str] = ()
) -> Any:
    """Compile with Triton; decorators that check types at run time are removed first.

    Args:
        function: The kernel, or what it calls.
        do_not_specialize: Integer arguments whose value is left open. Triton compiles other code
            for 1 and for multiples of 16 than for the rest.
    """
    if function is None:
        return partial(jit, do_not_specialize=do_not_specialize)
    return triton.jit(do_not_specialize=do_not_specialize)(inspect.unwrap(function))


@cache
def is_interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors (``TRITON_INTERPRET=1``).

    Triton decides that when a kernel is defined; later changes would be ignored.
    """
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
        _launch_compiled(kernel, grid, arguments, constants, num_warps)


class Launcher:
    """Launches of a kernel that differ in their tensors alone, whose dtypes are always the same.

    Parts of an allocation may take the place of tensors.

    All tensors of a launch must be on one device, which is left to the caller to check.
    """

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        *numbers: Any,
        num_warps: int = 1,
        **constants: Any,
    ) -> None:
        """Prepare launches with these arguments, as told in ``launch``; numbers follow tensors."""
        self._kernel, self._grid = kernel, grid
        self._numbers, self._num_warps, self._constants = numbers, num_warps, constants
        self._values = (*numbers, *constants.values())
        self._is_compiled = all(grid) and not is_interpreted()
        self._runners: dict[int, Callable[..., None]] = {}
        """By device, what has been compiled for tensors that are aligned."""
        self._direct: dict[int, CudaLaunch | None] = {}
        """The same without Triton's launcher, which is left what the driver refuses: it reports
        errors in words, and initializes CUDA in threads that have not used it."""

    def __call__(self, *buffers: Buffer) -> None:
        """Run the kernel on tensors, or parts of them.

        Raises:
            ValueError: If they are on another GPU than the current one.
        """
        if _recordings or not self._is_compiled:
            launch(
                self._kernel, self._grid, *map(as_tensor, buffers), *self._numbers,
                num_warps=self._num_warps, **self._constants,
            )  # fmt: skip
            return
        active = _driver.active
        device = active.get_current_device()
        addresses = [buffer.data_ptr() for buffer in buffers]
        is_usual = buffers[0].get_device() == device and not reduce(or_, addresses) % _ALIGNMENT
        direct = self._direct.get(device) if is_usual else None
        if direct is not None and direct(addresses, active.get_current_stream(device)):
            return
        runner = self._runners.get(device) if is_usual else None
        if runner is not None:
            runner(*addresses, *self._values, stream=active.get_current_stream(device))
            return
        elsewhere = buffers[0].get_device()
        if elsewhere not in {device, _ON_CPU}:
            raise ValueError(
                f"tensors must be on the current GPU, cuda:{device}, got cuda:{elsewhere}: call "
                f"torch.cuda.set_device({elsewhere}) before"
            )
        tensors = map(as_tensor, buffers)
        compiled = _launch_compiled(
            self._kernel, self._grid, (*tensors, *self._numbers), self._constants, self._num_warps
        )
        if is_usual and compiled is not None:
            grid = _in_three_axes(self._grid)
            self._runners[device] = compiled[grid]
            self._direct[device] = cuda_launch(compiled, grid, len(buffers), self._numbers)


def fill_with_zeros(buffer: Buffer) -> None:
    """Fill a buffer of 32-bit words, contiguous ones."""
    words = buffer.num_words if isinstance(buffer, Part) else buffer.numel()
    stream = _stream_of(buffer)
    if stream is None or not clear_words(buffer.data_ptr(), words, stream):
        as_tensor(buffer).zero_()


def start_copy_of_head(part: Part, memory: Tensor) -> None:
    """Copy as many words of a part as the memory has, which is pinned int32, without waiting."""
    words, stream = memory.numel(), _stream_of(part)
    is_under_way = stream is not None and copy_words(
        memory.data_ptr(), part.data_ptr(), words, stream
    )
    if not is_under_way:
        memory.copy_(part.head(words), non_blocking=True)


def _stream_of(buffer: Buffer) -> int | None:
    """The current stream of CUDA's driver; None if a buffer is not on the current GPU."""
    device = buffer.get_device()
    if device < 0 or _driver.active.get_current_device() != device:
        return None
    return _driver.active.get_current_stream(device)


def _in_three_axes(grid: tuple[int, ...]) -> tuple[int, int, int]:
    width, height, depth = (*grid, 1, 1)[:3]
    return width, height, depth


def _launch_compiled(
    kernel: Any,
    grid: tuple[int, ...],
    arguments: tuple[Any, ...],
    constants: dict[str, Any],
    num_warps: int,
) -> Any | None:
    """Run what has been compiled for such arguments; the first time let Triton look at them.

    Returns:
        The compiled kernel, or None if other arguments of these kinds may need another one.
    """
    device = _driver.active.get_current_device()
    values, kinds = _specialize(arguments, device)
    key = (kernel.fn, device, num_warps, *kinds, *constants.items())
    compiled = _compiled.get(key)
    if compiled is not None:
        stream = _driver.active.get_current_stream(device)
        compiled[_in_three_axes(grid)](*values, *constants.values(), stream=stream)
        return compiled
    compiled = kernel[grid](*arguments, **constants, num_warps=num_warps, enable_fp_fusion=True)
    if not _is_known(kinds):
        return None
    if len(_compiled) >= _MAX_COMPILED:
        _compiled.clear()
    _compiled[key] = compiled
    return compiled


def _is_known(kinds: Sequence[Any]) -> bool:
    """Whether the kinds, also those within tuples, tell all that Triton compiles for."""
    return all(_is_known(k) if isinstance(k, tuple) else k is not None for k in kinds)


def _specialize(arguments: tuple[Any, ...], device: int) -> tuple[list[Any], list[Any]]:
    """What to hand to a compiled kernel, and what it depends on.

    Returns:
        Addresses in place of tensors, which spares looking them up again; and types, or the values
        of integers, on which code may depend. None stands for what only Triton should handle.
    """
    values, kinds = [], []
    for argument in arguments:
        if isinstance(argument, Tensor):
            value, kind = argument.data_ptr(), argument.dtype
            if argument.get_device() != device:
                kind = None
            elif value % _ALIGNMENT:
                kind = (kind, value % _ALIGNMENT)
        elif isinstance(argument, tuple):
            items, item_kinds = _specialize(argument, device)
            value, kind = tuple(items), tuple(item_kinds)
        else:
            value = argument
            kind = argument if type(argument) is int else type(argument)
        values.append(value)
        kinds.append(kind)
    return values, kinds


@contextmanager
def recorded_launches() -> Iterator[list[Launch]]:
    """Collect launches instead of running them, so that they can be compiled without a GPU."""
    _recordings.append([])
    try:
        yield _recordings[-1]
    finally:
        _recordings.pop()

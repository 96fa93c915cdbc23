"""Launches of compiled kernels by CUDA's driver, where only tensors change from call to call.

Triton's own launcher goes through all arguments of every launch in Python and takes as long as the
kernels of a small scene. Here numbers are written once to where the driver reads them, and a launch
is to write addresses and to call ``cuLaunchKernel``.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import Any

__all__ = ["CudaLaunch", "clear_words", "copy_words", "cuda_launch"]

_WORD = 8
"""Bytes that a parameter gets here; the driver takes as many of them as its type has."""
_LAYOUTS = {"i32": ("u32", "i"), "i64": ("u64", "q"), "fp32": ("f32", "f")}
"""Triton's types of numbers: those of PTX, and the formats of ``struct``."""
_USUAL = {
    "num_ctas": 1,
    "global_scratch_size": 0,
    "profile_scratch_size": 0,
    "launch_cooperative_grid": False,
    "launch_pdl": False,
}
"""What Triton notes of a kernel that needs nothing but its parameters."""
_SCRATCH = ["u64", "u64"]
"""Triton's kernels end with two pointers to memory that ours do not use."""
_LAUNCH = (ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3)
_FILL = (ctypes.c_uint64, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p)
_COPY = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p)
"""Arguments of the driver's functions."""


class CudaLaunch:
    """One kernel on one grid, with its numbers; called with addresses of tensors."""

    def __init__(
        self,
        function: int,
        grid: tuple[int, int, int],
        *,
        threads: int,
        shared_memory: int,
        num_tensors: int,
        numbers: Sequence[tuple[str, int | float]],
        launch_kernel: Callable[..., int],
    ) -> None:
        """Lay out the parameters: tensors, numbers by format, scratch memory.

        Args:
            function: The driver's handle of the kernel.
            grid: Number of programs along each axis.
            threads: Of a program.
            shared_memory: Of a program, in bytes.
            num_tensors: How many addresses a launch has.
            numbers: Formats of ``struct`` and values.
            launch_kernel: ``cuLaunchKernel``.
        """
        count = num_tensors + len(numbers) + len(_SCRATCH)
        self._words = (ctypes.c_uint64 * count)()
        for k, (form, value) in enumerate(numbers, num_tensors):
            struct.pack_into(f"<{form}", self._words, _WORD * k, value)
        first = ctypes.addressof(self._words)
        self._places = (ctypes.c_void_p * count)(*range(first, first + _WORD * count, _WORD))
        self._what = (function, *grid, threads, 1, 1, shared_memory)
        self._num_tensors = num_tensors
        self._launch_kernel = launch_kernel
        self._lock = Lock()

    def __call__(self, addresses: Sequence[int], stream: int) -> bool:
        """Launch; False where the driver refuses, as in a thread that has not used CUDA before."""
        # Autograd and the caller may launch at once, and the driver reads what the words hold.
        with self._lock:
            self._words[: self._num_tensors] = addresses
            return self._launch_kernel(*self._what, stream, self._places, None) == 0


def cuda_launch(
    compiled: Any, grid: tuple[int, int, int], num_tensors: int, numbers: Sequence[Any]
) -> CudaLaunch | None:
    """What launches a kernel that Triton has compiled for CUDA.

    Args:
        compiled: Triton's compiled kernel, whose arguments are tensors, then numbers.
        grid: Number of programs along each axis.
        num_tensors: How many of the arguments are tensors.
        numbers: The others.

    Returns:
        None where the kernel's parameters are not what is known here, so that Triton must launch.
    """
    metadata = compiled.metadata
    if metadata.target.backend != "cuda" or _is_special(metadata):
        return None
    types = list(compiled.src.signature.values())[: num_tensors + len(numbers)]
    laid_out: list[tuple[str, int | float]] = []
    parameters = ["u64"] * num_tensors
    for kind, value in zip(types[num_tensors:], numbers, strict=True):
        if kind == "constexpr":
            continue
        if kind not in _LAYOUTS:
            return None
        declared, form = _LAYOUTS[kind]
        parameters.append(declared)
        laid_out.append((form, value))
    launch_kernel = _driver_function("cuLaunchKernel", *_LAUNCH)
    if launch_kernel is None or _declared_parameters(compiled) != parameters + _SCRATCH:
        return None
    return CudaLaunch(
        compiled.function,
        grid,
        threads=metadata.num_warps * metadata.target.warp_size,
        shared_memory=metadata.shared,
        num_tensors=num_tensors,
        numbers=laid_out,
        launch_kernel=launch_kernel,
    )


def _is_special(metadata: Any) -> bool:
    """Whether a launch needs clusters, scratch memory or attributes, or does not tell."""
    return any(getattr(metadata, name, None) != usual for name, usual in _USUAL.items())


def _declared_parameters(compiled: Any) -> list[str]:
    """Types of the parameters of a kernel, as its PTX declares them."""
    entry = re.search(r"\.entry\s+\w+\s*\((.*?)\)", compiled.asm["ptx"], re.DOTALL)
    return [] if entry is None else re.findall(r"\.param\s+\.(\w+)", entry[1])


def clear_words(address: int, count: int, stream: int) -> bool:
    """Set 32-bit words on a GPU to zero.

    Returns:
        False where there is no driver, or where it refuses.
    """
    if not count:
        return True
    fill = _driver_function("cuMemsetD32Async", *_FILL)
    return fill is not None and fill(address, 0, count, stream) == 0


def copy_words(target: int, source: int, count: int, stream: int) -> bool:
    """Start copying 32-bit words from a GPU to pinned memory.

    Returns:
        False where there is no driver, or where it refuses.
    """
    copy = _driver_function("cuMemcpyDtoHAsync_v2", *_COPY)
    return copy is not None and copy(target, source, 4 * count, stream) == 0


@cache
def _driver_function(name: str, *types: Any) -> Callable[..., int] | None:
    """A function of the driver; None where there is none."""
    try:
        function = getattr(ctypes.CDLL("libcuda.so.1"), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = types
    function.restype = ctypes.c_int
    return function

"""Tensors as arrays, and buffers that outlive a call."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Array", "Lease", "aligned_zeros", "array_of", "frame_array", "frame_arrays", "triple"]

Array = NDArray[Any]
WorkspaceT = TypeVar("WorkspaceT")

_MAX_IDLE_WORKSPACES = 8
_CACHE_LINE = 64
_idle: defaultdict[Hashable, list[Any]] = defaultdict(list)


class Lease(Generic[WorkspaceT]):
    """A workspace that returns to the idle ones when the last holder lets go of it."""

    def __init__(self, make: Callable[..., WorkspaceT], *sizes: int) -> None:
        """Take an idle workspace, or call ``make(*sizes)``."""
        self._key = make, sizes
        try:
            # list.pop is atomic: forward passes may run in several threads.
            self.workspace: WorkspaceT = _idle[self._key].pop()
        except IndexError:
            self.workspace = make(*sizes)

    def __del__(self) -> None:
        """Hand the workspace back."""
        if sum(map(len, _idle.values())) >= _MAX_IDLE_WORKSPACES:
            _idle.clear()
        _idle[self._key].append(self.workspace)


def aligned_zeros(*shape: int) -> NDArray[np.float32]:
    """Float32 zeros that start on a cache line: what straddles two lines is slower to reach."""
    size = math.prod(shape)
    buffer = np.zeros(size + _CACHE_LINE // 4, np.float32)
    start = -(buffer.ctypes.data // 4) % (_CACHE_LINE // 4)
    return buffer[start : start + size].reshape(shape)


def array_of(tensor: Tensor | None, shape: tuple[int, ...]) -> Array:
    """View a tensor as a contiguous array; an empty array of that shape for None."""
    if tensor is None:
        return np.zeros(shape, np.float32)
    return tensor.detach().contiguous().numpy()


def frame_array(tensor: Tensor | None, frame: int, empty_shape: tuple[int, ...]) -> Array:
    """One frame of a tensor as an array; an empty one where there is no tensor."""
    if tensor is None:
        return np.zeros(empty_shape, np.float32)
    return tensor[frame].detach().numpy()


def frame_arrays(images: Any, frame: int) -> list[Array]:
    """One frame of all images as flat arrays."""
    return [frame_array(image, frame, (0,)).reshape(-1) for image in images]


def triple(values: Array) -> tuple[float, float, float]:
    """Three numbers that Numba takes as a tuple."""
    return float(values[0]), float(values[1]), float(values[2])

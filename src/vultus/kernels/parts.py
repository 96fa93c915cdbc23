"""Parts of one allocation, of which kernels need the addresses alone.

To make a tensor of a part takes the host as long as another allocation, so that this is left until
somebody asks for one: where kernels are interpreted, say.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Layout", "Part", "as_tensor"]

_WORD = 4
_ALIGNMENT = 32
"""Words between the addresses that parts may begin at: lines of the cache."""


class Place(NamedTuple):
    """Where in an allocation a part is, in words, and what it holds."""

    first: int
    words: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Part:
    """A part of an allocation; kernels take it in place of a tensor."""

    __slots__ = ("_address", "_memory", "_place")

    def __init__(self, memory: Tensor, address: int, place: Place) -> None:
        """Keep the memory alive, and remember where in it the part begins."""
        self._memory, self._address, self._place = memory, address, place

    def data_ptr(self) -> int:
        """Address of the first byte."""
        return self._address

    def get_device(self) -> int:
        """Index of the GPU; -1 on the CPU."""
        return self._memory.get_device()

    @property
    def num_words(self) -> int:
        """How many 32-bit words it takes."""
        return self._place.words

    def as_integers(self) -> Part:
        """The same memory as 32-bit integers."""
        first, words, _, _ = self._place
        return Part(self._memory, self._address, Place(first, words, (words,), torch.int32))

    def head(self, count: int) -> Tensor:
        """View the first 32-bit integers as a tensor."""
        first = self._place.first
        return self._memory[first : first + count]

    def tensor(self) -> Tensor:
        """View the part as a tensor."""
        first, words, shape, dtype = self._place
        return self._memory[first : first + words].view(dtype).view(shape)


class Layout:
    """Places one after another, for allocations that are divided alike."""

    def __init__(self, **parts: tuple[tuple[int, ...], torch.dtype]) -> None:
        """Place parts, given by shape and dtype, in their order."""
        self._places: list[tuple[int, Place]] = []
        self.words = 0
        """Of an allocation."""
        for shape, dtype in parts.values():
            words = math.prod(shape) * dtype.itemsize // _WORD
            self._places.append((_WORD * self.words, Place(self.words, words, shape, dtype)))
            self.words += -(-words // _ALIGNMENT) * _ALIGNMENT

    def divide(self, memory: Tensor) -> list[Part]:
        """The parts of an allocation of ``words`` int32."""
        start = memory.data_ptr()
        return [Part(memory, start + offset, place) for offset, place in self._places]


def as_tensor(buffer: Tensor | Part) -> Tensor:
    """The tensor that a buffer is, or a view of the part."""
    return buffer.tensor() if isinstance(buffer, Part) else buffer

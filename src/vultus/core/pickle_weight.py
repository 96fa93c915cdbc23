"""How much a pickle unfolds to, before anything of it is made.

Pickles share what they hold: forty tuples of two, each with the last one twice, take a hundred
bytes and have 10^12 leaves. Whoever walks them (a hash, a message, a copy) never comes back.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

__all__ = ["PickleWeight"]

_ALWAYS = 1 << 29
_RATIO = 16
"""Bytes that every pickle may unfold to, and times its own length."""
_DEPTH = 10_000
"""Levels of tuples in tuples: to compare and to hash them recurses on the stack of the machine."""
_OBJECT = 8
_IN_PLACE = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})
"""Operations that change what lies deepest among what they take."""


@dataclass
class _Item:
    """Something on the stack: bytes it unfolds to, and levels below it."""

    weight: int = _OBJECT
    depth: int = 0


class PickleWeight:
    """Follows a pickle's stack machine with weights in place of objects.

    What is added to a container after it has been put into another one is not seen there: such
    containers cannot be hashed, and are built once however often they are mentioned.
    """

    def __init__(self, length: int) -> None:
        """Take the number of bytes of the pickle."""
        self._limit = max(_ALWAYS, _RATIO * length)
        self._stack: list[_Item | None] = []  # None is a mark
        self._memo: dict[int, _Item] = {}

    def follow(self, operation: Any, argument: Any) -> None:
        """Take the next operation, as ``pickletools.genops`` yields it.

        Raises:
            ValueError: If the pickle unfolds to too much, or nests too deeply.
        """
        stack, name = self._stack, operation.name
        if name == "MARK":
            stack.append(None)
        elif name == "MEMOIZE" or name.endswith("PUT"):
            if stack and (top := stack[-1]):
                self._memo[len(self._memo) if name == "MEMOIZE" else int(argument)] = top
        elif name.endswith("GET"):
            stack.append(self._memo.get(int(argument), _Item()))
        elif name == "DUP":
            stack.extend(stack[-1:])
        else:
            self._check(self._apply(operation, argument))

    def _check(self, item: _Item) -> None:
        if item.weight > self._limit:
            raise ValueError(f"it would unfold to more than {self._limit} bytes")
        if item.depth > _DEPTH:
            raise ValueError(f"it nests more than {_DEPTH} levels")

    def _apply(self, operation: Any, argument: Any) -> _Item:
        """Pop what is taken, push what is made; damage is left to the unpickler to find."""
        stack, before = self._stack, list(operation.stack_before)
        taken: list[_Item] = []
        if pickletools.markobject in before:
            while stack and (item := stack.pop()) is not None:
                taken.append(item)
            before = before[: before.index(pickletools.markobject)]
        taken += [item for _ in before if stack and (item := stack.pop()) is not None]
        size = len(argument) if isinstance(argument, (bytes, bytearray, str)) else 0
        made = taken.pop() if taken and operation.name in _IN_PLACE else _Item(_OBJECT + size)
        made.weight += sum(item.weight for item in taken)
        made.depth = max([made.depth, *(item.depth + 1 for item in taken)])
        stack.extend(made for _ in operation.stack_after)
        return made

"""Read pickles that hold arrays and plain containers, without ever running what they ask for.

A pickle is a program that calls functions by name. Here it runs against names that do nothing: each
allowed name becomes a fresh, empty class that only notes its arguments, and any other name is an
error. The notes are then turned into arrays, sparse matrices and containers by functions of ours
that look at data only. Neither the classes nor the modules that a pickle names are imported.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse

from vultus.core.pickle_weight import PickleWeight

__all__ = [
    "Builder",
    "PickledGlobal",
    "PickledObject",
    "load_object_array",
    "load_pickle",
    "parse_pickle",
    "split_pickles",
]


@dataclass(frozen=True)
class PickledGlobal:
    """A mention of an allowed class, such as the type of an array."""

    name: str


@dataclass(eq=False)
class PickledObject:
    """What a pickle says about an object of a class that the caller declared inert."""

    name: str
    """Module and class, dotted."""
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    """Members of a list, or (key, value) pairs of a dictionary."""


Builder = Callable[[PickledObject], object]
"""Turns what a pickle says about an object into the object; raises ValueError if it cannot."""

_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def load_pickle(path: Path, *, inert: Collection[str] = ()) -> Any:
    """Read a pickle of arrays, sparse matrices, chumpy arrays (as arrays) and plain containers.

    Text and bytes of Python 2 are read as Latin-1.

    Args:
        path: The file.
        inert: Further names (``module.class``) to accept; they come back as ``PickledObject``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the pickle is damaged or names anything else; names the file and the global.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return parse_pickle(path.read_bytes(), str(path), inert=inert)


def load_object_array(path: Path, *, inert: Collection[str] = ()) -> Any:
    """Read an ``.npy`` file whose elements are pickled; a single element comes back itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or as in ``load_pickle``.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    stream = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        _, _, dtype = read_header(stream)
    # The header is parsed as Python's text, by two parsers with errors of their own.
    except Exception as error:
        raise ValueError(f"{path}: not a readable .npy file: {_one_line(error)}") from error
    if dtype != np.dtype(object):
        raise ValueError(f"{path}: must hold pickled objects, got an array of {dtype}")
    loaded = parse_pickle(stream.read(), str(path), inert=inert)
    return loaded.item() if isinstance(loaded, np.ndarray) and loaded.ndim == 0 else loaded


def parse_pickle(
    data: bytes,
    source: str,
    *,
    inert: Collection[str] = (),
    builders: Mapping[str, Builder] | None = None,
    persistent: Callable[[Any], object] | None = None,
) -> Any:
    """Read one pickle from memory.

    Args:
        data: The pickle.
        source: How error messages call it.
        inert: Names that come back as ``PickledObject``.
        builders: Further names and what makes their objects.
        persistent: Turns persistent identifiers into objects.

    Raises:
        ValueError: As ``load_pickle``.
    """
    known = {**_BUILDERS, **(builders or {})}
    allowed = frozenset(known) | _MENTIONED | frozenset(inert)
    try:
        for _ in split_pickles(data, limit=1):
            pass
        unpickler = _NotingUnpickler(data, allowed, has_persistent=persistent is not None)
        return _Resolver(known, frozenset(inert), persistent).resolve(unpickler.load())
    except _DAMAGE as error:
        raise ValueError(f"{source}: not a readable pickle: {_one_line(error)}") from error


def split_pickles(data: bytes, limit: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of up to ``limit`` pickles that follow each other.

    Raises:
        ValueError: If one is damaged, uses the extension registry, or would fill the memory: by
            high numbers of its memo, or by what it unfolds to.
    """
    start = 0
    for _ in range(limit):
        end, weight = start, PickleWeight(len(data))
        for opcode, argument, position in pickletools.genops(memoryview(data)[start:].tobytes()):
            end = start + (position or 0) + 1
            if opcode.name.startswith("EXT"):
                raise ValueError("the extension registry is not allowed")
            if opcode.name.endswith("PUT") and int(argument or 0) > len(data):
                raise ValueError(f"a memo index of {argument} is not plausible")
            weight.follow(opcode, argument)
        yield start, end
        start = end


# ---- first pass: take notes ------------------------------------------------------------------


class _Note:
    """One object that the pickle describes. Each allowed name gets a subclass of its own."""

    __slots__ = ("arguments", "items", "state")
    global_name: ClassVar[str]

    def __new__(cls, *arguments: Any) -> _Note:
        note = super().__new__(cls)
        note.arguments, note.state, note.items = arguments, None, []
        return note

    def __init__(self, *arguments: Any) -> None:
        """Accept what ``__new__`` has noted."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: list[Any]) -> None:
        self.items.extend(items)

    add = append


class _Persistent:
    __slots__ = ("identifier",)

    def __init__(self, identifier: Any) -> None:
        self.identifier = identifier


class _NotingUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, allowed: frozenset[str], *, has_persistent: bool) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._allowed = allowed
        self._has_persistent = has_persistent
        self._classes: dict[str, type[_Note]] = {}

    def find_class(self, module_name: str, global_name: str) -> type[_Note]:
        name = f"{module_name}.{global_name}"
        if name not in self._allowed:
            shown = name if len(name) <= 120 else name[:117] + "..."
            raise ValueError(f"{shown!r} is not allowed, only arrays and plain containers are")
        if name not in self._classes:
            members = {"__slots__": (), "global_name": name}
            self._classes[name] = type("_NamedNote", (_Note,), members)
        return self._classes[name]

    def persistent_load(self, pid: Any) -> _Persistent:
        if not self._has_persistent:
            raise ValueError("persistent identifiers are not allowed")
        return _Persistent(pid)


# ---- second pass: notes become objects -------------------------------------------------------


class _Resolver:
    """Walks the noted structure once; shared objects stay shared."""

    def __init__(
        self,
        builders: Mapping[str, Builder],
        inert: frozenset[str],
        persistent: Callable[[Any], object] | None,
    ) -> None:
        self._builders, self._inert, self._persistent = builders, inert, persistent
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def resolve(self, value: Any) -> Any:
        key = id(value)
        if key in self._done:
            return self._done[key]
        if isinstance(value, list):
            result: Any = self._done.setdefault(key, [])
            result.extend(self.resolve(item) for item in value)
            return result
        if isinstance(value, dict):
            result = self._done.setdefault(key, {})
            result.update((self.resolve(k), self.resolve(v)) for k, v in value.items())
            return result
        if key in self._open:
            raise ValueError("an object contains itself")
        self._open.add(key)
        result = self._make(value)
        self._open.discard(key)
        self._done[key] = result
        return result

    def _make(self, value: Any) -> Any:
        if isinstance(value, (tuple, set, frozenset)):
            return type(value)(self.resolve(item) for item in value)
        if isinstance(value, type):
            return PickledGlobal(value.global_name)
        if isinstance(value, _Persistent):
            assert self._persistent is not None
            return self._persistent(self.resolve(value.identifier))
        if isinstance(value, _Note):
            return self._build(value)
        return value

    def _build(self, note: _Note) -> Any:
        name, arguments = note.global_name, note.arguments
        if name in _RECONSTRUCTORS:  # (class, base, initial value of the base)
            if not (len(arguments) == 3 and isinstance(arguments[0], type)):
                raise ValueError(f"{name} must be called with a class, a base and a value")
            name, arguments = arguments[0].global_name, ()
        described = PickledObject(name)
        if name in self._inert:
            self._done[id(note)] = described  # Known early: it may contain itself.
        described.arguments = self.resolve(arguments)
        described.state = self.resolve(note.state)
        described.items = self.resolve(note.items)
        if name in self._inert:
            return described
        if name not in self._builders:
            raise ValueError(f"{name!r} may be mentioned but not built")
        return self._builders[name](described)


# ---- builders --------------------------------------------------------------------------------

_DTYPE = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6}|O8?)")


def _build_dtype(described: PickledObject) -> np.dtype[Any]:
    code = described.arguments[0]
    if not isinstance(code, str) or _DTYPE.fullmatch(code) is None:
        raise ValueError(f"array type {reprlib.repr(code):.80} is not supported")
    dtype = np.dtype(code.replace("O8", "O"))
    if described.state is None:
        return dtype
    order, parts = described.state[1], described.state[2:5]
    if order not in ("<", ">", "|", "=") or any(part is not None for part in parts):
        raise ValueError("structured array types are not supported")
    return dtype.newbyteorder(order)


def _array(shape: Any, dtype: Any, data: Any, order: str) -> np.ndarray:
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"shape {sizes} is not one of an array")
    if not isinstance(dtype, np.dtype):
        raise ValueError(f"array type {reprlib.repr(dtype):.80} is not supported")
    count = math.prod(sizes)
    if dtype == np.dtype(object):
        if not isinstance(data, list) or len(data) != count or (order == "F" and len(sizes) > 1):
            raise ValueError(f"an array of objects must list {count} of them")
        objects = np.empty(count, object)
        for index, item in enumerate(data):
            objects[index] = item
        return objects.reshape(sizes)
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"an array of shape {sizes} and type {dtype} has {len(raw)} bytes")
    values = np.frombuffer(raw, dtype, count).reshape(sizes, order="F" if order == "F" else "C")
    return values.astype(dtype.newbyteorder("="), order="C")


def _build_array(described: PickledObject) -> np.ndarray:
    state = described.state
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise ValueError("an array has no content")
    shape, dtype, is_fortran, data = state[-4:]
    return _array(shape, dtype, data, "F" if is_fortran else "C")


def _build_array_from_buffer(described: PickledObject) -> np.ndarray:
    buffer, dtype, shape, order = described.arguments
    return _array(shape, dtype, buffer, order)


def _build_scalar(described: PickledObject) -> Any:
    dtype, data = described.arguments
    if dtype == np.dtype(object):
        raise ValueError("scalars of objects are not supported")
    return _array((), dtype, data, "C")[()]


def _build_sparse(described: PickledObject) -> Any:
    make = getattr(scipy.sparse, described.name.rpartition(".")[2])
    state = described.state
    shape = tuple(int(size) for size in state.get("_shape", state.get("shape")))
    if "indptr" in state:
        return make((state["data"], state["indices"], state["indptr"]), shape=shape)
    row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
    return make((state["data"], (row, column)), shape=shape)


def _build_chumpy(described: PickledObject) -> np.ndarray:
    values = described.state["x"]
    if not isinstance(values, np.ndarray):
        raise ValueError("a chumpy array holds no values")
    return values


def _build_chumpy_select(described: PickledObject) -> np.ndarray:
    state = described.state
    chosen = np.ravel(state["a"])[state["idxs"]]
    return chosen.reshape(state["preferred_shape"]) if "preferred_shape" in state else chosen


def _build_dict(described: PickledObject) -> dict[Any, Any]:
    # OrderedDict(pairs); a defaultdict names its factory, which is dropped.
    start = [argument for argument in described.arguments if isinstance(argument, (list, dict))]
    result = dict(start[0]) if start else {}
    result.update(described.items)
    return result


def _build_bytes(described: PickledObject) -> bytes:
    text, encoding = described.arguments
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise ValueError(f"bytes in the encoding {reprlib.repr(encoding):.80} are not supported")
    return text.encode("latin1")


def _plain(kind: Callable[..., object]) -> Builder:
    """Build a built-in type from plain arguments."""

    def build(described: PickledObject) -> object:
        plain = (list, tuple, set, str, bytes, int, float)
        if not all(isinstance(argument, plain) for argument in described.arguments):
            raise ValueError(f"{described.name} is called with something that is not plain")
        if kind in (bytes, bytearray) and any(isinstance(a, int) for a in described.arguments):
            raise ValueError(f"{described.name} is called with a size")
        return kind(*described.arguments)

    return build


def _builders() -> dict[str, Builder]:
    table: dict[str, Builder] = {
        "numpy.dtype": _build_dtype,
        "_codecs.encode": _build_bytes,
        "collections.OrderedDict": _build_dict,
        "collections.defaultdict": _build_dict,
        "chumpy.ch.Ch": _build_chumpy,
        "chumpy.reordering.Select": _build_chumpy_select,
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        table[f"{core}.multiarray._reconstruct"] = _build_array
        table[f"{core}.multiarray.scalar"] = _build_scalar
        table[f"{core}.numeric._frombuffer"] = _build_array_from_buffer
    for layout in ("csc", "csr", "coo"):
        for module in (layout, f"_{layout}"):  # before and since SciPy 1.8
            table[f"scipy.sparse.{module}.{layout}_matrix"] = _build_sparse
            table[f"scipy.sparse.{module}.{layout}_array"] = _build_sparse
    for module in ("builtins", "__builtin__"):  # Python 3 and 2
        for kind in (set, frozenset, bytes, bytearray, complex, list, tuple):
            table[f"{module}.{kind.__name__}"] = _plain(kind)
        table[f"{module}.dict"] = _build_dict
    return table


_BUILDERS = _builders()
_RECONSTRUCTORS = frozenset({"copyreg._reconstructor", "copy_reg._reconstructor"})
_MENTIONED = _RECONSTRUCTORS | {"numpy.ndarray", "builtins.object", "__builtin__.object"}
"""Names that may occur as arguments but make nothing by themselves."""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

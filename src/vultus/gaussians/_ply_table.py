"""The vertex table of a PLY file as named columns; for splats, which have no faces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vultus.core.files import write_bytes

__all__ = ["read_vertex_table", "write_vertex_table"]

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER = re.compile(rb"ply\r?\n(.*?\n)end_header\r?\n", re.DOTALL)
# A header of a splat with many properties has 5 kB; a file without an end is not searched through.
_MAX_HEADER = 1 << 16


@dataclass
class _Element:
    """A table that the header announces."""

    name: str
    count: int
    columns: dict[str, str] = field(default_factory=dict)
    """Type of each property, in order."""


def read_vertex_table(path: Path) -> dict[str, np.ndarray]:
    """Read the scalar properties of the element ``vertex`` as float64, each [n].

    Elements after it are ignored, elements before it skipped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a binary PLY file with a complete vertex table; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    data = path.read_bytes()
    try:
        return _parse(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_vertex_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns of equal length as a little-endian float32 PLY file, atomically."""
    table = np.stack([np.asarray(column, "<f4") for column in columns.values()], axis=1)
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {table.shape[0]}",
        *(f"property float {name}" for name in columns),
        "end_header",
    ]
    write_bytes(path, ("\n".join(header) + "\n").encode("ascii") + table.tobytes())


def _parse(data: bytes) -> dict[str, np.ndarray]:
    order, elements, start = _parse_header(data)
    for element in elements:
        dtype = np.dtype([(name, order + kind) for name, kind in element.columns.items()])
        size = dtype.itemsize * element.count
        if element.name == "vertex":
            if start + size > len(data):
                raise ValueError(
                    f"PLY file must have {size} bytes for {element.count} vertices, got "
                    f"{max(len(data) - start, 0)}"
                )
            rows = np.frombuffer(data, dtype, element.count, start)
            return {name: rows[name].astype(np.float64) for name in element.columns}
        start += size
    raise ValueError("PLY file has no element vertex")


def _parse_header(data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order, elements up to ``vertex``, and where their data starts."""
    found = _HEADER.match(data[:_MAX_HEADER])
    if found is None:
        raise ValueError("not a PLY file: no header")
    lines = found[1].decode("ascii", errors="replace").splitlines()
    order, elements = None, list[_Element]()
    for line in lines:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", name, _]:
                order = _byte_order(name)
            case ["element", name, count]:
                elements.append(_Element(name, _count(count)))
            case ["property", "list", *_] if _is_open(elements):
                raise ValueError(f"PLY file has a list in or before its vertices: {line!r}")
            case ["property", kind, name] if kind in _TYPES and elements:
                _add_column(elements[-1], name, _TYPES[kind])
            case ["property", "list", *_]:
                continue
            case _:
                raise ValueError(f"PLY header has a line that cannot be read: {line[:80]!r}")
    if order is None:
        raise ValueError("PLY header has no format line")
    return order, elements, found.end()


def _byte_order(name: str) -> str:
    if name not in _ORDERS:
        raise ValueError(f"PLY format must be {' or '.join(_ORDERS)}, got {name!r}")
    return _ORDERS[name]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"PLY header has an element count that is no number: {text[:80]!r}")
    return int(text)


def _is_open(elements: list[_Element]) -> bool:
    """Whether the vertices have not been passed yet."""
    return "vertex" not in [element.name for element in elements[:-1]]


def _add_column(element: _Element, name: str, kind: str) -> None:
    if name in element.columns:
        raise ValueError(f"PLY header names property {name!r} twice")
    element.columns[name] = kind

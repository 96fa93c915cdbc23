"""PLY files as named columns: binary of either byte order or text in, little-endian binary out.

Reference: Greg Turk, The PLY Polygon File Format, 1994.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vultus.core.files import write_bytes

__all__ = ["PlyList", "PlyTable", "read_ply_tables", "write_ply_tables"]

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_INTEGERS = tuple(name for name, kind in _TYPES.items() if kind[0] in "iu")
_TEXT = ""
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": _TEXT}
_HEADER = re.compile(rb"ply\r?\n(.*?\n)?end_header\r?\n", re.DOTALL)
# A splat with many properties has a header of 5 kB; a file without an end is not searched through.
_LARGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class PlyList:
    """A property of which every row holds a list."""

    values: np.ndarray
    """All lists, one after the other."""
    counts: np.ndarray
    """Length of each row's list."""


@dataclass(frozen=True)
class PlyTable:
    """One element of a file; the arrays have the types of the file."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, PlyList] = field(default_factory=dict)


class _Property(NamedTuple):
    name: str
    kind: str
    count_kind: str | None
    """Type of a list's length; None for a single value."""


class _Element(NamedTuple):
    name: str
    count: int
    properties: list[_Property]


def read_ply_tables(path: Path, last: str | None = None) -> dict[str, PlyTable]:
    """Read the elements of a PLY file by name.

    Args:
        path: File to read.
        last: Element behind which reading stops; what follows is not looked at. By default all
            are read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a complete PLY file, or has no element ``last``; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    data = path.read_bytes()
    try:
        byte_order, elements, start = _parse_header(data)
        names = [element.name for element in elements]
        if last is not None:
            if last not in names:
                raise ValueError(f"PLY file has no element {last}")
            elements = elements[: names.index(last) + 1]
        if byte_order == _TEXT:
            return _read_text(data[start:], elements)
        return _read_binary(data, start, byte_order, elements)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_ply_tables(
    path: Path, vertices: Mapping[str, np.ndarray], triangles: np.ndarray | None = None
) -> None:
    """Write a little-endian binary file, atomically.

    Args:
        path: File to write.
        vertices: Columns of equal length; 8-bit ones stay so, all others become float32.
        triangles: Vertex indices [f, 3].

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    kinds = {name: "u1" if c.dtype == np.uint8 else "<f4" for name, c in vertices.items()}
    table = np.zeros(len(next(iter(vertices.values()))), dtype=list(kinds.items()))
    for name, column in vertices.items():
        table[name] = column
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(table)}",
        *(f"property {'uchar' if kind == 'u1' else 'float'} {n}" for n, kind in kinds.items()),
    ]
    body = table.tobytes()
    if triangles is not None:
        rows = np.zeros(len(triangles), dtype=[("count", "u1"), ("indices", "<i4", (3,))])
        rows["count"], rows["indices"] = 3, triangles
        header += [f"element face {len(rows)}", "property list uchar int vertex_indices"]
        body += rows.tobytes()
    write_bytes(path, "\n".join([*header, "end_header", ""]).encode("ascii") + body)


def _parse_header(data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order, elements, and where their data start."""
    found = _HEADER.match(data[:_LARGEST_HEADER])
    if found is None:
        raise ValueError("not a PLY file: no header")
    byte_order, elements = None, list[_Element]()
    for line in (found[1] or b"").decode("ascii", errors="replace").splitlines():
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", name, _]:
                if name not in _BYTE_ORDERS:
                    raise ValueError(
                        f"PLY format must be one of {', '.join(_BYTE_ORDERS)}, got {name[:80]!r}"
                    )
                byte_order = _BYTE_ORDERS[name]
            case ["element", name, count]:
                _add_element(elements, name, count)
            case ["property", kind, name] if kind in _TYPES and elements:
                _add_property(elements[-1], _Property(name, _TYPES[kind], None))
            case ["property", "list", count_kind, kind, name] if (
                count_kind in _INTEGERS and kind in _TYPES and elements
            ):
                _add_property(elements[-1], _Property(name, _TYPES[kind], _TYPES[count_kind]))
            case _:
                raise ValueError(f"PLY header has a line that cannot be read: {line[:80]!r}")
    if byte_order is None:
        raise ValueError("PLY header has no format line")
    for element in elements:
        if element.count and not element.properties:
            raise ValueError(f"PLY header gives the element {element.name!r} no property")
    return byte_order, elements, found.end()


def _add_element(elements: list[_Element], name: str, count: str) -> None:
    if name in [element.name for element in elements]:
        raise ValueError(f"PLY header names element {name!r} twice")
    if not count.isdecimal():
        raise ValueError(f"PLY header has an element count that is no number: {count[:80]!r}")
    elements.append(_Element(name, int(count), []))


def _add_property(element: _Element, new: _Property) -> None:
    if new.name in [known.name for known in element.properties]:
        raise ValueError(f"PLY header names property {new.name!r} twice")
    element.properties.append(new)


def _read_binary(
    data: bytes, offset: int, byte_order: str, elements: list[_Element]
) -> dict[str, PlyTable]:
    tables = {}
    for element in elements:
        # Rows of a mesh are mostly alike: lists as long as the first ones are read at once.
        counts = _first_counts(data, offset, byte_order, element) if element.count else {}
        size = element.count * sum(_row_size(p, counts) for p in element.properties)
        if not counts and offset + size > len(data):
            raise ValueError(
                f"PLY file must have {size} bytes for {element.count} rows of {element.name}, got "
                f"{len(data) - offset}"
            )
        table = None
        if offset + size <= len(data):
            table = _read_equal_rows(data, offset, byte_order, element, counts)
        if table is not None:
            offset += size
        else:
            table, offset = _read_unequal_rows(data, offset, byte_order, element)
        tables[element.name] = table
    return tables


def _row_size(column: _Property, counts: Mapping[str, int]) -> int:
    item = np.dtype(column.kind).itemsize
    if column.count_kind is None:
        return item
    return np.dtype(column.count_kind).itemsize + item * counts.get(column.name, 0)


def _first_counts(data: bytes, offset: int, byte_order: str, element: _Element) -> dict[str, int]:
    """Lengths of the lists in the first row."""
    counts = {}
    for name, kind, count_kind in element.properties:
        count = 1
        if count_kind is not None:
            count, offset = _read_count(data, offset, byte_order + count_kind, element)
            counts[name] = count
        offset += count * np.dtype(kind).itemsize
    return counts


def _read_count(data: bytes, offset: int, kind: str, element: _Element) -> tuple[int, int]:
    """A list's length, and where the list starts."""
    count = int(_read_values(data, offset, kind, 1, element)[0])
    _check_length(count, element)
    return count, offset + np.dtype(kind).itemsize


def _read_values(data: bytes, offset: int, kind: str, count: int, element: _Element) -> np.ndarray:
    if offset + count * np.dtype(kind).itemsize > len(data):
        raise ValueError(f"PLY file ends within element {element.name}")
    return np.frombuffer(data, kind, count, offset)


def _read_equal_rows(
    data: bytes, offset: int, byte_order: str, element: _Element, counts: Mapping[str, int]
) -> PlyTable | None:
    """Read rows whose lists all have the same lengths; None if they have not."""
    fields: list[tuple[str, str, tuple[int, ...]]] = []
    for name, kind, count_kind in element.properties:
        if count_kind is not None:
            fields.append((f"length of {name}", byte_order + count_kind, ()))
        shape = (counts[name],) if name in counts else ()
        fields.append((f"value of {name}", byte_order + kind, shape))
    if not element.count:
        return _empty_table(element)
    rows = np.frombuffer(data, np.dtype(fields), element.count, offset)
    table = PlyTable()
    for name, _, count_kind in element.properties:
        values = rows[f"value of {name}"]
        if count_kind is None:
            table.columns[name] = values
            continue
        lengths = rows[f"length of {name}"].astype(np.int64)
        if (lengths != counts[name]).any():
            return None
        table.lists[name] = PlyList(values.reshape(-1), lengths)
    return table


def _read_unequal_rows(
    data: bytes, offset: int, byte_order: str, element: _Element
) -> tuple[PlyTable, int]:
    """Read row by row; also where the next element starts."""
    parts: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
    for _ in range(element.count):
        for name, kind, count_kind in element.properties:
            count = 1
            if count_kind is not None:
                count, offset = _read_count(data, offset, byte_order + count_kind, element)
            values = _read_values(data, offset, byte_order + kind, count, element)
            parts[name].append(values)
            offset += values.nbytes
    return _joined(element, parts), offset


def _read_text(body: bytes, elements: list[_Element]) -> dict[str, PlyTable]:
    words = body.decode("ascii", errors="replace").split()
    tables, at = {}, 0
    for element in elements:
        width = len(element.properties)
        parts: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
        if not any(p.count_kind for p in element.properties):
            block = _take(words, at, element.count * width, element)
            at += len(block)
            for i, (name, kind, _) in enumerate(element.properties):
                parts[name].append(_numbers(block[i::width], kind, element))
            tables[element.name] = _joined(element, parts)
            continue
        for _ in range(element.count):
            for name, kind, count_kind in element.properties:
                count = 1
                if count_kind is not None:
                    count = int(_numbers(_take(words, at, 1, element), count_kind, element)[0])
                    at += 1
                parts[name].append(_numbers(_take(words, at, count, element), kind, element))
                at += count
        tables[element.name] = _joined(element, parts)
    return tables


def _take(words: list[str], at: int, count: int, element: _Element) -> list[str]:
    _check_length(count, element)
    if at + count > len(words):
        raise ValueError(f"PLY file ends within element {element.name}")
    return words[at : at + count]


def _numbers(words: list[str], kind: str, element: _Element) -> np.ndarray:
    """Turn words into numbers of a type that holds them."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        raise ValueError(f"PLY file has a word that is no number in {element.name}") from None
    with np.errstate(over="ignore", invalid="ignore"):
        typed = values.astype(kind)
    if typed.dtype.kind in "iu" and (typed != values).any():
        raise ValueError(f"PLY file has a number that is no {typed.dtype} in {element.name}")
    return typed


def _check_length(count: int, element: _Element) -> None:
    if count < 0:
        raise ValueError(f"PLY file has a list of negative length in element {element.name}")


def _joined(element: _Element, parts: Mapping[str, list[np.ndarray]]) -> PlyTable:
    table = _empty_table(element)
    if not element.count:
        return table
    for name, _, count_kind in element.properties:
        values = np.concatenate(parts[name])
        if count_kind is None:
            table.columns[name] = values
        else:
            counts = np.array([len(part) for part in parts[name]], dtype=np.int64)
            table.lists[name] = PlyList(values, counts)
    return table


def _empty_table(element: _Element) -> PlyTable:
    table = PlyTable()
    for name, kind, count_kind in element.properties:
        if count_kind is None:
            table.columns[name] = np.empty(0, kind)
        else:
            table.lists[name] = PlyList(np.empty(0, kind), np.empty(0, np.int64))
    return table

"""Triangle meshes as PLY files: binary out; binary of either byte order or text in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vultus.core.files import write_bytes
from vultus.geometry.meshes import TriangleMesh

__all__ = ["read_ply", "write_ply"]

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_HEADER_END = b"end_header"
_LARGEST_HEADER = 1 << 16
_POSITION, _NORMAL, _COLOR = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")
_INDEX_LISTS = {"vertex_indices", "vertex_index"}


@dataclass
class _Element:
    """One table of a PLY file; ``properties`` are (name, type, type of the list's count)."""

    name: str
    count: int
    properties: list[tuple[str, str, str | None]]


def write_ply(path: Path, mesh: TriangleMesh) -> None:
    """Write a binary PLY with normals and 8-bit colors where the mesh has them (no texture)."""
    fields: list[tuple[str, str]] = [(name, "<f4") for name in _POSITION]
    if mesh.normals is not None:
        fields += [(name, "<f4") for name in _NORMAL]
    if mesh.colors is not None:
        fields += [(name, "u1") for name in _COLOR]
    vertices = np.zeros(mesh.vertices.shape[0], dtype=fields)
    _fill(vertices, _POSITION, mesh.vertices)
    if mesh.normals is not None:
        _fill(vertices, _NORMAL, mesh.normals)
    if mesh.colors is not None:
        _fill(vertices, _COLOR, (mesh.colors.clamp(0, 1) * 255).round())
    faces = np.zeros(mesh.faces.shape[0], dtype=[("count", "u1"), ("indices", "<i4", (3,))])
    faces["count"], faces["indices"] = 3, mesh.faces.cpu().numpy()
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind in fields),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    header = "\n".join(lines).encode("ascii") + b"\n"
    write_bytes(path, header + vertices.tobytes() + faces.tobytes())


def _fill(table: np.ndarray, names: tuple[str, ...], values: torch.Tensor) -> None:
    array = values.detach().cpu().numpy()
    for column, name in enumerate(names):
        table[name] = array[:, column]


def read_ply(path: Path) -> TriangleMesh:
    """Read vertices, faces (polygons become fans), normals and colors; the rest is skipped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a PLY mesh; the message names the file and the first fault.
    """
    data = path.read_bytes()
    try:
        byte_order, elements, start = _parse_header(data)
        tables = _read_tables(data[start:], byte_order, elements)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path}: not a PLY mesh that can be read: {error}") from None
    vertices, faces = tables.get("vertex"), tables.get("face", {}).get("triangles")
    if vertices is None or any(name not in vertices for name in _POSITION):
        raise ValueError(f"{path}: a PLY mesh must have an element vertex with x, y, z")
    if faces is None:
        faces = np.zeros((0, 3), dtype=np.int64)
    colors = _columns(vertices, _COLOR)
    if colors is not None and np.issubdtype(vertices["red"].dtype, np.integer):
        colors = colors / np.iinfo(vertices["red"].dtype).max
    normals = _columns(vertices, _NORMAL)
    positions = np.stack([vertices[name] for name in _POSITION], axis=-1)
    try:
        return TriangleMesh(
            torch.from_numpy(positions.astype(np.float32)),
            torch.from_numpy(faces),
            None if colors is None else torch.from_numpy(colors.astype(np.float32)),
            None if normals is None else torch.from_numpy(normals.astype(np.float32)),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _columns(table: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    if any(name not in table for name in names):
        return None
    return np.stack([table[name] for name in names], axis=-1)


def _parse_header(data: bytes) -> tuple[str, list[_Element], int]:
    end = data.find(_HEADER_END, 0, _LARGEST_HEADER)
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("no PLY header")
    start = data.index(b"\n", end) + 1
    byte_order, elements = None, []
    for line in data[:end].decode("ascii", errors="replace").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3:
            byte_order = _BYTE_ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3:
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[0] == "property" and len(words) == 3 and elements:
            elements[-1].properties.append((words[2], _TYPES[words[1]], None))
        elif words[:2] == ["property", "list"] and len(words) == 5 and elements:
            elements[-1].properties.append((words[4], _TYPES[words[3]], _TYPES[words[2]]))
        else:
            raise ValueError(f"header line {line!r}")
    if byte_order is None:
        raise ValueError("no format line")
    return byte_order, elements, start


def _read_tables(
    body: bytes, byte_order: str, elements: list[_Element]
) -> dict[str, dict[str, np.ndarray]]:
    if not byte_order:
        return _read_text_tables(body, elements)
    tables, offset = {}, 0
    for element in elements:
        if any(count_type for _, _, count_type in element.properties):
            tables[element.name], offset = _read_lists(body, offset, byte_order, element)
            continue
        dtype = np.dtype([(name, byte_order + kind) for name, kind, _ in element.properties])
        _check_rest(body, offset, dtype.itemsize * element.count, element)
        table = np.frombuffer(body, dtype, element.count, offset)
        tables[element.name] = {name: table[name] for name, _, _ in element.properties}
        offset += dtype.itemsize * element.count
    return tables


def _check_rest(body: bytes, offset: int, size: int, element: _Element) -> None:
    if offset + size > len(body):
        raise ValueError(f"element {element.name} ends after {len(body) - offset} of {size} bytes")


def _read_lists(
    body: bytes, offset: int, byte_order: str, element: _Element
) -> tuple[dict[str, np.ndarray], int]:
    """Read an element with lists: at once if all are triangles, else row by row."""
    if len(element.properties) == 1:
        name, kind, count_type = element.properties[0]
        dtype = np.dtype(
            [("count", f"{byte_order}{count_type}"), ("indices", byte_order + kind, (3,))]
        )
        size = dtype.itemsize * element.count
        if name in _INDEX_LISTS and offset + size <= len(body):
            rows = np.frombuffer(body, dtype, element.count, offset)
            if bool((rows["count"] == 3).all()):
                return {"triangles": rows["indices"].astype(np.int64)}, offset + size
    polygons = []
    for _ in range(element.count):
        for name, kind, count_type in element.properties:
            count = 1
            if count_type is not None:
                count_dtype = np.dtype(byte_order + count_type)
                _check_rest(body, offset, count_dtype.itemsize, element)
                count = int(np.frombuffer(body, count_dtype, 1, offset)[0])
                offset += count_dtype.itemsize
            dtype = np.dtype(byte_order + kind)
            _check_rest(body, offset, dtype.itemsize * count, element)
            if name in _INDEX_LISTS:
                polygons.append(np.frombuffer(body, dtype, count, offset).tolist())
            offset += dtype.itemsize * count
    return {"triangles": _fans(polygons)}, offset


def _read_text_tables(body: bytes, elements: list[_Element]) -> dict[str, dict[str, np.ndarray]]:
    words = iter(body.decode("ascii", errors="replace").split())
    tables: dict[str, dict[str, np.ndarray]] = {}
    try:
        for element in elements:
            columns: dict[str, list[float]] = {name: [] for name, _, _ in element.properties}
            polygons = []
            for _ in range(element.count):
                for name, _, count_type in element.properties:
                    if count_type is None:
                        columns[name].append(float(next(words)))
                        continue
                    values = [int(next(words)) for _ in range(int(next(words)))]
                    if name in _INDEX_LISTS:
                        polygons.append(values)
            tables[element.name] = {
                name: np.array(columns[name], dtype=kind)
                for name, kind, count_type in element.properties
                if count_type is None
            }
            tables[element.name]["triangles"] = _fans(polygons)
    except StopIteration:
        raise ValueError("the text ends early") from None
    return tables


def _fans(polygons: list[list[int]]) -> np.ndarray:
    triangles = [
        (polygon[0], polygon[i], polygon[i + 1])
        for polygon in polygons
        for i in range(1, len(polygon) - 1)
    ]
    return np.array(triangles, dtype=np.int64).reshape(-1, 3)

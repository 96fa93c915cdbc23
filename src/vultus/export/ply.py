"""Triangle meshes as PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vultus.core.ply_io import PlyList, PlyTable, read_ply_tables, write_ply_tables
from vultus.geometry.meshes import TriangleMesh

__all__ = ["read_ply", "write_ply"]

_POSITION, _NORMAL, _COLOR = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")
_INDEX_LISTS = ("vertex_indices", "vertex_index")


def write_ply(path: Path, mesh: TriangleMesh) -> None:
    """Write a binary PLY with normals and 8-bit colors where the mesh has them (no texture)."""
    columns = _named(_POSITION, mesh.vertices)
    if mesh.normals is not None:
        columns |= _named(_NORMAL, mesh.normals)
    if mesh.colors is not None:
        columns |= _named(_COLOR, (mesh.colors.clamp(0, 1) * 255).round().to(torch.uint8))
    write_ply_tables(path, columns, mesh.faces.cpu().numpy())


def read_ply(path: Path) -> TriangleMesh:
    """Read vertices, faces (polygons become fans), normals and colors; the rest is skipped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a PLY mesh; the message names the file and the first fault.
    """
    tables = read_ply_tables(path)
    vertices = tables.get("vertex", PlyTable()).columns
    positions, normals = _columns(vertices, _POSITION), _columns(vertices, _NORMAL)
    if positions is None:
        raise ValueError(f"{path}: a PLY mesh must have an element vertex with x, y, z")
    colors = _columns(vertices, _COLOR)
    if colors is not None and np.issubdtype(vertices["red"].dtype, np.integer):
        colors = colors / np.iinfo(vertices["red"].dtype).max
    polygons = tables.get("face", PlyTable()).lists
    indices = next((polygons[name] for name in _INDEX_LISTS if name in polygons), None)
    try:
        return TriangleMesh(
            torch.from_numpy(positions.astype(np.float32)),
            torch.from_numpy(np.zeros((0, 3), np.int64) if indices is None else _fans(indices)),
            None if colors is None else torch.from_numpy(colors.astype(np.float32)),
            None if normals is None else torch.from_numpy(normals.astype(np.float32)),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _named(names: tuple[str, ...], values: torch.Tensor) -> dict[str, np.ndarray]:
    return dict(zip(names, values.detach().cpu().numpy().T, strict=True))


def _columns(table: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    if any(name not in table for name in names):
        return None
    return np.stack([table[name] for name in names], axis=-1)


def _fans(polygons: PlyList) -> np.ndarray:
    """Cut polygons into triangles around their first corners.

    Raises:
        ValueError: If the corners are not whole numbers.
    """
    if polygons.values.dtype.kind not in "iu":
        raise ValueError(f"vertex indices must be whole numbers, got {polygons.values.dtype}")
    # Triangle t of a polygon has the corners 0, t + 1, t + 2; lists of two or fewer have none.
    num = np.maximum(polygons.counts - 2, 0)
    first = np.repeat(np.cumsum(polygons.counts) - polygons.counts, num)
    step = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)
    corners = np.stack([first, first + step + 1, first + step + 2], axis=-1)
    return polygons.values[corners].astype(np.int64)

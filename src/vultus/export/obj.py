"""Triangle meshes as Wavefront OBJ text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch

from vultus.core.files import write_text
from vultus.geometry.meshes import TriangleMesh

__all__ = ["read_obj", "write_obj"]


def write_obj(path: Path, mesh: TriangleMesh) -> None:
    """Write vertices (with colors behind the position, as MeshLab reads them), normals and uv."""
    colors = [] if mesh.colors is None else [mesh.colors]
    rows = torch.cat([mesh.vertices, *colors], dim=1).tolist()
    lines = ["v " + " ".join(f"{value:.9g}" for value in row) for row in rows]
    if mesh.uv is not None:
        lines += [f"vt {u:.9g} {v:.9g}" for u, v in mesh.uv.tolist()]
    if mesh.normals is not None:
        lines += [f"vn {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.normals.tolist()]
    faces = (mesh.faces + 1).tolist()
    uv_faces = faces if mesh.uv_faces is None else (mesh.uv_faces + 1).tolist()
    for face, uv_face in zip(faces, uv_faces, strict=True):
        corners = []
        for vertex, uv in zip(face, uv_face, strict=True):
            text = str(vertex)
            if mesh.uv is not None or mesh.normals is not None:
                text += f"/{uv if mesh.uv is not None else ''}"
            if mesh.normals is not None:
                text += f"/{vertex}"
            corners.append(text)
        lines.append("f " + " ".join(corners))
    write_text(path, "\n".join(lines) + "\n")


def read_obj(path: Path) -> TriangleMesh:
    """Read vertices, colors, texture coordinates and faces (polygons become fans).

    Normals are kept if every corner uses those of its vertex, and dropped otherwise; so are texture
    coordinates that only some faces have. Groups, materials and lines are skipped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line cannot be read; the message names file and line.
    """
    table: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: list[list[tuple[int, int | None, int | None]]] = []
    text = path.read_text("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            if words[0] in table:
                table[words[0]].append([float(word) for word in words[1:]])
            elif words[0] == "f":
                polygon = [_corner(word, table) for word in words[1:]]
                pairs = pairwise(polygon[1:])
                corners += [[polygon[0], second, third] for second, third in pairs]
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {line[:60]!r} cannot be read: {error}") from None
    try:
        return _assemble(table, corners)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _corner(word: str, table: dict[str, list[list[float]]]) -> tuple[int, int | None, int | None]:
    """Zero-based indices of "v/vt/vn"; negative numbers count from the end."""
    parts = [*word.split("/"), "", ""][:3]
    indices: list[int | None] = []
    for part, name in zip(parts, ("v", "vt", "vn"), strict=True):
        index = int(part) if part else None
        if index == 0:
            raise ValueError("indices start at 1")
        indices.append(
            index if index is None else index - 1 if index > 0 else len(table[name]) + index
        )
    if indices[0] is None:
        raise ValueError("a corner needs a vertex")
    return indices[0], indices[1], indices[2]


def _assemble(
    table: dict[str, list[list[float]]], corners: list[list[tuple[int, int | None, int | None]]]
) -> TriangleMesh:
    lengths = {len(row) for row in table["v"]}
    if not table["v"] or not lengths <= {3, 4, 6}:
        raise ValueError(f"vertices must have 3 numbers (and 3 of color), got {sorted(lengths)}")
    has_colors = lengths == {6}
    vertices = torch.tensor([row[:3] for row in table["v"]])
    faces = torch.tensor([[c[0] for c in face] for face in corners], dtype=torch.long)
    has_uv = bool(table["vt"]) and all(c[1] is not None for face in corners for c in face)
    uv_indices = [[c[1] for c in face] for face in corners]
    has_normals = len(table["vn"]) == len(vertices) and all(
        c[2] == c[0] for face in corners for c in face
    )
    return TriangleMesh(
        vertices,
        faces.reshape(-1, 3),
        torch.tensor([row[3:] for row in table["v"]]) if has_colors else None,
        torch.tensor([row[:3] for row in table["vn"]]) if has_normals else None,
        torch.tensor([row[:2] for row in table["vt"]]) if has_uv else None,
        torch.tensor(uv_indices, dtype=torch.long).reshape(-1, 3) if has_uv else None,
    )

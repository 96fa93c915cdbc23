"""A plain collar that hides where the neck ends (mm)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vultus.heads.procedural.mesh_graph import grid_faces
from vultus.heads.procedural.parts import Attachment, PartMesh, fan_faces
from vultus.heads.procedural.template import NECK_POINTS, SkinTemplate

__all__ = ["build_garment"]

# Rows from the inside over the rolled edge down to the hem and under it: position in the neck's
# loops and mm off the skin.
_ROWS = (
    (7.3, 0.3),
    (6.95, 1.6),
    (6.85, 3.2),
    (7.1, 4.4),
    (7.6, 4.4),
    (7.9, 3.2),
    (8.2, 2.8),
    (9.0, 3.2),
    (10.0, 3.8),
    (11.0, 4.5),
    (11.0, 5.0),
    (11.0, -8.0),
)
_HEM_ROWS = 2
"""The last rows lie at one height, like the base of a bust."""
_HEM_Y = -206.0
_BOTTOM = np.array([0.0, _HEM_Y, -30.0])
_UV_INSET = 0.04
"""Keeps texture filtering inside the rectangle."""


def build_garment(skin: SkinTemplate) -> tuple[PartMesh, Attachment]:
    """Collar around the neck's lower loops, closed below; it moves as the skin under it."""
    loops = np.roll(skin.neck, NECK_POINTS // 2, axis=1)  # the seam goes to the back
    num_columns = NECK_POINTS
    normals = _vertex_normals(skin)
    blocks, starts, ends, fractions = [], [], [], []
    for row, (position, offset) in enumerate(_ROWS):
        loop = min(int(position), len(loops) - 2)
        start, end, fraction = loops[loop], loops[loop + 1], position - loop
        normal = normals[start] * (1 - fraction) + normals[end] * fraction
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        points = skin.vertices[start] * (1 - fraction) + skin.vertices[end] * fraction
        points = points + offset * normal
        if row >= len(_ROWS) - _HEM_ROWS:
            points[:, 1] = _HEM_Y
        blocks.append(points)
        starts.append(start)
        ends.append(end)
        fractions.append(np.full(num_columns, fraction))
    pole = len(_ROWS) * num_columns
    last = skin.neck[-1, :1]
    attachment = Attachment(
        np.concatenate([*starts, last]),
        np.concatenate([*ends, last]),
        np.concatenate([*fractions, [0.0]]),
    )
    vertices = np.concatenate([*blocks, _BOTTOM[None]])
    rows = grid_faces(len(_ROWS), num_columns, is_closed=True)
    hem = pole - num_columns + np.arange(num_columns)
    faces = np.concatenate([rows, fan_faces(pole, hem)[:, ::-1]])[:, ::-1]
    return PartMesh(vertices, faces, *_chart(num_columns)), attachment


def _chart(num_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows along v, columns along u with a seam column of their own."""
    v, u = np.meshgrid(
        np.linspace(1 - _UV_INSET, _UV_INSET, len(_ROWS) + 1),
        np.linspace(_UV_INSET, 1 - _UV_INSET, num_columns + 1),
        indexing="ij",
    )
    uv = np.stack([u, v], -1).reshape(-1, 2)
    cells = grid_faces(len(_ROWS), num_columns, is_closed=True)
    row, column = np.divmod(cells, num_columns)
    wraps = np.ptp(column, axis=1) > num_columns // 2
    column = np.where(wraps[:, None] & (column == 0), num_columns, column)
    hem = (len(_ROWS) - 1) * (num_columns + 1) + np.arange(num_columns)
    # Below the hem, every triangle has its own corner of the last row.
    fan = np.stack([hem + num_columns + 1, hem + 1, hem], 1)
    cells = row * (num_columns + 1) + column
    return uv, np.concatenate([cells, fan[:, ::-1]])[:, ::-1]


def _vertex_normals(skin: SkinTemplate) -> Float[np.ndarray, "v 3"]:
    a, b, c = (skin.vertices[skin.faces[:, corner]] for corner in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros_like(skin.vertices)
    for corner in range(3):
        np.add.at(normals, skin.faces[:, corner], face_normals)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)

"""Baking of per-corner values into a texture."""

from __future__ import annotations

import numpy as np

__all__ = ["bake_corners", "fill_outwards"]


def bake_corners(
    values: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate values over the triangles of a texture map.

    Texel (row, column) has its centre at u = (column + 0.5) / size, v = 1 - (row + 0.5) / size.

    Args:
        values: Per face and corner, [f 3 d].
        uv: Texture coordinates, [t 2] in [0, 1].
        uv_faces: Indices into ``uv``, [f 3].
        size: Side of the square texture.

    Returns:
        The texture [size size d], NaN where no triangle lies, and the face of each texel
        [size size], -1 where none. Where triangles overlap, the last one wins.
    """
    corners = uv[uv_faces] * size
    x, y = corners[..., 0] - 0.5, size - 0.5 - corners[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    first_column = np.ceil(x.min(axis=1)).astype(np.int64)
    first_row = np.ceil(y.min(axis=1)).astype(np.int64)
    num_columns = np.floor(x.max(axis=1)).astype(np.int64) - first_column + 1
    num_rows = np.floor(y.max(axis=1)).astype(np.int64) - first_row + 1
    counts = np.where(np.abs(area) > 1e-12, num_columns * num_rows, 0)
    # One entry per texel of every triangle's bounding box.
    face = np.repeat(np.arange(len(uv_faces)), counts)
    offset = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    column = first_column[face] + offset % num_columns[face]
    row = first_row[face] + offset // num_columns[face]

    def edge(a: int, b: int) -> np.ndarray:
        ax, ay, bx, by = x[face, a], y[face, a], x[face, b], y[face, b]
        return ((bx - ax) * (row - ay) - (by - ay) * (column - ax)) / area[face]

    weights = np.stack([edge(1, 2), edge(2, 0), edge(0, 1)], axis=1)
    inside = (weights >= -1e-9).all(axis=1)
    inside &= (row >= 0) & (row < size) & (column >= 0) & (column < size)
    face, row, column, weights = face[inside], row[inside], column[inside], weights[inside]
    texture = np.full((size, size, values.shape[-1]), np.nan)
    texture[row, column] = np.einsum("nk,nkd->nd", weights, values[face])
    faces = np.full((size, size), -1, dtype=np.int64)
    faces[row, column] = face
    return texture, faces


def fill_outwards(texture: np.ndarray, is_known: np.ndarray, rounds: int) -> np.ndarray:
    """Grow known texels over their unknown neighbours, so that filtering finds no seams.

    Args:
        texture: [h w d].
        is_known: [h w].
        rounds: How many texels to grow by.
    """
    texture, known = texture.copy(), is_known.copy()
    for _ in range(rounds):
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            neighbour_known = np.roll(known, step, axis)
            takes = neighbour_known & ~known
            texture[takes] = np.roll(texture, step, axis)[takes]
            known |= takes
    return texture

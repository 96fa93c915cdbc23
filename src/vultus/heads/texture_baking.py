"""Rasterisation of triangles in the plane, for baking textures and drawing silhouettes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["CoveredTexels", "bake_corners", "cover_texels", "fill_outwards"]

_SMALLEST_AREA = 1e-12
_EDGE_TOLERANCE = 1e-9
"""Neighbours both take a texel on their common edge rather than leave a hole."""


class CoveredTexels(NamedTuple):
    """One entry per pair of a triangle and a texel centre inside it, by rising triangle."""

    face: np.ndarray
    row: np.ndarray
    column: np.ndarray
    weights: np.ndarray
    """Barycentric, [n 3]."""


def cover_texels(corners: np.ndarray, width: int, height: int) -> CoveredTexels:
    """Find the texels whose centres lie inside triangles of either orientation.

    Args:
        corners: Pixel coordinates (x, y) with centres at integer + 0.5, [f 3 2].
        width: Columns of the image.
        height: Rows of the image.
    """
    x, y = corners[..., 0] - 0.5, corners[..., 1] - 0.5
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    first_column = np.ceil(x.min(axis=1)).clip(0, width).astype(np.int64)
    first_row = np.ceil(y.min(axis=1)).clip(0, height).astype(np.int64)
    last_column = np.floor(x.max(axis=1)).clip(-1, width - 1).astype(np.int64)
    last_row = np.floor(y.max(axis=1)).clip(-1, height - 1).astype(np.int64)
    num_columns = (last_column - first_column + 1).clip(min=0)
    num_rows = (last_row - first_row + 1).clip(min=0)
    counts = np.where(np.abs(area) > _SMALLEST_AREA, num_columns * num_rows, 0)
    # One entry per texel of every triangle's bounding box.
    face = np.repeat(np.arange(len(corners)), counts)
    offset = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    column = first_column[face] + offset % num_columns[face]
    row = first_row[face] + offset // num_columns[face]

    def edge(a: int, b: int) -> np.ndarray:
        ax, ay, bx, by = x[face, a], y[face, a], x[face, b], y[face, b]
        return ((bx - ax) * (row - ay) - (by - ay) * (column - ax)) / area[face]

    weights = np.stack([edge(1, 2), edge(2, 0), edge(0, 1)], axis=1)
    inside = (weights >= -_EDGE_TOLERANCE).all(axis=1)
    return CoveredTexels(face[inside], row[inside], column[inside], weights[inside])


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
    corners = np.array([0.0, size]) + np.array([size, -size]) * uv[uv_faces]
    face, row, column, weights = cover_texels(corners, size, size)
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

"""Neighbourhoods on a triangle mesh: averages and harmonic fields."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg
from jaxtyping import Bool, Float, Int

__all__ = ["adjacency", "grid_faces", "harmonic_field", "loop_strip"]


def adjacency(faces: Int[np.ndarray, "f 3"], num_vertices: int) -> sparse.csr_array:
    """Matrix with 1 where two vertices share an edge."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    shape = (num_vertices, num_vertices)
    entries = (np.ones(len(edges)), (edges[:, 0], edges[:, 1]))
    matrix = sparse.csr_array(entries, shape)
    matrix.data[:] = 1
    return matrix


def harmonic_field(
    graph: sparse.csr_array,
    is_fixed: Bool[np.ndarray, " n"],
    fixed_values: Float[np.ndarray, " n"],
    soft_weights: Float[np.ndarray, " n"],
    soft_values: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Smoothest field with some fixed values and some values that it is drawn to."""
    degree = graph.sum(1)
    system = (sparse.diags_array(degree + soft_weights + 1e-9) - graph).tocsr()
    free = ~is_fixed
    field = np.where(is_fixed, fixed_values, 0.0)
    right = soft_weights * soft_values - system[:, is_fixed] @ field[is_fixed]
    field[free] = sparse_linalg.spsolve(system[free][:, free].tocsc(), right[free])
    return field


def loop_strip(inner: Int[np.ndarray, " n"], outer: Int[np.ndarray, " n"]) -> np.ndarray:
    """Triangles of the band between two closed loops of equal length."""
    inner_next, outer_next = np.roll(inner, -1), np.roll(outer, -1)
    first = np.stack([inner, outer, inner_next], 1)
    return np.concatenate([first, np.stack([inner_next, outer, outer_next], 1)])


def grid_faces(num_rows: int, num_columns: int, *, is_closed: bool = False) -> np.ndarray:
    """Two triangles per cell of a row-major grid; ``is_closed`` joins the last column to the first.

    Counter-clockwise seen from the side where rows run down and columns to the left.
    """
    num_cells = num_columns if is_closed else num_columns - 1
    row, column = np.meshgrid(np.arange(num_rows - 1), np.arange(num_cells), indexing="ij")
    a = row * num_columns + column
    b = row * num_columns + (column + 1) % num_columns
    c, d = a + num_columns, b + num_columns
    first = np.stack([a, b, c], -1).reshape(-1, 3)
    return np.concatenate([first, np.stack([b, d, c], -1).reshape(-1, 3)])

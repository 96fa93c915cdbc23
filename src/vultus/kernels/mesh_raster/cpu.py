"""CPU backend in Numba: float32, all threads, the same results for any number of them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vultus.core.simd import run_chunks
from vultus.kernels._cpu_arrays import array_of
from vultus.kernels.mesh_raster._cpu_faces import (
    BAND,
    count_faces,
    draw_bands,
    fill_lists,
    find_edges,
)

__all__ = ["silhouette_edges", "visible_faces"]


def visible_faces(
    screen: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], size: tuple[int, int], near: float
) -> Int32[Tensor, "b h w"]:
    """See ``ref.visible_faces``."""
    height, width = size
    images = torch.empty(len(screen), height, width, dtype=torch.int32)
    triangles = array_of(faces, ())
    num_bands = -(-height // BAND)
    starts = np.zeros(num_bands + 1, np.int64)
    for vertices, image in zip(array_of(screen, ()), images.numpy(), strict=True):
        rule = vertices, triangles, np.float32(near), height
        count_faces(*rule, starts)
        lists = np.empty(starts[-1], np.int32)
        fill_lists(*rule, starts, lists)
        run_chunks(
            torch.get_num_threads(), draw_bands, num_bands, vertices, triangles, starts, lists,
            image,
        )  # fmt: skip
    return images


def silhouette_edges(
    face_index: Int32[Tensor, "b h w"],
    depth: Float[Tensor, "b h w"],
    screen: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    neighbors: Int32[Tensor, "f 3"],
) -> Int32[Tensor, "b 2 h w"]:
    """See ``ref.silhouette_edges``."""
    batch, height, width = face_index.shape
    edges = torch.empty(batch, 2, height, width, dtype=torch.int32)
    shared = array_of(faces, ()), array_of(neighbors, ())
    frames = (array_of(tensor, ()) for tensor in (face_index, depth, screen, edges))
    for index, levels, vertices, found in zip(*frames, strict=True):
        run_chunks(
            torch.get_num_threads(), find_edges, height, index, levels, vertices, *shared, found
        )
    return edges

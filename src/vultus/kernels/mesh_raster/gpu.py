"""GPU backend in Triton. Nothing waits for the GPU, and results do not depend on what comes first.

Faces of a head cover a few pixels: each enters itself into the image by atomics, which is faster
than listing faces per bin, and needs no lists whose length nobody knows beforehand.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vultus.kernels.mesh_raster._gpu_faces import draw_faces, find_edges
from vultus.kernels.mesh_raster.constants import EDGE_TOLERANCE, MAX_WALK
from vultus.kernels.triton_calls import check_tensors
from vultus.kernels.triton_runtime import launch

__all__ = ["silhouette_edges", "visible_faces"]

_SQUARE = 8
"""Edge in pixels of what a face's program visits at once."""
_LANES = 128
_EMPTY = torch.iinfo(torch.int64).max
_FACE_BITS = 0xFFFFFFFF


def visible_faces(
    screen: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], size: tuple[int, int], near: float
) -> Int32[Tensor, "b h w"]:
    """See ``ref.visible_faces``.

    Raises:
        TypeError: If the vertices are not float32 on a GPU.
    """
    check_tensors({"vertices": screen}, screen.device)
    height, width = size
    shape = (len(screen), height, width)
    keys = torch.full(shape, _EMPTY, dtype=torch.int64, device=screen.device)
    launch(
        draw_faces, (len(faces), len(screen)), screen.contiguous(), faces.int().contiguous(), keys,
        screen.shape[1], len(faces), width, height, float(near),
        TOLERANCE=EDGE_TOLERANCE, EDGE=_SQUARE,
    )  # fmt: skip
    return torch.where(keys == _EMPTY, -1, keys & _FACE_BITS).int()


def silhouette_edges(
    face_index: Int32[Tensor, "b h w"],
    depth: Float[Tensor, "b h w"],
    screen: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    neighbors: Int32[Tensor, "f 3"],
) -> Int32[Tensor, "b 2 h w"]:
    """See ``ref.silhouette_edges``."""
    check_tensors({"vertices": screen, "depth": depth}, screen.device)
    batch, height, width = face_index.shape
    edges = face_index.new_empty(batch, 2, height, width)
    launch(
        find_edges, (-(-height * width // _LANES), 2, batch), face_index.contiguous(),
        depth.contiguous(), screen.contiguous(), faces.int().contiguous(), neighbors.contiguous(),
        edges, height * width, screen.shape[1], width, height,
        MAX_WALK=MAX_WALK, LANES=_LANES, num_warps=4,
    )  # fmt: skip
    return edges

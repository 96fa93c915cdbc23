"""Which faces share an edge."""

from __future__ import annotations

import torch
from jaxtyping import Int, Int32
from torch import Tensor

__all__ = ["adjacent_pairs", "face_neighbors"]


def face_neighbors(faces: Int[Tensor, "f 3"]) -> Int32[Tensor, "f 3"]:
    """Name the face on the other side of every edge, from corner k to corner k + 1.

    -1 at edges of one face, and of more than two.
    """
    num = faces.shape[0]
    ends = torch.stack([faces, faces.roll(-1, dims=1)], dim=-1).reshape(-1, 2).sort(dim=1).values
    _, edge, count = torch.unique(ends, dim=0, return_inverse=True, return_counts=True)
    order = edge.argsort(stable=True)
    starts = count.cumsum(0) - count
    inner = count == 2
    first, second = order[starts[inner]], order[starts[inner] + 1]
    neighbors = torch.full((3 * num,), -1, dtype=torch.int32, device=faces.device)
    neighbors[first] = (second // 3).int()
    neighbors[second] = (first // 3).int()
    return neighbors.reshape(num, 3)


def adjacent_pairs(neighbors: Int32[Tensor, "f 3"]) -> Int[Tensor, "n 2"]:
    """List the pairs of faces that share an edge, each once, the smaller index first."""
    face = torch.arange(len(neighbors), device=neighbors.device)[:, None].expand_as(neighbors)
    is_first = neighbors > face
    return torch.stack([face[is_first], neighbors[is_first].long()], dim=1)

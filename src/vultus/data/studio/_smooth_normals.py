"""Vertex normals that repeat bit by bit on a GPU."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["SmoothNormals"]

_SAFE_NORM = 1e-20


class SmoothNormals:
    """``geometry.meshes.vertex_normals`` for one topology, summed in a fixed order.

    Sums of atomic additions, as in that function on a GPU, change from run to run.
    """

    def __init__(self, faces: Int[Tensor, "f 3"], num_vertices: int) -> None:
        """List the faces around each vertex."""
        corners = faces.T.flatten()
        # Stable, so that the faces of a vertex keep the order in which that function adds them.
        order = corners.argsort(stable=True)
        counts = torch.bincount(corners, minlength=num_vertices)
        self._faces = faces
        self._around = order % max(len(faces), 1)
        self._offsets = torch.nn.functional.pad(counts.cumsum(dim=0), (1, 0))

    def of(self, vertices: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        """Unit normals weighted by the areas of the faces; zero where there is no face."""
        first, second, third = vertices[self._faces].unbind(dim=1)
        areas = torch.linalg.cross(second - first, third - first)[self._around]
        # ``unsafe`` skips a check of the offsets.
        sums = torch.segment_reduce(areas, "sum", offsets=self._offsets, axis=0, unsafe=True)
        return normalize(sums, dim=1, eps=_SAFE_NORM)

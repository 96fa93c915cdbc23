"""Normals of a mesh that moves but keeps its faces, in one launch.

Does what ``geometry.meshes.vertex_normals`` does, which defines them and serves every other device:
that adds faces to their corners in turn, which takes a GPU a dozen launches and, in
deterministic mode, sorting.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

__all__ = ["IncidentFaces", "incident_normals"]


@dataclass(frozen=True)
class IncidentFaces:
    """The faces around every vertex."""

    starts: Int32[Tensor, " v_and_1"]
    """Where the faces of each vertex start in ``corners``; the last number is their end."""
    corners: Int32[Tensor, "c 3"]
    """Vertices of those faces, as the faces list them."""

    @classmethod
    def build(cls, faces: Int[Tensor, "f 3"], num_vertices: int) -> IncidentFaces:
        """Sort the corners of all faces; waits for a GPU."""
        owners, order = faces.flatten().sort(stable=True)
        vertices = torch.arange(num_vertices + 1, device=faces.device)
        starts = torch.searchsorted(owners, vertices, out_int32=True)
        return cls(starts, faces[order // 3].int().contiguous())


def incident_normals(
    vertices: Float[Tensor, "b v 3"], incident: IncidentFaces
) -> Float[Tensor, "b v 3"]:
    """Unit normals of vertices, weighted by the areas of their faces; zero without faces.

    They have no gradient, and are the same bits in every run.

    Args:
        vertices: Float32 on a GPU.
        incident: Of the mesh.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.vertex_normals import gpu

    return gpu.incident_normals(vertices, incident)

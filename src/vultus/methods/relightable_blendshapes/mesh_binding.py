"""Gaussians look normals and visibility up at the nearest point of a mesh.

They are bound to the mesh at rest, where neither moves; the posed mesh carries the points along.
Figures in brackets are sections of our specification.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.mesh_sampling import closest_barycentrics, closest_points
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.ray_mesh import morton_order
from vultus.kernels.surface_lookup import bound_barycentrics, find_facing

__all__ = ["MeshBinding", "bind_to_mesh"]

_NEIGHBORS = 8
"""Nearest vertices whose faces are looked at [3.6]."""


@dataclass(frozen=True)
class MeshBinding:
    """Points of a mesh that n Gaussians are bound to."""

    face_index: Int[Tensor, " n"]
    corners: Int[Tensor, "n 3"]
    """Vertices of those faces."""
    barycentrics: Float[Tensor, "n 3"]

    def normals(self, vertex_normals: Float[Tensor, "b v 3"]) -> Float[Tensor, "b n 3"]:
        """Unit normals of the posed mesh; differentiable, in the barycentrics, too."""
        mixed = vertex_normals[:, self.corners] * self.barycentrics[..., None]
        return normalize(mixed.sum(dim=2), dim=-1)

    def facing(
        self,
        vertex_normals: Float[Tensor, "b v 3"],
        means: Float[Tensor, "b n 3"],
        camera_centers: Float[Tensor, "b 3"],
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]]:
        """Unit normals, and unit directions to the camera.

        Gradients reach the barycentrics and the means.

        Args:
            vertex_normals: Unit, of the posed mesh; constants.
            means: Posed.
            camera_centers: In the same frame; constants.
        """
        if are_for_kernels(vertex_normals, means):
            return find_facing(
                self.barycentrics, self.corners, vertex_normals, means, camera_centers
            )
        views = normalize(camera_centers[:, None] - means, dim=-1)
        return self.normals(vertex_normals), views

    def probes(self, rest_vertices: Float[Tensor, "v 3"]) -> Int[Tensor, " p"]:
        """Vertices of the faces, each once and neighbours near each other; waits for a GPU."""
        used = self.corners.unique()
        return used[morton_order(rest_vertices[used])]

    def following(
        self, means: Float[Tensor, "n 3"], rest_vertices: Float[Tensor, "v 3"]
    ) -> MeshBinding:
        """The same faces for moved Gaussians; gradients of barycentrics reach ``means``."""
        if are_for_kernels(means, rest_vertices):
            weights = bound_barycentrics(means, rest_vertices, self.corners)
        else:
            weights = closest_barycentrics(means, rest_vertices[self.corners])
        return MeshBinding(self.face_index, self.corners, weights)

    def __getitem__(self, rows: Tensor) -> MeshBinding:
        """Of some Gaussians: children of a Gaussian inherit its row."""
        return MeshBinding(self.face_index[rows], self.corners[rows], self.barycentrics[rows])

    @staticmethod
    def cat(bindings: list[MeshBinding]) -> MeshBinding:
        """Of several sets of Gaussians, one after the other."""
        return MeshBinding(
            torch.cat([each.face_index for each in bindings]),
            torch.cat([each.corners for each in bindings]),
            torch.cat([each.barycentrics for each in bindings]),
        )


def bind_to_mesh(
    means: Float[Tensor, "n 3"],
    rest_vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
) -> MeshBinding:
    """Find the nearest point of the resting mesh for each neutral Gaussian; waits for a GPU."""
    with torch.no_grad():
        found = closest_points(means, rest_vertices, faces, num_neighbors=_NEIGHBORS)
    return MeshBinding(found.face_index, faces[found.face_index], found.barycentrics)

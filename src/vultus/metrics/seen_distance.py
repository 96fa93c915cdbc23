"""Distances between surfaces, measured only where given cameras see them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers, project_points
from vultus.geometry.mesh_sampling import SurfacePoints, sample_surface
from vultus.geometry.meshes import TriangleMesh, face_normals
from vultus.kernels.ray_mesh import Bvh, vertex_visibility
from vultus.metrics.mesh_distance import MeshDistance, partial_distance

__all__ = ["SeenDistance", "seen_by", "seen_distance"]

_BIAS = 1e-4
"""Metres that rays start above their surface, so that its own triangles do not hide it."""
_DENSITY = 10
"""As in ``mesh_distance``: points are compared with ten times as many."""


@dataclass(frozen=True)
class SeenDistance:
    """What ``seen_distance`` found."""

    distance: MeshDistance
    share: float
    """Share of the reconstruction's area that counts: seen, and above the floor."""
    reference_share: float
    """The same of the reference."""


def seen_distance(
    mesh: TriangleMesh,
    reference: TriangleMesh,
    cameras: Camera,
    *,
    generator: torch.Generator,
    num_points: int = 100_000,
    threshold_mm: float = 1.0,
    floor: float | None = None,
) -> SeenDistance:
    """Compare two meshes given in metres over what cameras see.

    Accuracy is measured at points of the reconstruction that a camera sees (the reconstruction
    itself hides others), completeness at points of the reference that a camera sees. Each goes to
    the nearest point of the whole other mesh, seen or not. The sampling adds what
    ``mesh_distance`` states.

    Args:
        mesh: Reconstruction.
        reference: Truth.
        cameras: One sees a point if it is in the picture, faces the camera and is not hidden.
        generator: Of the points.
        num_points: Points drawn on each mesh, of which the unseen ones are dropped.
        threshold_mm: Of the F-score.
        floor: World height below which points do not count: captures show shoulders that rigs
            lack.

    Raises:
        ValueError: If no point of a mesh is seen.
    """
    drawn, seen = [], []
    for name, one in (("mesh", mesh), ("reference", reference)):
        points = sample_surface(one.vertices, one.faces, _DENSITY * num_points, generator)
        # Draws are independent: the first ones are a uniform sample too.
        first = SurfacePoints(
            points.points[:num_points],
            points.face_index[:num_points],
            points.barycentrics[:num_points],
        )
        counts = seen_by(one, first, cameras)
        if floor is not None:
            counts &= first.points[:, 1] >= floor
        if not bool(counts.any()):
            raise ValueError(f"no point of the {name} is seen by a camera above the floor")
        drawn.append(points.points)
        seen.append(counts)
    distance = partial_distance(
        drawn[0][:num_points][seen[0]],
        drawn[1],
        drawn[1][:num_points][seen[1]],
        drawn[0],
        threshold_mm=threshold_mm,
    )
    return SeenDistance(distance, float(seen[0].float().mean()), float(seen[1].float().mean()))


def seen_by(mesh: TriangleMesh, points: SurfacePoints, cameras: Camera) -> Bool[Tensor, " n"]:
    """Tell which points of a mesh at least one of the cameras sees."""
    normals = face_normals(mesh.vertices, mesh.faces)[points.face_index]
    eyes = camera_centers(cameras)
    lights = torch.cat([eyes, torch.ones_like(eyes[:, :1])], dim=1)
    bvh = Bvh.build(mesh.vertices, mesh.faces)
    is_clear = vertex_visibility(bvh, points.points, normals, lights, _BIAS).bool()
    return (is_clear & _in_picture(points.points, cameras).T).any(dim=1)


def _in_picture(points: Float[Tensor, "n 3"], cameras: Camera) -> Bool[Tensor, "b n"]:
    pixels, depth = project_points(points.expand(len(cameras), -1, -1), cameras)
    size = pixels.new_tensor([cameras.width, cameras.height])
    return ((pixels >= 0) & (pixels < size)).all(dim=-1) & (depth > 0)

"""Points on meshes: random samples, and the closest point to given ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from vultus.core.threads import num_threads
from vultus.geometry.meshes import face_areas

__all__ = [
    "SurfacePoints",
    "closest_barycentrics",
    "closest_points",
    "interpolate_on_faces",
    "sample_surface",
]

_PAIRS_PER_CHUNK = 1 << 20


@dataclass(frozen=True)
class SurfacePoints:
    """Positions on a mesh, given by face and barycentric coordinates."""

    points: Float[Tensor, "n 3"]
    face_index: Int[Tensor, " n"]
    barycentrics: Float[Tensor, "n 3"]


def interpolate_on_faces(
    attributes: Float[Tensor, "*b v d"],
    faces: Int[Tensor, "f 3"],
    face_index: Int[Tensor, " n"],
    barycentrics: Float[Tensor, "n 3"],
) -> Float[Tensor, "*b n d"]:
    """Interpolate vertex attributes at points of faces."""
    corners = attributes[..., faces[face_index], :]
    return (corners * barycentrics[..., None]).sum(dim=-2)


def sample_surface(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    num_points: int,
    generator: torch.Generator | None = None,
) -> SurfacePoints:
    """Draw points uniformly by area; differentiable in ``vertices`` for the draw made.

    Raises:
        ValueError: If the mesh has no area.
    """
    areas = face_areas(vertices.detach(), faces).double()
    if not float(areas.sum()) > 0:
        raise ValueError(f"mesh must have an area to draw points from, got {float(areas.sum())}")
    # Inverse of the cumulative area: torch.multinomial takes at most 2^24 faces.
    drawn = torch.rand(num_points, 3, generator=generator, dtype=torch.float64).to(areas.device)
    cumulative = areas.cumsum(0)
    face_index = torch.searchsorted(cumulative, drawn[:, 0] * cumulative[-1], right=True)
    face_index = face_index.clamp(max=faces.shape[0] - 1)
    root, other = drawn[:, 1].sqrt(), drawn[:, 2]
    barycentrics = torch.stack([1 - root, root * (1 - other), root * other], dim=-1)
    barycentrics = barycentrics.to(vertices.dtype)
    points = interpolate_on_faces(vertices, faces, face_index, barycentrics)
    return SurfacePoints(points, face_index, barycentrics)


def closest_points(
    points: Float[Tensor, "n 3"],
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    *,
    num_neighbors: int | None = None,
) -> SurfacePoints:
    """Find the closest point of a mesh to each given point.

    The result is differentiable in ``vertices``, with face and barycentrics held fixed;
    ``closest_barycentrics`` of the faces found is differentiable in the points, too.

    Args:
        points: Where to search from.
        vertices: Of the mesh.
        faces: Of the mesh.
        num_neighbors: ``None`` compares every point with every face (in chunks), for up to about
            1e9 pairs. A number compares it with the faces that touch so many nearest vertices,
            which finds the closest face unless triangles are large beside their neighbours; 8 do
            for head meshes.

    Raises:
        ValueError: If ``num_neighbors`` is less than 1.
    """
    if num_neighbors is None:
        near = torch.arange(faces.shape[0], device=faces.device)[None].expand(points.shape[0], -1)
    else:
        near = _faces_nearby(points, vertices, faces, num_neighbors)
    corners = vertices.detach()[faces]
    chunk = max(1, _PAIRS_PER_CHUNK // max(1, near.shape[1]))
    face_index, barycentrics = [], []
    for part, candidates in zip(points.detach().split(chunk), near.split(chunk), strict=True):
        # Faces that all points are compared with need not be copied for each.
        triangles = corners[None] if num_neighbors is None else corners[candidates]
        weights = closest_barycentrics(part[:, None], triangles)
        nearest = (weights[..., None] * triangles).sum(-2)
        best = (nearest - part[:, None]).square().sum(-1).argmin(dim=1, keepdim=True)
        face_index.append(candidates.gather(1, best)[:, 0])
        barycentrics.append(weights.take_along_dim(best[..., None], dim=1)[:, 0])
    index, weights = torch.cat(face_index), torch.cat(barycentrics)
    return SurfacePoints(interpolate_on_faces(vertices, faces, index, weights), index, weights)


def _faces_nearby(
    points: Float[Tensor, "n 3"],
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    num_neighbors: int,
) -> Int[Tensor, "n c"]:
    """Faces that touch the nearest vertices; some several times."""
    if num_neighbors < 1:
        raise ValueError(f"num_neighbors must be at least 1, got {num_neighbors}")
    used, corner = faces.flatten().unique(return_inverse=True)
    counts = corner.bincount()
    # Rows of faces by vertex, filled up with each vertex's first face.
    order = corner.argsort(stable=True)
    first = counts.cumsum(0) - counts
    slots = torch.arange(int(counts.max()), device=faces.device)
    slots = torch.where(slots < counts[:, None], slots, 0)
    touching = order[first[:, None] + slots] // 3
    tree = KDTree(vertices.detach()[used].cpu().double().numpy())
    count = min(num_neighbors, len(used))
    _, rows = tree.query(points.detach().cpu().double().numpy(), count, workers=num_threads())
    # A single neighbour comes without a column.
    nearest = torch.from_numpy(np.asarray(rows, np.int64).reshape(-1, count))
    return touching[nearest.to(faces.device)].flatten(1)


def closest_barycentrics(
    points: Float[Tensor, "*#b 3"], corners: Float[Tensor, "*#b 3 3"]
) -> Float[Tensor, "*#b 3"]:
    """Barycentrics of the closest point of each triangle; differentiable in both arguments.

    Either the projection onto the plane lies inside, or the answer is the best of three segments.
    A point before an edge moves its closest point along the edge only, one before a corner not at
    all.
    """
    a, b, c = corners.unbind(-2)
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    det = d00 * d11 - d01 * d01
    is_flat = det <= 0
    safe = torch.where(is_flat, 1.0, det)
    v, w = (d11 * d20 - d01 * d21) / safe, (d00 * d21 - d01 * d20) / safe
    inside = torch.stack([1 - v - w, v, w], dim=-1)
    is_inside = (inside >= 0).all(-1) & ~is_flat

    best, best_distance = inside, torch.where(is_inside, -1.0, torch.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, step = corners[..., i, :], corners[..., j, :] - corners[..., i, :]
        length = (step * step).sum(-1)
        along = ((points - start) * step).sum(-1) / torch.where(length > 0, length, 1.0)
        along = along.clamp(0, 1)
        distance = (start + along[..., None] * step - points).square().sum(-1)
        weights = torch.zeros_like(inside)
        weights[..., i], weights[..., j] = 1 - along, along
        is_better = distance < best_distance
        best = torch.where(is_better[..., None], weights, best)
        best_distance = torch.where(is_better, distance, best_distance)
    return best

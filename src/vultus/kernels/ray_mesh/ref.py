"""Reference backend: every ray against every triangle, in the dtype of the inputs.

Reference: Moller and Trumbore, Fast, Minimum Storage Ray/Triangle Intersection, 1997.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vultus.kernels.ray_mesh.bvh import Bvh
from vultus.kernels.ray_mesh.rays import RayHits

__all__ = ["any_hit", "first_hit", "intersect", "vertex_visibility"]

# Ray-triangle pairs held at once.
_CHUNK_PAIRS = 2_000_000


def intersect(
    corners: Float[Tensor, "f 3 3"],
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t_min: float,
    t_max: float,
) -> tuple[Float[Tensor, "r f"], Float[Tensor, "r f"], Float[Tensor, "r f"]]:
    """Distance and the last two barycentric coordinates of every pair; infinite on a miss.

    Triangles are closed and two-sided; the interval is [t_min, t_max). Degenerate triangles miss.
    """
    first, edge_1, edge_2 = corners[:, 0], *(corners[:, 1:] - corners[:, :1]).unbind(dim=1)
    p = torch.linalg.cross(directions[:, None], edge_2[None])
    determinant = (p * edge_1).sum(dim=-1)
    is_degenerate = determinant == 0
    inverse = 1.0 / determinant.masked_fill(is_degenerate, 1.0)
    s = origins[:, None] - first
    q = torch.linalg.cross(s, edge_1.expand_as(s))
    u = (s * p).sum(dim=-1) * inverse
    v = (directions[:, None] * q).sum(dim=-1) * inverse
    t = (q * edge_2).sum(dim=-1) * inverse
    inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= t_min) & (t < t_max) & ~is_degenerate
    return t.masked_fill(~inside, torch.inf), u, v


def first_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t_min: float,
    t_max: float,
) -> RayHits:
    """Nearest hits; see ``vultus.kernels.ray_mesh.first_hit``."""
    num_rays, num_faces = origins.shape[0], bvh.faces.shape[0]
    distance = origins.new_full((num_rays,), torch.inf)
    face = torch.full((num_rays,), -1, device=origins.device)
    barycentrics = origins.new_zeros(num_rays, 3)
    corners = bvh.vertices.to(origins)[bvh.faces]
    step = max(1, _CHUNK_PAIRS // max(num_faces, 1))
    for start in range(0, num_rays if num_faces else 0, step):
        rays = slice(start, start + step)
        t, u, v = intersect(corners, origins[rays], directions[rays], t_min, t_max)
        distance[rays], nearest = t.min(dim=1)
        hit = torch.isfinite(distance[rays])
        face[rays] = torch.where(hit, nearest, -1)
        u = u.gather(1, nearest[:, None])
        v = v.gather(1, nearest[:, None])
        weights = torch.cat([1 - u - v, u, v], dim=1)
        barycentrics[rays] = torch.where(hit[:, None], weights, 0.0)
    return RayHits(distance, face, barycentrics)


def any_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t_min: float,
    t_max: float,
) -> Bool[Tensor, " r"]:
    """Whether rays hit; see ``vultus.kernels.ray_mesh.any_hit``."""
    return first_hit(bvh, origins, directions, t_min, t_max).face >= 0


def vertex_visibility(
    bvh: Bvh,
    points: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"] | None,
    lights: Float[Tensor, "k 4"],
    bias: float,
) -> UInt8[Tensor, "v k"]:
    """Visibility per point and light; see ``vultus.kernels.ray_mesh.vertex_visibility``."""
    visible = torch.zeros(points.shape[0], lights.shape[0], dtype=torch.uint8, device=points.device)
    origins = points if normals is None else points + bias * normals
    for column, light in enumerate(lights):
        directions = light[:3] - light[3] * origins
        t_max = 1.0 if light[3] > 0 else torch.inf
        hidden = any_hit(bvh, origins, directions, 0.0, t_max)
        if normals is not None:
            hidden |= (normals * directions).sum(dim=1) < 0
        visible[:, column] = ~hidden
    return visible

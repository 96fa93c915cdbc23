"""Features of points from planes of three kinds.

Points come in units of half the box, so that the box is [-1, 1]³. Planes are zero outside, and the
edges of their outer texels lie at -1 and 1. Every function returns one feature per plane; decoders
average them.

Sphere systems: with (x, y, z) = (left ear, up, face) as in the generators' world, sphere A has
(a, b, c) = (z, y, -x) and sphere B (a, b, c) = (-z, -x, y). Their poles lie on the c axis, and
azimuth 0 on the a axis: at the face for A, at the back of the head for B. Each is trusted by a
weight that vanishes at its poles and at its seam, the half plane opposite of azimuth 0, where the
other has its full weight.

Reference: Li et al., SphereHead, 2024, sec. 3; Chan et al., EG3D, 2022; An et al., PanoHead, 2023.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = [
    "SphereCoordinates",
    "sample_dual_spheres",
    "sample_tri_grid",
    "sample_tri_plane",
    "sphere_axes",
    "sphere_coordinates",
]

_FUSION_EPSILON = 1e-8
_TRI_PLANE_AXES = ((0, 1), (0, 2), (2, 0))
"""The published third plane holds (z, x), not (y, z); checkpoints depend on it."""
_TRI_GRID_AXES = ((0, 1, 2), (0, 2, 1), (1, 2, 0))


class SphereCoordinates(NamedTuple):
    """Where points lie in one sphere system; each but the weight covers [-1, 1] inside the box."""

    polar: Float[Tensor, "b p"]
    azimuth: Float[Tensor, "b p"]
    radius: Float[Tensor, "b p"]
    """1 at the corners of the box, -1 at its centre."""
    weight: Float[Tensor, "b p"]


def sphere_axes(points: Float[Tensor, "b p 3"]) -> tuple[Tensor, Tensor]:
    """Rotate points to the axes (a, b, c) of sphere A and of sphere B."""
    x, y, z = points.unbind(-1)
    return torch.stack([z, y, -x], dim=-1), torch.stack([-z, -x, y], dim=-1)


def sphere_coordinates(axes: Float[Tensor, "b p 3"]) -> SphereCoordinates:
    """Convert (a, b, c) to scaled spherical coordinates.

    The weight is sin²(polar) (1 + cos(azimuth)) / 2 without an angle, so it is exact near the seam.
    On the c axis and at the origin, where directions end, gradients to ``axes`` are zero.
    """
    a, b, c = axes.unbind(-1)
    tiny = torch.finfo(axes.dtype).tiny ** 0.5
    from_axis = a.square() + b.square()
    is_on_axis, is_origin = from_axis <= tiny, from_axis + c.square() <= tiny
    # Replaced before the root and atan2, whose derivatives are infinite there.
    safe_a = torch.where(is_on_axis, torch.ones_like(a), a)
    safe_b = torch.where(is_on_axis, torch.zeros_like(b), b)
    ring = (safe_a.square() + safe_b.square()).sqrt()
    length = torch.where(is_origin, torch.ones_like(c), from_axis + c.square()).sqrt()
    off_axis = torch.where(is_on_axis, torch.zeros_like(ring), ring)
    polar = 2.0 / math.pi * torch.atan2(off_axis, torch.where(is_origin, torch.ones_like(c), c)) - 1
    azimuth = torch.atan2(safe_b, safe_a) / math.pi
    radius = 2.0 / math.sqrt(3.0) * torch.where(is_origin, torch.zeros_like(length), length) - 1.0
    # ring + a cancels for a < 0; the product with ring - a is b².
    is_behind = safe_a < 0
    distance = torch.where(is_behind, ring - safe_a, ring + safe_a)
    ahead = torch.where(is_behind, safe_b.square() / distance, distance)
    weight = off_axis * ahead / (2.0 * length.square())
    return SphereCoordinates(polar, azimuth, radius, weight)


def sample_dual_spheres(
    planes: Float[Tensor, "b 2 3 d h w"], points: Float[Tensor, "b p 3"]
) -> Float[Tensor, "b 3 p d"]:
    """Fuse the features of sphere A and sphere B by their weights.

    Args:
        planes: Of A and B: (polar, azimuth), (polar, radius), (azimuth, radius); the first of a
            pair runs along w.
        points: In half boxes.
    """
    spheres = [sphere_coordinates(axes) for axes in sphere_axes(points)]
    total = spheres[0].weight + spheres[1].weight + _FUSION_EPSILON
    fused = []
    for index, sphere in enumerate(spheres):
        u = torch.stack([sphere.polar, sphere.polar, sphere.azimuth], dim=1)
        v = torch.stack([sphere.azimuth, sphere.radius, sphere.radius], dim=1)
        features = _sample(planes[:, index], torch.stack([u, v], dim=-1))
        fused.append(features * (sphere.weight / total)[:, None, :, None])
    return fused[0] + fused[1]


def sample_tri_plane(
    planes: Float[Tensor, "b 3 d h w"], points: Float[Tensor, "b p 3"]
) -> Float[Tensor, "b 3 p d"]:
    """Sample the planes (x, y), (x, z) and (z, x) of EG3D.

    Args:
        planes: The first axis of a pair runs along w.
        points: In half boxes.
    """
    grid = torch.stack([_take(points, axes) for axes in _TRI_PLANE_AXES], dim=1)
    return _sample(planes, grid)


def sample_tri_grid(
    planes: Float[Tensor, "b 3 d_depth h w"], points: Float[Tensor, "b p 3"], depth: int
) -> Float[Tensor, "b 3 p d"]:
    """Sample the three thick planes (x, y, z), (x, z, y) and (y, z, x) of PanoHead.

    Args:
        planes: Channel c at layer k is channel c * depth + k; a triple runs along (w, h, layers).
        points: In half boxes.
        depth: Number of layers.
    """
    batch, _, _, height, width = planes.shape
    volumes = planes.reshape(batch * 3, -1, depth, height, width)
    grid = torch.stack([_take(points, axes) for axes in _TRI_GRID_AXES], dim=1)
    sampled = grid_sample(volumes, grid.flatten(0, 1)[:, None, None], align_corners=False)
    return sampled[:, :, 0, 0].transpose(1, 2).unflatten(0, (batch, 3))


def _take(points: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Coordinates by axis; an index from a list would be copied from the host to a GPU."""
    return torch.stack([points[..., axis] for axis in axes], dim=-1)


def _sample(planes: Float[Tensor, "b 3 d h w"], grid: Float[Tensor, "b 3 p 2"]) -> Tensor:
    """Sample bilinearly, as b 3 p d."""
    flat = planes.flatten(0, 1).to(grid.dtype)
    sampled = grid_sample(flat, grid.flatten(0, 1)[:, None], align_corners=False)
    return sampled[:, :, 0].transpose(1, 2).unflatten(0, planes.shape[:2])

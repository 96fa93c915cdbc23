"""Points on meshes that keep their distance from each other."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from vultus.geometry.mesh_sampling import SurfacePoints, sample_surface
from vultus.geometry.meshes import face_areas

__all__ = ["sample_evenly"]

_CANDIDATES = 8
"""Random points per point that is kept."""
_PACKING = 0.56
"""Points per squared distance and area that are left of so many candidates (measured on planes)."""


def sample_evenly(
    vertices: Float[Tensor, "v 3"],
    faces: Int[Tensor, "f 3"],
    num_points: int,
    generator: torch.Generator,
) -> SurfacePoints:
    """Draw about so many points of a mesh, none nearer to another than a common distance.

    Distances are straight, not along the surface: where two sheets touch, they share the points.

    Args:
        vertices: On the CPU.
        faces: Triangles.
        num_points: Expected; the result has some per cent more or fewer.
        generator: On the CPU.

    Raises:
        ValueError: If the number is not positive or the mesh has no area.

    Reference: Cook, Stochastic Sampling in Computer Graphics, 1986 (Poisson disks); candidates in
    random order are all tried at once, as in Luby's maximal independent sets.
    """
    if num_points < 1:
        raise ValueError(f"num_points must be positive, got {num_points}")
    drawn = sample_surface(vertices, faces, _CANDIDATES * num_points, generator)
    area = float(face_areas(vertices.detach(), faces).double().sum())
    distance = math.sqrt(_PACKING * area / num_points)
    places = drawn.points.detach().double().numpy()
    pairs = KDTree(places).query_pairs(distance, output_type="ndarray")
    kept = torch.from_numpy(_first_of_neighbors(len(places), pairs))
    return SurfacePoints(drawn.points[kept], drawn.face_index[kept], drawn.barycentrics[kept])


def _first_of_neighbors(count: int, pairs: Int[np.ndarray, "p 2"]) -> Bool[np.ndarray, " n"]:
    """Go through points in order and keep those that are no neighbour of one kept before."""
    kept, open_points = np.zeros(count, bool), np.ones(count, bool)
    earlier, later = pairs.min(axis=1), pairs.max(axis=1)
    while open_points.any():
        is_open = open_points[earlier] & open_points[later]
        earlier, later = earlier[is_open], later[is_open]
        first = open_points.copy()
        first[later] = False
        kept |= first
        open_points &= ~first
        open_points[later[first[earlier]]] = False
    return kept

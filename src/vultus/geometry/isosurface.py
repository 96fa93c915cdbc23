"""Surfaces where a density on a grid takes a value."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn.functional import pad

from vultus.geometry.meshes import TriangleMesh, vertex_normals

__all__ = ["check_grid", "grid_points", "isosurface"]


def check_grid(resolution: int, largest: int, length: float | None) -> None:
    """Raise unless a cubic grid can hold a surface.

    Args:
        resolution: Points along a side.
        largest: The most of them.
        length: Side of the cube, in world units; None if it is not known yet.

    Raises:
        ValueError: Naming ``resolution`` or ``length``.
    """
    if not 2 <= resolution <= largest:
        raise ValueError(f"resolution must be 2 to {largest}, got {resolution}")
    if length is not None and not 0.0 < length < math.inf:
        raise ValueError(f"length must be positive, got {length}")


def grid_points(
    resolution: int, length: float, start: int = 0, stop: int | None = None
) -> Float[Tensor, "p 3"]:
    """Points of a cubic grid around the origin that includes the cube's corners; z changes fastest.

    Args:
        resolution: Points along a side, 2 or more.
        length: Side of the cube, in world units.
        start: Position of the first point in that order.
        stop: Position after the last; default: all.
    """
    count = resolution**3
    index = torch.arange(start, count if stop is None else min(stop, count))
    steps = torch.stack(
        [index // resolution**2, index // resolution % resolution, index % resolution], dim=1
    )
    # Integers are exact where an index in float32 is not, beyond 256 points a side.
    return (steps.double() * (length / (resolution - 1)) - 0.5 * length).float()


def isosurface(
    density: Float[Tensor, "x y z"], level: float, length: float, *, is_closed: bool = True
) -> TriangleMesh:
    """Extract the surface of what is denser than a level, with normals.

    Args:
        density: At ``grid_points``.
        level: Density of the surface.
        length: Side of the cube, in world units.
        is_closed: Put a wall where the dense part reaches the side of the cube.

    Raises:
        ValueError: If nothing is denser than the level, or everything.

    Reference: Lewiner et al., Efficient implementation of marching cubes' cases with topological
    guarantees, 2003.
    """
    low, high = float(density.min()), float(density.max())
    if not low <= level < high or (low == level and not is_closed):
        raise ValueError(
            f"level must be a density that occurs, from {low:.4g} to {high:.4g}, got {level:g}"
        )
    spacing = length / (density.shape[0] - 1)
    values = density.cpu().float()
    if is_closed:
        # As empty as the surface's inner neighbours are full: the wall lies close to the side.
        values = pad(values, (1, 1, 1, 1, 1, 1), value=min(low, 2.0 * level - high))
    places, corners, _, _ = marching_cubes(
        values.numpy(), level, gradient_direction="ascent", allow_degenerate=False
    )
    places = (places - (1 if is_closed else 0)) * spacing - 0.5 * length
    vertices = torch.from_numpy(places.astype(np.float32))
    faces = torch.from_numpy(corners.astype(np.int64))
    return TriangleMesh(vertices, faces, normals=vertex_normals(vertices, faces))

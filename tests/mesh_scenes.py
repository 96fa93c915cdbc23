"""Meshes before cameras, for the rasterizer of meshes and what stands on it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.geometry.cameras import Camera, look_at
from vultus.geometry.meshes import subdivide

__all__ = ["front_camera", "icosphere", "polygon", "triangle_soup"]


def front_camera(
    width: int = 40, height: int = 32, *, distance: float = 4.0, focal: float = 60.0
) -> Camera:
    """A camera on the +z axis that looks at the origin; float64."""
    eye = torch.tensor([[0.0, 0.0, distance]], dtype=torch.float64)
    intrinsics = torch.tensor(
        [[[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]], dtype=torch.float64
    )
    return Camera(look_at(eye, torch.zeros(3, dtype=torch.float64)), intrinsics, width, height)


def polygon(
    corners: list[tuple[float, float]],
) -> tuple[Float[Tensor, "1 v 3"], Int[Tensor, "f 3"]]:
    """A convex polygon in the plane z = 0, as a fan; float64."""
    vertices = torch.tensor([[x, y, 0.0] for x, y in corners], dtype=torch.float64)
    fan = [[0, i, i + 1] for i in range(1, len(corners) - 1)]
    return vertices[None], torch.tensor(fan)


def icosphere(levels: int = 2) -> tuple[Float[Tensor, "v 3"], Int[Tensor, "f 3"]]:
    """The unit sphere from a subdivided octahedron, counter-clockwise from outside; float64."""
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    vertices = torch.cat([torch.diag(signs[i].expand(3)) for i in range(2)])
    faces = torch.tensor(
        [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    )
    for _ in range(levels):
        vertices, faces = subdivide(vertices, faces)
        vertices = torch.nn.functional.normalize(vertices, dim=-1)
    return vertices, faces


def triangle_soup(
    num_faces: int, seed: int, *, batch: int = 1, size: float = 0.3
) -> tuple[Float[Tensor, "b v 3"], Int[Tensor, "f 3"]]:
    """Random triangles around the origin; float64 numbers that float32 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    centers = 0.7 * torch.randn(batch, num_faces, 1, 3, generator=generator)
    corners = centers + size * torch.randn(batch, num_faces, 3, 3, generator=generator)
    return corners.reshape(batch, -1, 3).double(), torch.arange(3 * num_faces).reshape(-1, 3)

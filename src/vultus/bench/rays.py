"""Speed of ray queries against a head-like mesh: refits, camera rays, shadow rays."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.bench.results import Row
from vultus.bench.scenes import head_like_camera
from vultus.bench.training import time_modes
from vultus.kernels.ray_mesh import Bvh, any_hit, first_hit

__all__ = ["bench_rays", "head_like_mesh"]

_BLOCK = 4
"""Rays are ordered in squares of so many pixels, as the studio orders its own."""
_BIAS = 1e-4
_LIGHT = (0.5, 0.7, 0.5)


def head_like_mesh(num_faces: int) -> tuple[Float[Tensor, "v 3"], Int[Tensor, "f 3"]]:
    """Wrinkled ellipsoid of about so many faces, in metres."""
    rings = max(2, round(math.sqrt(num_faces / 4)))
    sectors = 2 * rings
    polar = math.pi * torch.arange(rings + 1) / rings
    azimuth = 2 * math.pi * torch.arange(sectors) / sectors
    sine, cosine = polar.sin()[:, None], polar.cos()[:, None].expand(-1, sectors)
    unit = torch.stack([sine * azimuth.sin(), cosine, sine * azimuth.cos()], dim=-1)
    wrinkles = 1 + 0.03 * torch.sin(9 * unit[..., :1]) * torch.cos(7 * unit[..., 1:2])
    vertices = unit * torch.tensor([0.080, 0.115, 0.095]) * wrinkles
    index = torch.arange(vertices[..., 0].numel()).view(rings + 1, sectors)
    a, b = index[:-1], index[:-1].roll(-1, dims=1)
    c, d = index[1:], index[1:].roll(-1, dims=1)
    faces = torch.stack([a, c, d, a, d, b], dim=-1)
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)


def bench_rays(
    num_faces: int, size: int, repeats: int, *, device: torch.device | str = "cpu"
) -> list[Row]:
    """Time refits, first hits of a camera's rays, and shadow rays from where they hit.

    On a GPU there are rows of eager calls, which check their rays, and of CUDA graphs.

    Args:
        num_faces: Triangles of the mesh, about.
        size: Width and height of the camera's image.
        repeats: Timed calls of each query.
        device: Where to trace.
    """
    vertices, faces = (x.to(device) for x in head_like_mesh(num_faces))
    bvh = Bvh.build(vertices, faces)
    origins, directions = (x.to(device) for x in _camera_rays(size))
    hits = first_hit(bvh, origins, directions, is_sorted=True)
    is_hit = hits.face >= 0
    light = torch.tensor(_LIGHT, device=device)
    points = origins[is_hit] + hits.distance[is_hit, None] * directions[is_hit] + _BIAS * light
    towards = light.expand_as(points).contiguous()
    moved = 1.01 * vertices

    def refit() -> object:
        fitted = bvh.refit(moved)
        return fitted.tree if moved.device.type == "cpu" else fitted.gpu_tree

    calls = {
        "refit": refit,
        "camera": lambda: first_hit(bvh, origins, directions, is_sorted=True),
        "shadow": lambda: any_hit(bvh, points, towards, is_sorted=True),
    }
    counts = {"refit": 0, "camera": len(origins), "shadow": len(points)}
    scene = f"{num_faces} faces, {size} x {size}"
    facts = {"bench": "rays", "num_faces": num_faces, "size": size}
    name = "gpu" if vertices.is_cuda else "cpu"
    return [
        Row(
            scene,
            name,
            mode,
            {query: timing},
            facts={**facts, "query": query, "num_rays": counts[query]},
        )
        for (query, mode), timing in time_modes(calls, repeats, device).items()
    ]


def _camera_rays(size: int) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 3"]]:
    """Rays through all pixels of a camera that sees the whole mesh."""
    camera = head_like_camera(size)
    intrinsics, matrix = camera.intrinsics[0], camera.world_to_camera[0]
    pixels = torch.arange(size)
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    within = y % _BLOCK * _BLOCK + x % _BLOCK
    block = y // _BLOCK * -(-size // _BLOCK) + x // _BLOCK
    order = (block * _BLOCK**2 + within).flatten().argsort()
    u = (x.flatten()[order] + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    v = (y.flatten()[order] + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    directions = torch.stack([u, v, torch.ones_like(u)], dim=-1) @ matrix[:3, :3]
    origin = -matrix[:3, :3].T @ matrix[:3, 3]
    return origin.expand_as(directions).contiguous(), directions

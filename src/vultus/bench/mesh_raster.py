"""Speed of rasterizing a head-like mesh: what pixels see, pictures, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from vultus.bench.gpu_timing import time_on_gpu
from vultus.bench.rays import head_like_mesh
from vultus.bench.results import Row, threads_mode
from vultus.bench.scenes import head_like_camera
from vultus.bench.timing import Timing, time_in_alternation
from vultus.geometry.cameras import Camera
from vultus.kernels.mesh_raster import antialias, face_neighbors, interpolate, rasterize_mesh

__all__ = ["bench_mesh_raster"]

_CHANNELS = 4
"""Colour and coverage, as when a mesh is fitted."""


def bench_mesh_raster(
    num_faces: int, batch: int, size: int, repeats: int, *, device: torch.device | str = "cpu"
) -> list[Row]:
    """Time pictures of a moving mesh.

    Args:
        num_faces: Triangles of the mesh, about.
        batch: Pictures at once.
        size: Their width and height.
        repeats: Timed calls of each function.
        device: Where to draw; on a GPU calls are eager, as antialiasing waits for it.
    """
    vertices, faces = (x.to(device) for x in head_like_mesh(num_faces))
    neighbors = face_neighbors(faces)
    camera = Camera.stack([head_like_camera(size)] * batch).to(device)
    # As different as frames are.
    sizes = torch.linspace(0.95, 1.05, batch, device=device)[:, None, None]
    posed = (sizes * vertices).requires_grad_()
    colors = torch.rand(batch, len(vertices), _CHANNELS, device=device, requires_grad=True)

    def see() -> object:
        with torch.no_grad():
            return rasterize_mesh(posed, faces, camera)

    def draw() -> torch.Tensor:
        fragments = rasterize_mesh(posed, faces, camera)
        return antialias(interpolate(colors, faces, fragments), fragments, faces, neighbors)

    def draw_without_gradients() -> object:
        with torch.no_grad():
            return draw()

    def learn() -> None:
        posed.grad = colors.grad = None
        draw().square().sum().backward()

    calls = {"rasterize": see, "picture": draw_without_gradients, "picture, gradients": learn}
    scene = f"{num_faces} faces, {batch} x {size} x {size}"
    facts = {"bench": "mesh", "num_faces": num_faces, "batch": batch, "size": size}
    mode, times = _time(calls, repeats, device)
    return [Row(scene, name, mode, {"call": timing}, facts=facts) for name, timing in times.items()]


def _time(
    calls: Mapping[str, Callable[[], object]], repeats: int, device: torch.device | str
) -> tuple[str, Mapping[str, Timing]]:
    if torch.device(device).type == "cuda":
        return "eager", time_on_gpu(calls, repeats)
    return threads_mode(torch.get_num_threads()), time_in_alternation(calls, repeats)

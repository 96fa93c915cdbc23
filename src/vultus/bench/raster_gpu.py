"""Time of the rasterizers on a GPU: eager calls, and calls captured into a CUDA graph."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from vultus.bench.gaussians import ALL_OUTPUTS as ALL_GAUSSIAN_OUTPUTS
from vultus.bench.gaussians import head_like_gaussians
from vultus.bench.raster import (
    ALL_OUTPUTS,
    PROTOTYPE_OUTPUTS,
    Calls,
    RasterResult,
    head_like_camera,
    head_like_surfels,
    kernel_calls,
    load_module,
)
from vultus.bench.timing import Timing
from vultus.geometry.cameras import Camera
from vultus.kernels.gaussian_raster import rasterize_gaussians

__all__ = [
    "bench_gaussians_on_gpu",
    "bench_surfels_on_gpu",
    "captured",
    "load_gpu_prototype",
    "time_on_gpu",
]

_WARMUP = 3


def bench_surfels_on_gpu(
    num: int,
    size: int,
    repeats: int,
    *,
    batch: int = 1,
    num_features: int = 0,
    prototype: ModuleType | None = None,
) -> list[RasterResult]:
    """Time forward, and forward and backward passes of a batch with different surfels per frame.

    Args:
        num: Surfels per frame.
        size: Width and height in pixels.
        repeats: Timed calls of each implementation.
        batch: Frames.
        num_features: Channels beside the SH colour.
        prototype: A module with ``Raster2D``, ``pack_cam`` and ``planar``.
    """
    scene, camera, features = _make_scene(head_like_surfels, num, size, batch, num_features)
    calls = {
        name: kernel_calls(scene, camera, outputs, features=features, backend="gpu")
        for name, outputs in (("gpu", PROTOTYPE_OUTPUTS), ("gpu, all outputs", ALL_OUTPUTS))
    }
    if prototype is not None:
        calls["prototype"] = _surfel_prototype_calls(prototype, scene, camera)
    label = f"{batch} x {num} surfels, {size} x {size}, {3 + num_features} channels"
    return _time_eager_and_captured(label, calls, repeats)


def bench_gaussians_on_gpu(
    num: int,
    size: int,
    repeats: int,
    *,
    batch: int = 1,
    num_features: int = 0,
    prototype: ModuleType | None = None,
) -> list[RasterResult]:
    """Time forward, and forward and backward passes of a batch, other Gaussians in every frame.

    Args:
        num: Gaussians per frame.
        size: Width and height in pixels.
        repeats: Timed calls of each implementation.
        batch: Frames.
        num_features: Channels beside the SH colour; the prototype has none.
        prototype: A module with ``Raster3D``, ``pack_cam`` and ``planar``.
    """
    scene, camera, features = _make_scene(head_like_gaussians, num, size, batch, num_features)
    calls = {
        name: kernel_calls(
            scene, camera, outputs, features=features, rasterize=rasterize_gaussians, backend="gpu"
        )
        for name, outputs in (("gpu", ()), ("gpu, all outputs", ALL_GAUSSIAN_OUTPUTS))
    }
    if prototype is not None:
        calls["prototype"] = _gaussian_prototype_calls(prototype, scene, camera)
    label = f"{batch} x {num} Gaussians, {size} x {size}, {3 + num_features} channels"
    return _time_eager_and_captured(label, calls, repeats)


def _make_scene(
    make_frame: Callable[[int, int], list[Tensor]], num: int, size: int, batch: int, channels: int
) -> tuple[list[Tensor], Camera, Tensor | None]:
    """Primitives of a batch, cameras, and feature channels if there are any."""
    device = torch.device("cuda")
    frames = [make_frame(num, seed) for seed in range(batch)]
    scene = [torch.cat(parts).to(device) for parts in zip(*frames, strict=True)]
    features = torch.rand(batch, num, channels, device=device) if channels else None
    return scene, head_like_camera(size, batch).to(device), features


def _time_eager_and_captured(
    label: str, calls: Mapping[str, Calls], repeats: int
) -> list[RasterResult]:
    results = []
    for mode in ("eager", "graph"):
        times = {}
        for k, kind in enumerate(("forward", "both")):
            functions = {name: call[k] for name, call in calls.items()}
            if mode == "graph":
                functions = {name: captured(function) for name, function in functions.items()}
            times[kind] = time_on_gpu(functions, repeats)
        results += [
            RasterResult(label, f"{name}, {mode}", times["both"][name], times["forward"][name])
            for name in calls
        ]
    return results


def time_on_gpu(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Call the functions in turn; the GPU's own clock measures from a call's start to its end."""
    for function in functions.values():
        for _ in range(_WARMUP):
            function()
    torch.cuda.synchronize()
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {n: [] for n in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # An idle GPU would start the clock before the first kernel has been prepared.
            torch.cuda.synchronize()
            start.record()
            function()
            end.record()
            events[name].append((start, end))
    torch.cuda.synchronize()
    seconds = {
        name: [1e-3 * start.elapsed_time(end) for start, end in pairs]
        for name, pairs in events.items()
    }
    return {name: Timing(statistics.median(s), min(s)) for name, s in seconds.items()}


def load_gpu_prototype(path: Path, rasters: Collection[str] = ("Raster2D",)) -> ModuleType:
    """Import a Triton prototype from a file; modules beside it may be imported by it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not define the named rasterizers, ``pack_cam`` and ``planar``.
    """
    sys.path.append(str(path.resolve().parent))
    try:
        return load_module(path, (*rasters, "pack_cam", "planar"))
    finally:
        sys.path.pop()


def captured(function: Callable[[], object]) -> Callable[[], object]:
    """Capture a call into a CUDA graph; returns its replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARMUP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def _prototype_inputs(
    prototype: ModuleType, scene: list[Tensor], camera: Camera
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cameras and parameters in the prototypes' layout."""
    views = zip(camera.world_to_camera, camera.intrinsics, strict=True)
    cameras = torch.stack([prototype.pack_cam(view, intrinsics) for view, intrinsics in views])
    names = ("means", "quats", "scales", "opacities", "sh")
    parameters = {name: value.flatten(0, 1) for name, value in zip(names, scene, strict=True)}
    return cameras, prototype.planar(parameters)


def _surfel_prototype_calls(prototype: ModuleType, scene: list[Tensor], camera: Camera) -> Calls:
    batch, num = scene[0].shape[:2]
    cameras, planes = _prototype_inputs(prototype, scene, camera)
    raster = prototype.Raster2D(num, camera.width, camera.height, B=batch)
    grads = torch.randn_like(raster.out)

    def forward() -> object:
        return raster.forward(cameras, planes)

    def both() -> None:
        raster.forward(cameras, planes)
        raster.backward(cameras, planes, grads)

    return forward, both


def _gaussian_prototype_calls(prototype: ModuleType, scene: list[Tensor], camera: Camera) -> Calls:
    batch, num = scene[0].shape[:2]
    cameras, planes = _prototype_inputs(prototype, scene, camera)
    raster = prototype.Raster3D(num, camera.width, camera.height, B=batch)
    grads = torch.randn_like(raster.out), torch.randn_like(raster.outA)

    def forward() -> object:
        return raster.forward(cameras, planes)

    def both() -> None:
        raster.forward(cameras, planes)
        raster.backward(cameras, planes, *grads)

    return forward, both

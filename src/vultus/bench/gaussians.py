"""Time of the Gaussian rasterizer, against the oracle and against a prototype of the same maths."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from vultus.bench.raster import (
    Calls,
    RasterResult,
    head_like_camera,
    head_like_surfels,
    kernel_calls,
)
from vultus.bench.timing import time_in_alternation
from vultus.geometry.cameras import Camera
from vultus.kernels.gaussian_raster import OutputName, rasterize_gaussians

__all__ = ["ALL_OUTPUTS", "bench_gaussian_reference", "bench_gaussians", "head_like_gaussians"]

ALL_OUTPUTS: tuple[OutputName, ...] = ("depth", "median_depth")
_DEGREE = 3
_THICKNESS = 0.3
"""Extent across the surface, as a share of that along it."""


def head_like_gaussians(num: int, seed: int = 0) -> list[Tensor]:
    """Layered ellipsoid of flat Gaussians, about two pixels each when the head fills 256 pixels.

    Returns:
        Means, quats, scales, opacities and degree-3 SH, each with a batch dimension of 1.
    """
    means, quats, scales, opacities, sh_coeffs = head_like_surfels(num, seed)
    thickness = _THICKNESS * scales.prod(dim=-1, keepdim=True).sqrt()
    return [means, quats, torch.cat([scales, thickness], dim=-1), opacities, sh_coeffs]


def bench_gaussians(
    num: int,
    size: int,
    repeats: int,
    *,
    num_features: int = 0,
    prototype: ModuleType | None = None,
) -> list[RasterResult]:
    """Time forward and backward passes of one scene, all implementations in alternation.

    Args:
        num: Gaussians.
        size: Width and height in pixels.
        repeats: Timed calls of each implementation.
        num_features: Channels beside the SH colour.
        prototype: A module with ``Raster3D`` and ``camera_vector``.
    """
    scene, camera = head_like_gaussians(num), head_like_camera(size)
    features = None
    if num_features:
        generator = torch.Generator().manual_seed(0)
        features = torch.rand(1, num, num_features, generator=generator)
    calls = {
        name: kernel_calls(scene, camera, outputs, features=features, rasterize=rasterize_gaussians)
        for name, outputs in (("cpu", ()), ("cpu, all outputs", ALL_OUTPUTS))
    }
    if prototype is not None:
        calls["prototype"] = _prototype_calls(prototype, scene, camera, features)
    label = f"{num} Gaussians, {size} x {size}, {3 + num_features} channels"
    return _time(label, calls, repeats)


def bench_gaussian_reference(num: int, size: int, repeats: int) -> list[RasterResult]:
    """Time the oracle beside the CPU kernels on a scene that the oracle can hold in memory."""
    scene, camera = head_like_gaussians(num), head_like_camera(size)
    calls = {
        name: kernel_calls(scene, camera, (), rasterize=rasterize_gaussians, backend=name)
        for name in ("cpu", "ref")
    }
    return _time(f"{num} Gaussians, {size} x {size}, 3 channels", calls, repeats, warmup=1)


def _time(
    label: str, calls: Mapping[str, Calls], repeats: int, *, warmup: int = 2
) -> list[RasterResult]:
    forward = time_in_alternation({n: c[0] for n, c in calls.items()}, repeats, warmup=warmup)
    both = time_in_alternation({n: c[1] for n, c in calls.items()}, repeats, warmup=warmup)
    return [RasterResult(label, name, both[name], forward[name]) for name in calls]


def _prototype_calls(
    prototype: ModuleType, scene: list[Tensor], camera: Camera, features: Tensor | None
) -> Calls:
    matrix = camera.world_to_camera[0].double().numpy()
    fx, fy, cx, cy = (float(camera.intrinsics[0][i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    size = camera.width
    view = prototype.camera_vector(
        matrix[:3, :3], matrix[:3, 3], fx, fy, cx, cy, size, size, near=0.2
    )
    arrays = [value[0].numpy() for value in scene]
    channels = 3 if features is None else 3 + features.shape[2]
    raster = prototype.Raster3D(
        len(arrays[0]), size, size, channels, threads=torch.get_num_threads()
    )
    if features is not None:
        raster.col[:, 3:] = features[0].numpy()
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((channels + 1, size, size)).astype(np.float32)

    def forward() -> object:
        return raster.forward(view, arrays, _DEGREE)

    def both() -> None:
        raster.forward(view, arrays, _DEGREE)
        raster.backward(view, arrays, _DEGREE, grads[:-1], grads[-1])

    return forward, both

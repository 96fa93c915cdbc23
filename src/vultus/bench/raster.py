"""Time of the surfel rasterizer, against the oracle and against a prototype of the same maths."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vultus.bench.timing import Timing, time_in_alternation
from vultus.geometry.cameras import Camera, look_at
from vultus.kernels.surfel_raster import OutputName, rasterize_surfels

__all__ = [
    "ALL_OUTPUTS",
    "PROTOTYPE_OUTPUTS",
    "Calls",
    "RasterResult",
    "bench_reference",
    "bench_surfels",
    "head_like_camera",
    "head_like_surfels",
    "kernel_calls",
    "load_module",
    "load_prototype",
]

PROTOTYPE_OUTPUTS: tuple[OutputName, ...] = ("depth", "normal", "distortion")
"""What the prototype computes, beside RGB and alpha."""
ALL_OUTPUTS: tuple[OutputName, ...] = (*PROTOTYPE_OUTPUTS, "median_depth")
_OPTIONAL_MAPS = ("depth_sum", "normal_view_sum", "median_depth", "distortion")
_DEGREE = 3
_DISTANCE = 1.0
_VIEW_WIDTH = 0.27
"""Width of what the camera sees at the centre, in metres: a head fills it."""


@dataclass(frozen=True)
class RasterResult:
    """One line of the table; seconds of forward and backward pass together."""

    scene: str
    implementation: str
    timing: Timing
    forward: Timing


def head_like_surfels(num: int, seed: int = 0) -> list[Tensor]:
    """Layered ellipsoid of surfels, about two pixels each when the head fills 256 pixels.

    Returns:
        Means, quats, scales, opacities and degree-3 SH, each with a batch dimension of 1.
    """
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((num, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wrinkles = 1 + 0.03 * np.sin(9 * direction[:, :1]) * np.cos(7 * direction[:, 1:2])
    depth = 1 + 0.06 * rng.random((num, 1)) ** 2
    means = direction * np.array([0.080, 0.115, 0.095]) * depth * wrinkles
    spacing = math.sqrt(4 * math.pi * 0.097**2 / num)
    scales = spacing * np.exp(0.5 * rng.standard_normal((num, 2)))
    sh_coeffs = 0.05 * rng.standard_normal((num, (_DEGREE + 1) ** 2, 3))
    sh_coeffs[:, 0] = (rng.random((num, 3)) - 0.5) / 0.2821
    opacities = 1 / (1 + np.exp(-1 - 1.5 * rng.standard_normal(num)))
    values = [means, rng.standard_normal((num, 4)), scales, opacities, sh_coeffs]
    return [torch.from_numpy(value.astype(np.float32))[None] for value in values]


def bench_surfels(
    num: int, size: int, repeats: int, prototype: ModuleType | None = None
) -> list[RasterResult]:
    """Time forward and backward passes of one scene, all implementations in alternation.

    Args:
        num: Surfels.
        size: Width and height in pixels.
        repeats: Timed calls of each implementation.
        prototype: A module with ``Raster2D`` and ``camera_vector``.
    """
    scene, camera = head_like_surfels(num), head_like_camera(size)
    calls = {
        "cpu": kernel_calls(scene, camera, PROTOTYPE_OUTPUTS),
        "cpu, all outputs": kernel_calls(scene, camera, ALL_OUTPUTS),
    }
    if prototype is not None:
        calls["prototype"] = _prototype_calls(prototype, scene, camera)
    forward = time_in_alternation({name: c[0] for name, c in calls.items()}, repeats)
    both = time_in_alternation({name: c[1] for name, c in calls.items()}, repeats)
    label = f"{num} surfels, {size} x {size}"
    return [RasterResult(label, name, both[name], forward[name]) for name in calls]


def bench_reference(num: int, size: int, repeats: int) -> list[RasterResult]:
    """Time the oracle beside the CPU kernels on a scene that the oracle can hold in memory."""
    scene, camera = head_like_surfels(num), head_like_camera(size)
    calls = {
        name: kernel_calls(scene, camera, PROTOTYPE_OUTPUTS, backend=name)
        for name in ("cpu", "ref")
    }
    forward = time_in_alternation({name: c[0] for name, c in calls.items()}, repeats, warmup=1)
    both = time_in_alternation({name: c[1] for name, c in calls.items()}, repeats, warmup=1)
    label = f"{num} surfels, {size} x {size}"
    return [RasterResult(label, name, both[name], forward[name]) for name in calls]


def load_prototype(path: Path, rasters: Collection[str] = ("Raster2D",)) -> ModuleType:
    """Import a prototype from a file; it must have ``camera_vector`` and the named rasterizers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no prototype of these rasterizers.
    """
    return load_module(path, (*rasters, "camera_vector"))


def load_module(path: Path, names: Collection[str]) -> ModuleType:
    """Import a prototype from a file and check what it defines.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a name is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"prototype {path} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"prototype {path} must be a Python file")
    module = importlib.util.module_from_spec(spec)
    # Numba's disk cache imports a kernel's module by name.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    if not all(hasattr(module, name) for name in names):
        raise ValueError(f"prototype {path} must define {' and '.join(names)}")
    return module


def head_like_camera(size: int, batch: int = 1) -> Camera:
    """Cameras that see the whole head, all from the same place."""
    eye = torch.tensor([[0.3, 0.0, _DISTANCE]])
    focal = size / _VIEW_WIDTH
    center = size / 2
    intrinsics = torch.tensor([[[focal, 0, center], [0, focal, center], [0, 0, 1]]])
    matrix = look_at(eye, torch.zeros(3))
    return Camera(matrix.expand(batch, 4, 4), intrinsics.expand(batch, 3, 3), size, size)


Calls = tuple[Callable[[], object], Callable[[], object]]


def kernel_calls(
    scene: list[Tensor],
    camera: Camera,
    outputs: Collection[str],
    *,
    features: Tensor | None = None,
    rasterize: Callable[..., Any] = rasterize_surfels,
    **options: Any,
) -> Calls:
    """Functions for the forward pass, and for forward and backward."""
    leaves = [value.clone().requires_grad_() for value in scene]
    *geometry, sh_coeffs = leaves
    if features is not None:
        features = features.clone().requires_grad_()
        leaves.append(features)

    def forward() -> Any:
        means, quats, scales, opacities = geometry
        return rasterize(
            means, quats, scales, opacities, camera,
            sh_coeffs=sh_coeffs, features=features, outputs=outputs, **options,
        )  # fmt: skip

    rng = torch.Generator().manual_seed(0)
    maps = _maps(forward())
    grads = [torch.randn(map_.shape, generator=rng).to(map_.device) for map_ in maps]

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        torch.autograd.backward(_maps(forward()), grads)

    return forward, both


def _maps(images: Any) -> list[Tensor]:
    """The images of either rasterizer that were asked for."""
    optional = (getattr(images, name, None) for name in _OPTIONAL_MAPS)
    return [images.image, images.alpha, *(value for value in optional if value is not None)]


def _prototype_calls(prototype: ModuleType, scene: list[Tensor], camera: Camera) -> Calls:
    matrix = camera.world_to_camera[0].double().numpy()
    fx, fy, cx, cy = (float(camera.intrinsics[0][i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    size = camera.width
    view = prototype.camera_vector(
        matrix[:3, :3], matrix[:3, 3], fx, fy, cx, cy, size, size, near=0.2
    )
    arrays = [value[0].numpy() for value in scene]
    grads = np.random.default_rng(0).standard_normal((9, size, size)).astype(np.float32)
    raster = prototype.Raster2D(len(arrays[0]), size, size, threads=torch.get_num_threads())

    def forward() -> object:
        return raster.forward(view, arrays, _DEGREE)

    def both() -> None:
        raster.forward(view, arrays, _DEGREE)
        raster.backward(view, arrays, _DEGREE, grads)

    return forward, both

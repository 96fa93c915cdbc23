"""The prototypes from which the kernels were developed, as files that the user names."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vultus.bench.scenes import SH_DEGREE, Primitive, RasterInputs, RasterScene
from vultus.geometry.cameras import Camera

__all__ = [
    "RASTERS",
    "cpu_prototype_calls",
    "gpu_prototype_calls",
    "gpu_prototype_inputs",
    "load_gpu_prototypes",
    "load_module",
    "load_prototype",
]

RASTERS: dict[Primitive, str] = {"gaussians": "Raster3D", "surfels": "Raster2D"}
"""Class that a prototype defines for each kind of primitive."""
_GPU_PARAMETERS = ("means", "quats", "scales", "opacities", "sh")
_NEAR = 0.2

Calls = tuple[Callable[[], object], Callable[[], object]]


def load_prototype(path: Path, primitives: Collection[Primitive] = ("surfels",)) -> ModuleType:
    """Import a prototype for the CPU, with ``camera_vector`` and rasterizers of these primitives.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no prototype of these rasterizers.
    """
    return load_module(path, (*(RASTERS[name] for name in primitives), "camera_vector"))


def load_gpu_prototypes(
    paths: Sequence[Path], primitives: Collection[Primitive]
) -> dict[Primitive, ModuleType]:
    """Import Triton prototypes, each of which may hold one rasterizer or both.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file lacks ``pack_cam`` and ``planar``, or all lack a rasterizer.
    """
    modules = [load_module(path, ("pack_cam", "planar")) for path in paths]
    found = {}
    for primitive in primitives:
        having = [module for module in modules if hasattr(module, RASTERS[primitive])]
        if not having:
            names = " and ".join(map(str, paths))
            raise ValueError(f"prototype {names} must define {RASTERS[primitive]}")
        found[primitive] = having[0]
    return found


def load_module(path: Path, names: Collection[str]) -> ModuleType:
    """Import a file and check what it defines; modules beside it may be imported by it.

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
    sys.path.append(str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop()
    if not all(hasattr(module, name) for name in names):
        raise ValueError(f"prototype {path} must define {' and '.join(names)}")
    return module


def cpu_prototype_calls(
    prototype: ModuleType, scene: RasterScene, inputs: RasterInputs, threads: int
) -> Calls:
    """Passes of a Numba prototype over the first frame; that of surfels renders RGB only."""
    view = _camera_vector(prototype, inputs.camera)
    arrays = [value[0].numpy() for value in inputs.parameters]
    rng = np.random.default_rng(0)
    grads: tuple[Any, ...]
    if scene.primitive == "gaussians":
        raster = prototype.Raster3D(
            scene.num, scene.size, scene.size, scene.channels, threads=threads
        )
        if inputs.features is not None:
            raster.col[:, 3:] = inputs.features[0].numpy()
        maps = rng.standard_normal((scene.channels + 1, scene.size, scene.size))
        grads = maps[:-1].astype(np.float32), maps[-1].astype(np.float32)
    else:
        raster = prototype.Raster2D(scene.num, scene.size, scene.size, threads=threads)
        grads = (rng.standard_normal((9, scene.size, scene.size)).astype(np.float32),)

    def forward() -> object:
        return raster.forward(view, arrays, SH_DEGREE)

    def both() -> None:
        raster.forward(view, arrays, SH_DEGREE)
        raster.backward(view, arrays, SH_DEGREE, *grads)

    return forward, both


def gpu_prototype_calls(
    prototype: ModuleType, scene: RasterScene, inputs: RasterInputs, **options: Any
) -> Calls | None:
    """Passes of a Triton prototype over RGB; None if its lists are too short for the scene.

    ``options``: of its rasterizer.
    """
    cameras, planes = gpu_prototype_inputs(prototype, inputs)
    raster = getattr(prototype, RASTERS[scene.primitive])(
        scene.num, scene.size, scene.size, B=scene.batch, **options
    )
    grads = [torch.randn_like(raster.out)]
    if scene.primitive == "gaussians":
        grads.append(torch.randn_like(raster.outA))

    raster.forward(cameras, planes)
    if bool((raster.tcount > raster.cap).any()):
        return None

    def forward() -> object:
        return raster.forward(cameras, planes)

    def both() -> None:
        raster.forward(cameras, planes)
        raster.backward(cameras, planes, *grads)

    return forward, both


def gpu_prototype_inputs(
    prototype: ModuleType, inputs: RasterInputs
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cameras and parameters in the layout of the Triton prototypes."""
    camera = inputs.camera
    views = zip(camera.world_to_camera, camera.intrinsics, strict=True)
    cameras = torch.stack([prototype.pack_cam(view, intrinsics) for view, intrinsics in views])
    named = zip(_GPU_PARAMETERS, inputs.parameters, strict=True)
    return cameras, prototype.planar({name: value.flatten(0, 1) for name, value in named})


def _camera_vector(prototype: ModuleType, camera: Camera) -> Any:
    matrix = camera.world_to_camera[0].double().numpy()
    fx, fy, cx, cy = (float(camera.intrinsics[0][i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return prototype.camera_vector(
        matrix[:3, :3], matrix[:3, 3], fx, fy, cx, cy, camera.width, camera.height, near=_NEAR
    )

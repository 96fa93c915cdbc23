"""Time of the rasterizers on a CPU, against the oracle and prototypes of the same maths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vultus.bench.gpu_timing import time_on_gpu
from vultus.bench.prototypes import cpu_prototype_calls
from vultus.bench.results import BOTH, FORWARD, Row, threads_mode
from vultus.bench.scenes import PARAMETERS, Primitive, RasterInputs, RasterScene
from vultus.bench.timing import Timing, time_in_alternation
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.kernels.surfel_raster import rasterize_surfels

__all__ = [
    "ALL_OUTPUTS",
    "PROTOTYPE_OUTPUTS",
    "Calls",
    "bench_on_cpu",
    "bench_reference",
    "image_maps",
    "kernel_calls",
    "make_calls",
    "pair_rows",
]

PROTOTYPE_OUTPUTS: dict[Primitive, tuple[str, ...]] = {
    "gaussians": (),
    "surfels": ("depth", "normal", "distortion"),
}
"""What the prototypes compute, beside image and alpha."""
ALL_OUTPUTS: dict[Primitive, tuple[str, ...]] = {
    "gaussians": ("depth", "median_depth"),
    "surfels": ("depth", "normal", "distortion", "median_depth"),
}
_OPTIONAL_MAPS = ("depth_sum", "normal_view_sum", "median_depth", "distortion")

Calls = tuple[Callable[[], object], Callable[[], object]]
"""The forward pass, and forward and backward."""


def bench_on_cpu(
    scene: RasterScene,
    repeats: int,
    *,
    threads: Sequence[int],
    prototype: ModuleType | None = None,
    all_outputs: bool = True,
) -> list[Row]:
    """Time one scene, all implementations and numbers of threads in alternation.

    Args:
        scene: What to render.
        repeats: Timed calls of each implementation.
        threads: Numbers of threads.
        prototype: A module with ``camera_vector`` and a rasterizer of these primitives.
        all_outputs: Add rows with every output that there is.
    """
    inputs = scene.build()
    outputs = {"cpu": PROTOTYPE_OUTPUTS[scene.primitive]}
    if all_outputs:
        outputs["cpu, all outputs"] = ALL_OUTPUTS[scene.primitive]
    calls: dict[tuple[str, str], Calls] = {}
    for count in threads:
        mode = threads_mode(count)
        made = {name: kernel_calls(scene, inputs, names) for name, names in outputs.items()}
        if prototype is not None:
            made["prototype"] = cpu_prototype_calls(prototype, scene, inputs, count)
        calls |= {(name, mode): _with_threads(pair, count) for name, pair in made.items()}
    before = torch.get_num_threads()
    try:
        return pair_rows(scene, calls, partial(time_in_alternation, repeats=repeats))
    finally:
        torch.set_num_threads(before)


def bench_reference(
    scene: RasterScene, repeats: int, *, device: torch.device | str = "cpu"
) -> list[Row]:
    """Time the oracle beside the kernels on a scene that the oracle can hold in memory."""
    inputs = scene.build(device)
    is_on_gpu = inputs.camera.intrinsics.is_cuda
    mode = "eager" if is_on_gpu else threads_mode(torch.get_num_threads())
    outputs = PROTOTYPE_OUTPUTS[scene.primitive]
    calls = {
        (backend, mode): kernel_calls(scene, inputs, outputs, backend=backend)
        for backend in ("gpu" if is_on_gpu else "cpu", "ref")
    }
    time = partial(time_in_alternation, repeats=repeats, warmup=1)
    return pair_rows(scene, calls, partial(time_on_gpu, repeats=repeats) if is_on_gpu else time)


def pair_rows(
    scene: RasterScene,
    calls: Mapping[tuple[str, str], Calls],
    time: Callable[[Mapping[str, Callable[[], object]]], Mapping[str, Timing]],
) -> list[Row]:
    """Time forward passes, then both passes, of every (implementation, mode)."""
    keys = {" | ".join(key): key for key in calls}
    times = [time({text: calls[key][k] for text, key in keys.items()}) for k in range(2)]
    return [
        Row(
            str(scene),
            *key,
            {FORWARD: times[0][text], BOTH: times[1][text]},
            facts=asdict(scene),
        )
        for text, key in keys.items()
    ]


def kernel_calls(
    scene: RasterScene, inputs: RasterInputs, outputs: Collection[str], **options: Any
) -> Calls:
    """Passes of our rasterizer over a copy of the inputs."""
    rasterize: Callable[..., Any] = (
        rasterize_gaussians if scene.primitive == "gaussians" else rasterize_surfels
    )
    own = inputs.trainable()
    tensors: dict[str, Any] = dict(zip(PARAMETERS, own.parameters, strict=True))

    def render() -> list[Tensor]:
        images = rasterize(
            **tensors, features=own.features, camera=own.camera, outputs=outputs, **options
        )
        return image_maps(images)

    return make_calls(render, own.leaves())


def make_calls(render: Callable[[], list[Tensor]], leaves: Sequence[Tensor]) -> Calls:
    """Passes of a function that returns maps, with fixed gradients of all maps.

    The forward pass alone is that of drawing: no gradients are recorded.
    """

    @torch.no_grad()
    def forward() -> list[Tensor]:
        return render()

    maps = forward()
    rng = torch.Generator().manual_seed(0)
    grads = [torch.randn(map_.shape, generator=rng).to(map_.device) for map_ in maps]

    def both() -> None:
        for leaf in leaves:
            leaf.grad = None
        torch.autograd.backward(render(), grads)

    return forward, both


def image_maps(images: Any) -> list[Tensor]:
    """The images of either rasterizer that were asked for."""
    optional = (getattr(images, name, None) for name in _OPTIONAL_MAPS)
    return [images.image, images.alpha, *(value for value in optional if value is not None)]


def _with_threads(calls: Calls, count: int) -> Calls:
    def limited(function: Callable[[], object]) -> object:
        torch.set_num_threads(count)
        return function()

    return partial(limited, calls[0]), partial(limited, calls[1])

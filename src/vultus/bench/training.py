"""Time of the parts of a training step around the rasterizer: L1 with SSIM, SSIM, and Adam."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.bench.gpu_timing import captured, time_on_gpu
from vultus.bench.results import BOTH, FORWARD, Row, threads_mode
from vultus.bench.timing import Timing, time_in_alternation
from vultus.kernels.ssim import Backend, l1_ssim, ssim
from vultus.optim.adam import build_adam

__all__ = ["SHAPES", "bench_adam", "bench_ssim", "time_modes"]

SHAPES = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh_coeffs": (16, 3)}
"""The 59 floats of a Gaussian."""

Functions = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class _Comparison:
    """Passes of a comparison of two images: forward, and forward and backward."""

    forward: Callable[[], object]
    both: Callable[[], object]


def bench_ssim(
    batch: int, size: int, repeats: int, *, device: torch.device | str = "cpu"
) -> list[Row]:
    """Time the mean SSIM of RGB images, alone and with L1, and its gradient.

    Args:
        batch: Images.
        size: Width and height in pixels.
        repeats: Timed calls of each backend.
        device: Where the images are; on a GPU, CUDA graphs have rows of their own.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, batch, 3, size, size, generator=generator).to(device)
    backends: tuple[Backend, ...] = ("gpu", "ref") if images.is_cuda else ("cpu", "ref")
    comparisons = {backend: _compare(images, backend, l1_ssim) for backend in backends}
    comparisons[f"{backends[0]}, SSIM alone"] = _compare(images, backends[0], ssim)
    passes = {
        FORWARD: {name: each.forward for name, each in comparisons.items()},
        BOTH: {name: each.both for name, each in comparisons.items()},
    }
    times = {part: time_modes(functions, repeats, device) for part, functions in passes.items()}
    facts = {"bench": "l1 and ssim", "batch": batch, "size": size}
    scene = f"L1 and SSIM of {batch} RGB images, {size} x {size}"
    return [
        Row(scene, name, mode, {part: times[part][name, mode] for part in passes}, facts=facts)
        for name, mode in times[BOTH]
    ]


def bench_adam(num: int, repeats: int, *, device: torch.device | str = "cpu") -> list[Row]:
    """Time a step of Adam on the parameters of so many Gaussians.

    Args:
        num: Gaussians.
        repeats: Timed steps of each implementation.
        device: Where they are; on a GPU, ours is compared with PyTorch's fused one.
    """
    values = {name: torch.zeros(num, *shape, device=device) for name, shape in SHAPES.items()}
    steps = {"torch": _adam_step(values, "torch")}
    if values["means"].is_cuda:
        steps["gpu"] = _adam_step(values, "gpu")
    times = time_modes(steps, repeats, device)
    scene, facts = f"Adam on {num} Gaussians", {"bench": "adam", "num": num}
    return [Row(scene, *key, {"step": timing}, facts=facts) for key, timing in times.items()]


def time_modes(
    functions: Functions, repeats: int, device: torch.device | str
) -> dict[tuple[str, str], Timing]:
    """Time functions in alternation, by name and mode: on a GPU eager calls, then CUDA graphs."""
    if torch.device(device).type == "cpu":
        times = time_in_alternation(functions, repeats)
        mode = threads_mode(torch.get_num_threads())
        return {(name, mode): timing for name, timing in times.items()}
    eager = time_on_gpu(functions, repeats)
    graphs = time_on_gpu({name: captured(call) for name, call in functions.items()}, repeats)
    return {(name, "eager"): timing for name, timing in eager.items()} | {
        (name, "graph"): timing for name, timing in graphs.items()
    }


def _compare(images: Tensor, backend: Backend, function: Callable[..., Any]) -> _Comparison:
    a, b = images[0].clone().requires_grad_(), images[1]
    forward = partial(function, a, b, backend=backend)
    one = torch.ones((), device=a.device)

    def both() -> None:
        a.grad = None
        result = forward()
        terms = result if isinstance(result, tuple) else (result,)
        torch.autograd.backward(terms, [one] * len(terms))

    return _Comparison(forward, both)


def _adam_step(values: dict[str, Tensor], backend: str) -> Callable[[], object]:
    parameters = {name: Parameter(value.clone()) for name, value in values.items()}
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    rates = dict.fromkeys(parameters, 1e-3)
    optimizer = build_adam(parameters, rates, backend="gpu" if backend == "gpu" else "torch")
    for group in optimizer.param_groups:
        # PyTorch's counts stay on the GPU, too, so that its step can be captured.
        group["capturable"] = parameters["means"].is_cuda
    return optimizer.step

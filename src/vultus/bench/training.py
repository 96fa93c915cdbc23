"""Time of the parts of a training step around the rasterizer: SSIM and Adam."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.bench.raster import Calls, RasterResult
from vultus.bench.raster_gpu import captured, time_on_gpu
from vultus.bench.timing import Timing, time_in_alternation
from vultus.kernels.ssim import Backend, ssim
from vultus.optim.adam import build_adam

__all__ = ["bench_adam", "bench_ssim"]

_SHAPES = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh_coeffs": (16, 3)}
"""The 59 floats of a Gaussian."""


def bench_ssim(
    batch: int, size: int, repeats: int, *, device: torch.device | str = "cpu"
) -> list[RasterResult]:
    """Time the mean SSIM of RGB images, and its gradient, of all backends in alternation.

    Args:
        batch: Images.
        size: Width and height in pixels.
        repeats: Timed calls of each backend.
        device: Where the images are; on a GPU, CUDA graphs have rows of their own.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, batch, 3, size, size, generator=generator).to(device)
    backends: tuple[Backend, ...] = ("gpu", "ref") if images.is_cuda else ("cpu", "ref")
    calls = {backend: _ssim_calls(images, backend) for backend in backends}
    timings = [
        _time({name: call[k] for name, call in calls.items()}, repeats, images.is_cuda)
        for k in range(2)
    ]
    label = f"SSIM of {batch} RGB images, {size} x {size}"
    return [RasterResult(label, name, timings[1][name], timings[0][name]) for name in timings[1]]


def bench_adam(num: int, repeats: int, *, device: torch.device | str = "cpu") -> dict[str, Timing]:
    """Time a step of Adam on the parameters of so many Gaussians.

    Args:
        num: Gaussians.
        repeats: Timed steps of each implementation.
        device: Where they are; on a GPU, ours is compared with PyTorch's fused one.
    """
    values = {name: torch.zeros(num, *shape, device=device) for name, shape in _SHAPES.items()}
    is_on_gpu = values["means"].is_cuda
    calls = {"torch": _adam_step(values, "torch")}
    if is_on_gpu:
        calls["gpu"] = _adam_step(values, "gpu")
    return _time(calls, repeats, is_on_gpu)


def _ssim_calls(images: Tensor, backend: Backend) -> Calls:
    a, b = images[0].clone().requires_grad_(), images[1]

    def forward() -> object:
        return ssim(a, b, backend=backend)

    def both() -> None:
        a.grad = None
        ssim(a, b, backend=backend).backward()

    return forward, both


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


def _time(
    calls: dict[str, Callable[[], object]], repeats: int, is_on_gpu: bool
) -> dict[str, Timing]:
    if not is_on_gpu:
        return time_in_alternation(calls, repeats)
    graphs = {name: captured(call) for name, call in calls.items()}
    eager = time_on_gpu(calls, repeats)
    replayed = time_on_gpu(graphs, repeats)
    return {
        **{f"{name}, eager": timing for name, timing in eager.items()},
        **{f"{name}, graph": timing for name, timing in replayed.items()},
    }

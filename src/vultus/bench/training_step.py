"""Time of whole training steps of Gaussians that nothing moves: render, L1 + SSIM, Adam."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.bench.gpu_timing import allocated_memory, peak_memory
from vultus.bench.prototypes import gpu_prototype_inputs
from vultus.bench.published import MODE, published_steps
from vultus.bench.results import Row
from vultus.bench.scenes import PARAMETERS, RasterInputs, RasterScene
from vultus.bench.training import time_modes
from vultus.geometry.cameras import Camera
from vultus.kernels.capacity import overflow_flag
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.kernels.ssim import l1_ssim
from vultus.optim.adam import GpuAdam, build_adam

__all__ = ["FreeGaussians", "bench_training_step"]

_SSIM_WEIGHT = 0.2
"""Of 3DGS, eq. 7."""
_RATE = 1e-8
"""Learning rate while timing: every step does the same work, and the scene stays as it is."""


class FreeGaussians:
    """Gaussians of 59 trained floats each, and the image that they are fitted to."""

    def __init__(
        self, inputs: RasterInputs, *, rate: float = _RATE, has_activations: bool = False
    ) -> None:
        """Copy the scene; the target is its image with the colours of other primitives.

        Args:
            inputs: A scene of Gaussians.
            rate: Learning rate of everything.
            has_activations: Train logarithms of scales and logits of opacities.
        """
        self._camera, self._has_activations = inputs.camera, has_activations
        values = dict(zip(PARAMETERS, inputs.parameters, strict=True))
        others = {**values, "sh_coeffs": values["sh_coeffs"].roll(1, dims=1)}
        self.target = _render(others, inputs.camera)
        if has_activations:
            values["scales"] = values["scales"].log()
            values["opacities"] = values["opacities"].logit()
        self.parameters = {name: Parameter(value.clone()) for name, value in values.items()}
        self._optimizer = build_adam(self.parameters, dict.fromkeys(values, rate))
        device = self.target.device
        if isinstance(self._optimizer, GpuAdam):
            self._optimizer.skip = overflow_flag(device)
        # The gradient of a weighted sum: the sum itself need not be computed.
        self._weights = [torch.tensor(w, device=device) for w in (1 - _SSIM_WEIGHT, -_SSIM_WEIGHT)]

    def step(self) -> tuple[Tensor, Tensor]:
        """Train once; returns L1 and SSIM from before."""
        self._optimizer.zero_grad(set_to_none=True)
        values: dict[str, Tensor] = dict(self.parameters)
        if self._has_activations:
            values |= {"scales": values["scales"].exp(), "opacities": values["opacities"].sigmoid()}
        terms = l1_ssim(_render(values, self._camera), self.target)
        torch.autograd.backward(terms, self._weights)
        self._optimizer.step()
        return terms[0].detach(), terms[1].detach()


def bench_training_step(
    num: int,
    size: int,
    repeats: int,
    *,
    device: torch.device | str = "cpu",
    prototypes: tuple[ModuleType, ModuleType] | None = None,
) -> list[Row]:
    """Time whole steps: op by op, and on a GPU as one CUDA graph, too.

    Args:
        num: Gaussians.
        size: Width and height of the image.
        repeats: Timed steps of each implementation.
        device: Where to train.
        prototypes: Triton prototypes of the rasterizer (``Raster3D``) and of what surrounds it
            (``Loss`` and ``Adam``), for a GPU.
    """
    inputs = RasterScene("gaussians", num, size).build(device)
    is_on_gpu = inputs.camera.intrinsics.is_cuda
    name = "gpu" if is_on_gpu else "cpu"
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        name: lambda: FreeGaussians(inputs).step,
        f"{name}, activations": lambda: FreeGaussians(inputs, has_activations=True).step,
    }
    if prototypes is not None:
        makers["prototype"] = lambda: _prototype_step(*prototypes, inputs)
    steps: dict[str, Callable[[], object]] = {}
    memory: dict[str, int] = {}
    for name, make in makers.items():
        before = allocated_memory() if is_on_gpu else 0
        steps[name] = make()
        if is_on_gpu:
            memory[name] = peak_memory(steps[name]) - before
    scene = f"training step, {num} Gaussians, {size} x {size}"
    facts = {"bench": "training step", "num": num, "size": size}
    rows = [
        Row(scene, *key, {"step": timing}, memory.get(key[0]), facts)
        for key, timing in time_modes(steps, repeats, device).items()
    ]
    published = published_steps(num, size) if is_on_gpu else {}
    return rows + [
        Row(scene, peer, MODE, {"step": timing}, facts=facts) for peer, timing in published.items()
    ]


def _render(parameters: Mapping[str, Tensor], camera: Camera) -> Tensor:
    arguments: dict[str, Any] = dict(parameters)
    return rasterize_gaussians(**arguments, camera=camera).image


def _prototype_step(
    raster_module: ModuleType, step_module: ModuleType, inputs: RasterInputs
) -> Callable[[], None]:
    """Step of the prototypes, launched op by op; they train activated values."""
    cameras, planes = gpu_prototype_inputs(raster_module, inputs)
    _, num = inputs.parameters[0].shape[:2]
    size = inputs.camera.width
    # One matrix of 59 rows; the rasterizer reads parts of it.
    flat = torch.cat([value.reshape(-1, num) for value in planes.values()])
    starts = [0, 3, 7, 10, 11, len(flat)]
    parts = [flat[a:b] for a, b in itertools.pairwise(starts)]
    parameters = dict(zip(planes, parts, strict=True))
    raster = raster_module.Raster3D(num, size, size)
    loss = step_module.Loss(1, size, size)
    adam = step_module.Adam(flat, torch.full((len(flat),), _RATE, device=flat.device))
    target = FreeGaussians(inputs).target.permute(0, 2, 3, 1).contiguous()
    no_grad = torch.zeros_like(raster.outA)

    def step() -> None:
        image, _ = raster.forward(cameras, parameters)
        raster.backward(cameras, parameters, loss(image, target), no_grad)
        adam(raster.gflat)

    return step

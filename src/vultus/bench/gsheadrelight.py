"""Time and memory of GSHeadRelight's generator: Gaussians, light and pictures, and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vultus.bench.gpu_timing import memory_of_call
from vultus.bench.results import BOTH, Row
from vultus.bench.training import time_modes
from vultus.methods.gsheadrelight.config import LIGHT_TERMS, GeneratorConfig
from vultus.methods.gsheadrelight.gaussians import ActivatedHeads, HeadGaussians, activate_heads
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.head_views import ViewRig

__all__ = ["AT_ONCE", "ONE_BY_ONE", "bench_gsheadrelight"]

AT_ONCE, ONE_BY_ONE = "one pass", "one by one"
"""Ways to render several heads or lights; the second is what the first is compared with."""
_GRADIENT_PRECISIONS: tuple[Literal["single", "bfloat16"], ...] = ("single", "bfloat16")


def bench_gsheadrelight(
    config: GeneratorConfig,
    batch: int,
    training_batch: int,
    num_lights: int,
    repeats: int,
    *,
    device: torch.device | str = "cpu",
) -> list[Row]:
    """Time a generator of random weights.

    Heads are generated and activated once; relighting is everything from a light and a label to a
    picture. Memory is what a call takes beyond weights and heads.

    Args:
        config: Which generator.
        batch: Heads that are relit at once, each in a light of its own and from its own camera.
        training_batch: Heads of a pass with gradients of all weights; 0 for no such pass.
        num_lights: Lights of a single head that are rendered at once.
        repeats: Timed calls of each part.
        device: On a GPU, calls are launched and captured, and gradients have both precisions.
    """
    size = f"{config.image_size} x {config.image_size}"
    name = f"GSHeadRelight, {config.num_gaussians} Gaussians, {size}"
    facts = {"bench": "gsheadrelight", "size": config.image_size, "num": config.num_gaussians}
    model = _Model(config, batch, num_lights, device)
    rows = []
    for what, calls in model.parts().items():
        memory = {part: memory_of_call(call, device) for part, call in calls.items()}
        times = time_modes(calls, repeats, device)
        rows += [
            Row(f"{name}: {what}", part, mode, {"time": timing}, memory[part], facts)
            for (part, mode), timing in times.items()
        ]
    if training_batch == 0:
        return rows
    scene = f"{name}: gradients of {training_batch} pictures"
    is_on_gpu = torch.device(device).type == "cuda"
    for precision in _GRADIENT_PRECISIONS if is_on_gpu else _GRADIENT_PRECISIONS[:1]:
        short = replace(config, gradient_precision=precision)
        trained = _Model(short, training_batch, 1, device)
        memory = memory_of_call(trained.pass_with_gradients, device)
        call = {f"all weights, {precision}": trained.pass_with_gradients}
        times = time_modes(call, repeats, device)
        rows += [Row(scene, *key, {BOTH: timing}, memory, facts) for key, timing in times.items()]
    return rows


class _Model:
    """A generator and what it is called with."""

    def __init__(
        self, config: GeneratorConfig, batch: int, num_lights: int, device: torch.device | str
    ) -> None:
        random = torch.Generator().manual_seed(0)
        self._generator = Generator(config, random).to(device)
        z = torch.randn(batch, config.z_dim, generator=random).to(device)
        yaws = torch.linspace(-0.5, 0.5, batch)
        self._labels = ViewRig().labels(yaws, torch.zeros(batch)).to(device)
        self._lights = torch.randn(batch, LIGHT_TERMS, 3, generator=random).to(device)
        self._many_lights = torch.randn(1, num_lights, LIGHT_TERMS, 3, generator=random).to(device)
        with torch.no_grad():
            self._ws = self._generator.map(z, self._labels)
            self._heads = activate_heads(self._generator.gaussians(self._ws))

    def parts(self) -> Mapping[str, Mapping[str, Callable[[], object]]]:
        """What is timed without gradients, by scene and implementation."""
        batch, lights = len(self._labels), self._many_lights
        num_lights = lights.shape[1]
        parts: dict[str, dict[str, Callable[[], object]]] = {
            "one head": {"Gaussians of styles": lambda: self._generator.gaussians(self._ws[:1])},
            "one head relit": {AT_ONCE: lambda: self._relit(slice(0, 1))},
        }
        if batch > 1:
            parts[f"{batch} heads relit"] = {
                AT_ONCE: lambda: self._relit(slice(0, batch)),
                ONE_BY_ONE: lambda: [self._relit(slice(k, k + 1)) for k in range(batch)],
            }
        if num_lights > 1:
            parts[f"one head in {num_lights} lights"] = {
                AT_ONCE: lambda: self._in_lights(lights),
                ONE_BY_ONE: lambda: [self._in_lights(each) for each in lights.split(1, dim=1)],
            }
        return {
            scene: {name: torch.no_grad()(call) for name, call in calls.items()}
            for scene, calls in parts.items()
        }

    def pass_with_gradients(self) -> object:
        """Gradients of all weights that pictures depend on."""
        pictures = self._show(self._generator.gaussians(self._ws), self._lights, self._labels)
        weights = list(self._generator.parameters())
        return torch.autograd.grad(pictures.square().mean(), weights, allow_unused=True)

    def _relit(self, rows: slice) -> Tensor:
        return self._show(self._heads.select(rows), self._lights[rows], self._labels[rows])

    def _in_lights(self, lights: Tensor) -> Tensor:
        return self._show(self._heads.select(0), lights, self._labels[:1])

    def _show(
        self, heads: HeadGaussians | ActivatedHeads, lights: Tensor, labels: Tensor
    ) -> Tensor:
        return self._generator.render(heads, lights, labels).image

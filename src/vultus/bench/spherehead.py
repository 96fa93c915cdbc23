"""Time and memory of SphereHead's generator: images and their parts, and passes with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vultus.bench.gpu_timing import memory_of_call
from vultus.bench.results import BOTH, Row
from vultus.bench.training import time_modes
from vultus.data.camera_labels import LABEL_DIM
from vultus.kernels.triplane_volume import Precision
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.config import GeneratorConfig
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.nets.ranges import from_signed

__all__ = ["bench_spherehead", "psnr_of_half_precision"]

_PRECISIONS: tuple[Precision, ...] = ("half", "single")
_GRADIENT_PRECISIONS: tuple[Literal["single", "bfloat16"], ...] = ("single", "bfloat16")


def bench_spherehead(
    config: GeneratorConfig,
    batch: int,
    training_batch: int,
    repeats: int,
    *,
    device: torch.device | str = "cpu",
) -> list[Row]:
    """Time a generator of random weights.

    An image is everything from a latent and a camera on: styles, planes, rays, super-resolution,
    and the random numbers of the rays. Memory is what a call takes beyond the weights.

    Args:
        config: Which generator.
        batch: Images at once, without gradients.
        training_batch: Images of a pass with gradients of all weights; 0 for no such pass.
        repeats: Timed calls of each part.
        device: On a GPU, calls are launched and captured, and both precisions are timed.
    """
    kind = torch.device(device).type
    precisions: tuple[Precision, ...] = _PRECISIONS if kind == "cuda" else ("single",)
    size = f"{config.image_size} x {config.image_size}, {config.neural_size}² rays"
    facts = {"bench": "spherehead", "size": config.image_size, "neural_size": config.neural_size}
    rows = []
    for precision in precisions:
        model = _Model(replace(config, precision=precision), batch, device)
        scene = f"SphereHead, {batch} x {size}"
        for name, call in model.parts().items():
            memory = memory_of_call(call, kind)
            times = time_modes({f"{name}, {precision}": call}, repeats, device)
            rows += [
                Row(scene, *key, {"time": timing}, memory, {**facts, "batch": batch})
                for key, timing in times.items()
            ]
    if training_batch == 0:
        return rows
    scene = f"SphereHead, gradients of {training_batch} x {size}"
    for precision in _GRADIENT_PRECISIONS if kind == "cuda" else _GRADIENT_PRECISIONS[:1]:
        short = replace(config, gradient_precision=precision)
        model = _Model(short, training_batch, device)
        memory = memory_of_call(model.pass_with_gradients, kind)
        name = f"all weights, {precision}"
        times = time_modes({name: model.pass_with_gradients}, repeats, device)
        rows += [
            Row(scene, *key, {BOTH: timing}, memory, {**facts, "batch": training_batch})
            for key, timing in times.items()
        ]
    return rows


@torch.no_grad()
def psnr_of_half_precision(
    config: GeneratorConfig, count: int, device: torch.device | str
) -> float:
    """PSNR in dB of images of half precision, those of single precision being right.

    Both see the same random numbers; of so many people, the mean square is taken together.
    """
    images = []
    for precision in _PRECISIONS:
        model = _Model(replace(config, precision=precision), count, device)
        draws = model.generator.draw(count, torch.Generator(device).manual_seed(1))
        planes = model.generator.planes(model.ws, "const")
        made = model.generator.render(planes, model.ws, model.labels, draws, noise_mode="const")
        images.append(from_signed(made.image))
    error = (images[0] - images[1]).square().mean()
    return -10.0 * math.log10(max(float(error), 1e-12))


class _Model:
    """A generator and what it is called with."""

    def __init__(self, config: GeneratorConfig, batch: int, device: torch.device | str) -> None:
        random = torch.Generator().manual_seed(0)
        self.generator = Generator(config, random).to(device)
        self.generator.keep_derived()
        self._z = torch.randn(batch, config.z_dim, generator=random).to(device)
        turns = [2.0 * math.pi * k / batch for k in range(batch)]
        rig = ViewRig()
        self.labels = torch.cat([rig.label(turn) for turn in turns]).to(device)
        assert self.labels.shape == (batch, LABEL_DIM)
        with torch.no_grad():
            self.ws = self.generator.map(self._z, self.labels)
            self._planes = self.generator.planes(self.ws, "const")
        self._random = _default_generator(self.labels)

    def parts(self) -> dict[str, Callable[[], object]]:
        """What is timed without gradients."""
        generator = self.generator
        calls: dict[str, Callable[[], object]] = {
            "planes": lambda: generator.planes(self.ws, "const"),
            "image of planes": lambda: self._render(self._planes, self.ws),
            "image": self._image,
        }
        return {name: torch.no_grad()(call) for name, call in calls.items()}

    def pass_with_gradients(self) -> object:
        """Gradients of all weights that an image depends on."""
        made = self._image()
        raw = made.raw_image
        loss = made.image.square().mean()
        if raw is not None:
            loss = loss + raw.square().mean()
        weights = [p for p in self.generator.parameters() if p.requires_grad]
        return torch.autograd.grad(loss, weights, allow_unused=True)

    def _image(self) -> HeadImages:
        ws = self.generator.map(self._z, self.labels)
        return self._render(self.generator.planes(ws, "const"), ws)

    def _render(self, planes: Tensor, ws: Tensor) -> HeadImages:
        labels, _ = self.generator.offset_labels(self._z, self.labels)
        draws = self.generator.draw(len(ws), self._random)
        return self.generator.render(planes, ws, labels, draws, noise_mode="const")


def _default_generator(tensor: Tensor) -> torch.Generator:
    """PyTorch's own generator of a device: the one that CUDA graphs know without being told."""
    if tensor.is_cuda:
        return torch.cuda.default_generators[tensor.get_device()]
    return torch.default_generator

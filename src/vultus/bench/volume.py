"""Speed and memory of the volume renderer: rays through feature planes of a head's size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from vultus.bench.gpu_timing import allocated_memory, peak_memory
from vultus.bench.results import BOTH, FORWARD, Row
from vultus.bench.training import time_modes
from vultus.kernels.triplane_volume import (
    Backend,
    DecoderActivation,
    DecoderWeights,
    Precision,
    VolumeDraws,
    VolumeSettings,
    render_planes,
)

__all__ = ["PROTOTYPE_NAMES", "VolumeScene", "bench_volume"]

PROTOTYPE_NAMES = ("render", "Cfg")
"""What a Triton prototype of this kernel defines."""
_CHANNELS, _HIDDEN = 32, 64
_CAMERA_DISTANCE, _FOCAL = 2.7, 4.2647
"""Of the published generator: world units, and widths of the image."""
_SMOOTHNESS = 8
"""Texels from one random feature to the next."""

Calls = tuple[Callable[[], object], Callable[[], object]]


@dataclass(frozen=True)
class VolumeScene:
    """What is rendered: two spheres with three planes of 32 channels each, 96 samples a ray."""

    batch: int = 4
    size: int = 128
    """Side of the images, a ray per pixel."""
    plane_size: int = 256
    activation: DecoderActivation = "none"

    @property
    def name(self) -> str:
        """For tables."""
        images = f"{self.batch} x {self.size} x {self.size} rays"
        return f"{images}, planes {self.plane_size} x {self.plane_size}, decoder {self.activation}"


def bench_volume(
    scene: VolumeScene,
    repeats: int,
    *,
    device: torch.device | str = "cpu",
    prototype: ModuleType | None = None,
    has_reference: bool = True,
) -> list[Row]:
    """Time forward passes without gradients, and passes with gradients of planes and decoder.

    On a GPU there are rows of eager calls and of CUDA graphs. Memory is what a pass with gradients
    takes beyond planes, rays and weights.

    Args:
        scene: What to render.
        repeats: Timed calls of each implementation.
        device: Where to render.
        prototype: Triton prototype; it knows no activation, and planes in float16 only.
        has_reference: Time the reference, too; it takes many times the memory.
    """
    inputs = _Inputs.build(scene, device)

    def calls(backend: Backend, precision: Precision, dtype: torch.dtype) -> Calls:
        parameters = inputs.planes.to(dtype), *inputs.weights
        leaves = tuple(x.detach().requires_grad_() for x in parameters)
        options = {"backend": backend, "precision": precision}
        return _calls(partial(_render, leaves, scene.activation, inputs, options), leaves)

    makers: dict[str, Callable[[], Calls]] = {}
    if torch.device(device).type == "cuda":
        makers["gpu, float16 planes"] = partial(calls, "gpu", "half", torch.float16)
        makers["gpu, float32 planes"] = partial(calls, "gpu", "half", torch.float32)
        makers["gpu, single precision"] = partial(calls, "gpu", "single", torch.float32)
    else:
        makers["cpu"] = partial(calls, "cpu", "half", torch.float32)
    if prototype is not None and scene.activation == "none":
        makers["prototype"] = partial(_prototype_calls, prototype, inputs)
    if has_reference:
        makers["ref"] = partial(calls, "ref", "half", torch.float32)
    return [
        row for name, make in makers.items() for row in _measure(scene, name, make, repeats, device)
    ]


@dataclass(frozen=True)
class _Inputs:
    """What all implementations get."""

    planes: Tensor
    """As b 2 3 d h w; the channels lie side by side in memory."""
    weights: tuple[Tensor, ...]
    origins: Tensor
    directions: Tensor
    settings: VolumeSettings
    draws: VolumeDraws

    @classmethod
    def build(cls, scene: VolumeScene, device: torch.device | str) -> _Inputs:
        """Random planes and weights; cameras all around."""
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        side = scene.plane_size
        # Features of a trained generator change slowly from texel to texel.
        coarse = normal(
            scene.batch * 6, _CHANNELS, -(-side // _SMOOTHNESS), -(-side // _SMOOTHNESS)
        )
        texels = interpolate(coarse, (side, side), mode="bilinear").unflatten(0, (-1, 2, 3))
        hidden = normal(_HIDDEN, _CHANNELS) / _CHANNELS**0.5, torch.zeros(_HIDDEN)
        out = normal(1 + _CHANNELS, _HIDDEN) / _HIDDEN**0.5, torch.zeros(1 + _CHANNELS)
        origins, directions = _rays(scene)
        settings = VolumeSettings()
        on_device = torch.Generator(device).manual_seed(0)
        side_by_side = texels.permute(0, 1, 2, 4, 5, 3).to(device).contiguous()
        return cls(
            planes=side_by_side.permute(0, 1, 2, 5, 3, 4),
            weights=tuple(x.to(device) for x in (*hidden, *out)),
            origins=origins.to(device),
            directions=directions.to(device),
            settings=settings,
            draws=VolumeDraws.draw((scene.batch, scene.size**2), settings, on_device, device),
        )


def _rays(scene: VolumeScene) -> tuple[Tensor, Tensor]:
    """Rays of cameras around the head, a step of the circle from image to image."""
    places = (torch.arange(scene.size) + 0.5) / scene.size - 0.5
    v, u = torch.meshgrid(places, places, indexing="ij")
    local = torch.stack([u, -v, torch.full_like(u, -_FOCAL)], dim=-1).flatten(0, 1)
    turn = 2.0 * math.pi * torch.arange(scene.batch) / scene.batch
    sine, cosine, zero = turn.sin(), turn.cos(), torch.zeros_like(turn)
    rows = [cosine, zero, sine, zero, zero + 1.0, zero, -sine, zero, cosine]
    rotations = torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
    directions = normalize(local @ rotations.mT, dim=-1)
    origins = (_CAMERA_DISTANCE * rotations[:, None, :, 2]).expand_as(directions)
    return origins.contiguous(), directions


def _render(
    leaves: tuple[Tensor, ...],
    activation: DecoderActivation,
    inputs: _Inputs,
    options: dict[str, Any],
) -> tuple[Tensor, ...]:
    planes, w1, b1, w2, b2 = leaves
    decoder = DecoderWeights(w1, b1, w2, b2, activation)
    return render_planes(
        planes,
        decoder,
        inputs.origins,
        inputs.directions,
        inputs.settings,
        inputs.draws,
        **options,
    )


def _prototype_calls(prototype: ModuleType, inputs: _Inputs) -> Calls:
    config = prototype.Cfg()
    texels = inputs.planes.permute(0, 1, 2, 4, 5, 3).to(config.plane_dtype).contiguous()
    leaves = tuple(x.detach().requires_grad_() for x in (texels, *inputs.weights))
    draws, (near, far) = inputs.draws, (2.25, 3.3)
    steps = draws.jitter.shape[-1]
    share = (torch.arange(steps, device=texels.device) + draws.jitter) / (steps - 1)
    depths, uniforms = (
        x.permute(2, 0, 1).flatten(1).contiguous()
        for x in (near + share * (far - near), draws.uniforms)
    )
    w1, b1, w2, b2 = leaves[1:]

    def render() -> tuple[Tensor, ...]:
        rays = inputs.origins, inputs.directions
        return prototype.render(leaves[0], *rays, depths, uniforms, w1, b1, w2, b2, config)

    return _calls(render, leaves)


def _calls(render: Callable[[], tuple[Tensor, ...]], leaves: tuple[Tensor, ...]) -> Calls:
    with torch.no_grad():
        upstream = [torch.randn_like(values) for values in render()]

    def forward() -> object:
        with torch.no_grad():
            return render()

    def both() -> object:
        return torch.autograd.grad(render(), leaves, upstream)

    return forward, both


def _measure(
    scene: VolumeScene,
    name: str,
    make: Callable[[], Calls],
    repeats: int,
    device: torch.device | str,
) -> list[Row]:
    calls = dict(zip((FORWARD, BOTH), make(), strict=True))
    memory = {}
    if torch.device(device).type == "cuda":
        before = allocated_memory()
        memory = {part: peak_memory(call) - before for part, call in calls.items()}
    times = {part: time_modes({name: call}, repeats, device) for part, call in calls.items()}
    facts: dict[str, int | str] = {"bench": "volume", **vars(scene)}
    if memory:
        facts["forward_bytes"] = memory[FORWARD]
    return [
        Row(scene.name, *key, {part: times[part][key] for part in times}, memory.get(BOTH), facts)
        for key in times[BOTH]
    ]

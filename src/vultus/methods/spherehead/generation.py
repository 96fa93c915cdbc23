"""Generate heads for training, from explicit random numbers; what changes in its course."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.triplane_volume import VolumeDraws, VolumeSettings
from vultus.methods.spherehead.config import ObjectiveConfig
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.nets.stylegan2.mapping import swap_with_predecessor
from vultus.optim.schedules import fade_progress

__all__ = [
    "GeneratedBatch",
    "GenerationDraws",
    "conditioned_styles",
    "draw_generation",
    "generate_batch",
    "neural_size_at",
    "noisy_volume",
]


class GenerationDraws(NamedTuple):
    """Uniform numbers that decide on swaps, and those of the rays."""

    pose_swap: Float[Tensor, " b"]
    background_swap: Float[Tensor, " b"]
    volume: VolumeDraws


class GeneratedBatch(NamedTuple):
    """Generated heads."""

    images: HeadImages
    offsets: Float[Tensor, "b 3"]
    """Of the cameras."""
    ws: Float[Tensor, "b n w"]


def noisy_volume(
    volume: VolumeSettings, config: ObjectiveConfig, images_seen: int
) -> VolumeSettings:
    """Settings of the rays with the noise of a moment."""
    noise = 1.0 - fade_progress(images_seen, config.noise_fade)
    return replace(volume, density_noise=noise)


def neural_size_at(initial: int, config: ObjectiveConfig, images_seen: int) -> int:
    """Side of the rendered feature image at a moment."""
    if config.neural_size_final is None:
        return initial
    progress = fade_progress(images_seen, config.neural_size_fade)
    return round(initial * (1.0 - progress) + config.neural_size_final * progress)


def draw_generation(
    generator: Generator,
    batch: int,
    config: ObjectiveConfig,
    images_seen: int,
    random: torch.Generator,
) -> GenerationDraws:
    """Draw what ``generate_batch`` needs; ``random`` must live on the generator's device."""

    def uniforms() -> Tensor:
        return torch.rand(batch, generator=random, device=random.device)

    volume = noisy_volume(generator.config.volume, config, images_seen)
    size = neural_size_at(generator.config.neural_size, config, images_seen)
    rays = generator.draw(batch, random, neural_size=size, volume=volume)
    return GenerationDraws(uniforms(), uniforms(), rays)


def generate_batch(
    generator: Generator,
    z: Float[Tensor, "b z"],
    labels: Float[Tensor, "b 25"],
    draws: GenerationDraws,
    config: ObjectiveConfig,
    images_seen: int,
    neural_size: int,
    layer_noise: torch.Generator | None = None,
) -> GeneratedBatch:
    """Generate heads for training.

    Args:
        generator: What is trained.
        z: Latents.
        labels: Cameras, to which the learned offset is added.
        draws: Decide on swaps, and sample the rays.
        config: Shares of swaps, and schedules.
        images_seen: Moment of the training.
        neural_size: Side of the feature images.
        layer_noise: Draws the noise of the layers; None for PyTorch's global generator.
    """
    ws = conditioned_styles(generator, z, labels, draws.pose_swap, config, images_seen)
    background_ws = swap_with_predecessor(ws, draws.background_swap, config.background_swap)
    shifted, offsets = generator.offset_labels(z, labels)
    images = generator.render(
        generator.planes(ws, "random", layer_noise),
        ws,
        shifted,
        draws.volume,
        neural_size=neural_size,
        volume=noisy_volume(generator.config.volume, config, images_seen),
        background_ws=background_ws,
        noise_mode="random",
        generator=layer_noise,
    )
    return GeneratedBatch(images, offsets, ws)


def conditioned_styles(
    generator: Generator,
    z: Float[Tensor, "b z"],
    labels: Float[Tensor, "b 25"],
    uniforms: Float[Tensor, " b"],
    config: ObjectiveConfig,
    images_seen: int,
) -> Float[Tensor, "b n w"]:
    """Styles that are conditioned on the cameras of the heads, or of others of the batch.

    Args:
        generator: Maps latents.
        z: Latents.
        labels: Cameras that are rendered.
        uniforms: Decide on swaps.
        config: Share of swaps, and its schedule.
        images_seen: Moment of the training.
    """
    if config.pose_swap is None:
        return generator.map(z, torch.zeros_like(labels))
    progress = fade_progress(images_seen, config.pose_swap_fade)
    share = (1.0 - progress) + progress * config.pose_swap
    return generator.map(z, swap_with_predecessor(labels, uniforms, share))

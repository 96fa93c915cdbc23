"""Losses of both networks, as functions of a batch and of explicit random numbers.

With D a discriminator's judgement and sp the softplus: the generator minimises sp(-D(fake)), the
discriminator sp(D(fake)) + sp(-D(real)), and for SphereHead also sp(D(real, label of another)), so
that a good face at a wrong view counts as fake. The release has no training code: all but that last
term follows PanoHead, and the weight of that term and the choice of wrong labels are ours.

Reference: Li et al., SphereHead, 2024, sec. 3; An et al., PanoHead, 2023; Chan et al., EG3D, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, softplus

from vultus.kernels.triplane_volume import VolumeDraws, VolumeSettings
from vultus.methods.spherehead.discriminator import Discriminator
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.nets.stylegan2.filters import resize_antialiased

__all__ = [
    "DensityDraws",
    "GenerationDraws",
    "ObjectiveConfig",
    "blur_images",
    "density_losses",
    "discriminator_losses",
    "generate_batch",
    "generator_losses",
    "gradient_penalties",
    "mismatched_labels",
    "noisy_volume",
    "real_images",
]

_MONOTONIC_WEIGHT = 10.0
_PLANE_STEPS = 256
"""Published length of a monotonic step, as a share of the box."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and schedules; fades are counted in images seen."""

    pose_swap: float | None = 0.7
    """Final share of heads that are conditioned on another camera than the rendered one; None
    conditions on zeros."""
    pose_swap_fade: int = 1_000_000
    """Until then the share falls from 1."""
    background_swap: float = 0.2
    """Share of heads with the background of another."""
    offset_weight: float = 10.0
    """Of the squared mean camera offset."""
    r1_weight: float = 1.0
    mask_r1_weight: float = 1.0
    parsing_r1_weight: float = 1.0
    mismatch_weight: float = 1.0
    """Of real images with wrong labels. Ours: the published weight is not known."""
    blur_sigma: float = 10.0
    """Of images at the start, in pixels."""
    blur_fade: int = 200_000
    noise_fade: int = 200_000
    """Until then noise on the density falls from 1 to 0; 0 for none."""
    density_kind: Literal["smooth", "monotonic", "monotonic_detached"] = "smooth"
    """Monotonic: density must not fall towards the back of the head."""
    density_weight: float = 0.0
    """PanoHead and SphereHead train without; EG3D with 0.25."""
    density_distance: float = 0.004
    """Between compared points, in world units."""


class GenerationDraws(NamedTuple):
    """Uniform numbers that decide on swaps, and those of the rays."""

    pose_swap: Float[Tensor, " b"]
    background_swap: Float[Tensor, " b"]
    volume: VolumeDraws


class DensityDraws(NamedTuple):
    """Random numbers of one comparison of densities."""

    pose_swap: Float[Tensor, " b"]
    points: Float[Tensor, "b p 3"]
    """Uniform in [0, 1)."""
    displacements: Float[Tensor, "b p 3"]
    """Normal; ignored by the monotonic comparison."""
    noise: Float[Tensor, "b 2*p"] | None = None


def noisy_volume(
    volume: VolumeSettings, config: ObjectiveConfig, images_seen: int
) -> VolumeSettings:
    """Settings of the rays with the noise of a moment."""
    noise = 1.0 - _progress(images_seen, config.noise_fade)
    return replace(volume, density_noise=noise)


def generate_batch(
    generator: Generator,
    z: Float[Tensor, "b z"],
    labels: Float[Tensor, "b 25"],
    draws: GenerationDraws,
    config: ObjectiveConfig,
    images_seen: int,
    neural_size: int,
    layer_noise: torch.Generator | None = None,
) -> tuple[HeadImages, Float[Tensor, "b 3"]]:
    """Generate heads for training: images, and camera offsets.

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
    ws = _styles(generator, z, labels, draws.pose_swap, config, images_seen)
    background_ws = _swap(ws, draws.background_swap, config.background_swap)
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
    return images, offsets


def real_images(
    image: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 _h _w"],
    config: ObjectiveConfig,
    images_seen: int,
    neural_size: int,
) -> HeadImages:
    """Bring real images to what a discriminator sees, but for the blur of the full image."""
    raw = resize_antialiased(image, neural_size)
    raw = blur_images(raw, _blur(config, images_seen))
    return HeadImages(image, raw, resize_antialiased(mask, neural_size))


def generator_losses(
    discriminator: Discriminator,
    images: HeadImages,
    offsets: Float[Tensor, "b 3"],
    labels: Float[Tensor, "b 25"],
    config: ObjectiveConfig,
    images_seen: int,
) -> dict[str, Tensor]:
    """Weighted terms of the generator.

    Args:
        discriminator: The judge.
        images: Of ``generate_batch``.
        offsets: Of ``generate_batch``.
        labels: The cameras without offset, which is what the judge is told.
        config: Weights.
        images_seen: Moment of the training.
    """
    logits = discriminator(_blurred(images, config, images_seen), labels)
    drift = offsets.mean(dim=0).square().sum()
    return {"adversarial": softplus(-logits).mean(), "camera_offset": config.offset_weight * drift}


def discriminator_losses(
    discriminator: Discriminator,
    fake: HeadImages,
    fake_labels: Float[Tensor, "b 25"],
    real: HeadImages,
    real_labels: Float[Tensor, "c 25"],
    wrong_labels: Float[Tensor, "c 25"] | None,
    config: ObjectiveConfig,
    images_seen: int,
) -> dict[str, Tensor]:
    """Weighted terms of the discriminator.

    Args:
        discriminator: The judge.
        fake: Generated images; nothing flows back to them.
        fake_labels: Their cameras without offset.
        real: Of ``real_images``.
        real_labels: Their cameras.
        wrong_labels: Cameras that the real images do not have; None leaves that term out.
        config: Weights.
        images_seen: Moment of the training.
    """
    fake, real = (_blurred(images, config, images_seen) for images in (fake, real))
    losses = {
        "fake": softplus(discriminator(fake, fake_labels)).mean(),
        "real": softplus(-discriminator(real, real_labels)).mean(),
    }
    if wrong_labels is not None and config.mismatch_weight > 0.0:
        mismatch = softplus(discriminator(real, wrong_labels)).mean()
        losses["mismatch"] = config.mismatch_weight * mismatch
    return losses


def gradient_penalties(
    discriminator: Discriminator,
    real: HeadImages,
    labels: Float[Tensor, "b 25"],
    config: ObjectiveConfig,
    images_seen: int,
) -> dict[str, Tensor]:
    """Weighted squared gradients of the judgement of real images.

    Reference: Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018.
    """
    names = ("image", "raw_image", "mask", "parsing")
    leaves = {
        name: value.detach().requires_grad_()
        for name in names
        if (value := getattr(real, name)) is not None
    }
    logits = discriminator(_blurred(replace(real, **leaves), config, images_seen), labels)
    inputs: Sequence[Tensor] = list(leaves.values())
    gradients = torch.autograd.grad(
        logits.sum(), inputs, create_graph=True, allow_unused=True, materialize_grads=True
    )
    squares = {
        name: gradient.square().sum(dim=(1, 2, 3)).mean()
        for name, gradient in zip(leaves, gradients, strict=True)
    }
    weights = {"mask": config.mask_r1_weight, "parsing": config.parsing_r1_weight}
    return {
        f"r1_{name}": 0.5 * weights.get(name, config.r1_weight) * value
        for name, value in squares.items()
    }


def density_losses(
    generator: Generator,
    z: Float[Tensor, "b z"],
    labels: Float[Tensor, "b 25"],
    draws: Sequence[DensityDraws],
    config: ObjectiveConfig,
    images_seen: int,
    layer_noise: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Weighted differences of the density between neighbouring points.

    Args:
        generator: What is regularised.
        z: Latents.
        labels: Cameras that condition it.
        draws: Of the monotonic comparison if the config has it, and of the smooth one after that.
        config: Weights.
        images_seen: Moment of the training.
        layer_noise: Draws the noise of the layers; None for PyTorch's global generator.
    """
    volume = noisy_volume(generator.config.volume, config, images_seen)
    step = volume.box_size / _PLANE_STEPS

    def densities(draw: DensityDraws, displacements: Tensor) -> tuple[Tensor, Tensor]:
        ws = _styles(generator, z, labels, draw.pose_swap, config, images_seen)
        points = 2.0 * draw.points - 1.0
        points = torch.cat([points, points + displacements], dim=1)
        planes = generator.planes(ws, "random", layer_noise)
        noise = draw.noise
        _, density = generator.query(planes, points, is_cropped=False, noise=noise, volume=volume)
        first, second = density.chunk(2, dim=1)
        return first, second

    losses = {}
    distance = config.density_distance
    if config.density_kind != "smooth":
        front, behind = densities(draws[0], z.new_tensor([0.0, 0.0, -step]))
        if config.density_kind == "monotonic_detached":
            front = front.detach()
        losses["monotonic"] = _MONOTONIC_WEIGHT * (front - behind).relu().mean()
        distance = step
    first, second = densities(draws[-1], draws[-1].displacements * distance)
    losses["smooth_density"] = config.density_weight * (first - second).abs().mean()
    return losses


def mismatched_labels(
    labels: Float[Tensor, "b 25"], generator: torch.Generator
) -> Float[Tensor, "b 25"]:
    """Give every image the label of another one of the batch, by a random shift.

    Raises:
        ValueError: If there is no other.
    """
    if len(labels) < 2:
        raise ValueError(f"labels must hold at least 2 cameras to mismatch, got {len(labels)}")
    shift = torch.randint(1, len(labels), (), generator=generator, device=generator.device)
    return labels.roll(int(shift), dims=0)


def blur_images(x: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Blur with the kernel 2^-(x / sigma)², black outside; nothing for a sigma below 1/3."""
    half = math.floor(3.0 * sigma)
    if half == 0:
        return x
    offsets = torch.arange(-half, half + 1, device=x.device, dtype=x.dtype)
    kernel = (-(offsets / sigma).square()).exp2()
    kernel = kernel / kernel.sum()
    flat = x.flatten(0, 1)[:, None]
    flat = conv2d(flat, kernel[None, None, :, None], padding=(half, 0))
    flat = conv2d(flat, kernel[None, None, None], padding=(0, half))
    return flat.view_as(x)


def _styles(
    generator: Generator,
    z: Tensor,
    labels: Tensor,
    uniforms: Tensor,
    config: ObjectiveConfig,
    images_seen: int,
) -> Float[Tensor, "b n w"]:
    if config.pose_swap is None:
        return generator.map(z, torch.zeros_like(labels))
    progress = _progress(images_seen, config.pose_swap_fade)
    share = (1.0 - progress) + progress * config.pose_swap
    return generator.map(z, _swap(labels, uniforms, share))


def _swap(x: Float[Tensor, "b ..."], uniforms: Tensor, share: float) -> Tensor:
    """Give a share of the batch what its predecessor has."""
    is_swapped = (uniforms < share).view(-1, *[1] * (x.ndim - 1))
    return torch.where(is_swapped, x.roll(1, 0), x)


def _progress(images_seen: int, fade: int) -> float:
    return min(images_seen / fade, 1.0) if fade else 1.0


def _blur(config: ObjectiveConfig, images_seen: int) -> float:
    return config.blur_sigma * (1.0 - _progress(images_seen, config.blur_fade))


def _blurred(images: HeadImages, config: ObjectiveConfig, images_seen: int) -> HeadImages:
    return replace(images, image=blur_images(images.image, _blur(config, images_seen)))

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
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, softplus

from vultus.methods.adversarial import PhaseResult
from vultus.methods.spherehead.config import ObjectiveConfig
from vultus.methods.spherehead.generation import conditioned_styles, noisy_volume
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.judging import Judge

__all__ = [
    "DensityDraws",
    "density_losses",
    "discriminator_losses",
    "generator_losses",
    "gradient_penalties",
    "mismatched_labels",
    "turned_away_labels",
]

_MONOTONIC_WEIGHT = 10.0
_PLANE_STEPS = 256
"""Published length of a monotonic step, as a share of the box."""
_FORWARD = slice(2, 11, 4)
"""Of a label: the viewing direction. A list of places would be copied to a GPU in every step."""


class DensityDraws(NamedTuple):
    """Random numbers of one comparison of densities."""

    pose_swap: Float[Tensor, " b"]
    points: Float[Tensor, "b p 3"]
    """Uniform in [0, 1)."""
    displacements: Float[Tensor, "b p 3"]
    """Normal; ignored by the monotonic comparison."""
    noise: Float[Tensor, "b 2*p"] | None = None


def generator_losses(
    judge: Judge,
    images: HeadImages,
    offsets: Float[Tensor, "b 3"],
    labels: Float[Tensor, "b 25"],
) -> PhaseResult:
    """Weighted terms of the generator.

    Args:
        judge: The discriminator at a moment.
        images: Of ``generate_batch``.
        offsets: Of ``generate_batch``.
        labels: The cameras without offset, which is what the judge is told.
    """
    logits = judge(images, labels)
    drift = offsets.mean(dim=0).square().sum()
    losses = {
        "adversarial": softplus(-logits).mean(),
        "camera_offset": judge.config.offset_weight * drift,
    }
    return PhaseResult(losses, {})


def discriminator_losses(
    judge: Judge,
    fake: HeadImages,
    fake_labels: Float[Tensor, "b 25"],
    real: HeadImages,
    real_labels: Float[Tensor, "c 25"],
    wrong_labels: Float[Tensor, "c 25"] | None,
) -> PhaseResult:
    """Weighted terms of the discriminator; mean logits and signs as records.

    Args:
        judge: The discriminator at a moment.
        fake: Generated images; nothing flows back to them.
        fake_labels: Their cameras without offset.
        real: Of ``real_images``.
        real_labels: Their cameras.
        wrong_labels: Cameras that the real images do not have; None leaves that term out.
    """
    weight = judge.config.mismatch_weight
    logits = {"fake": judge(fake, fake_labels)}
    features = judge.features(real)
    logits["real"] = judge.compare(features, real_labels)
    losses = {"fake": softplus(logits["fake"]).mean(), "real": softplus(-logits["real"]).mean()}
    if wrong_labels is not None and weight > 0.0:
        logits["mismatch"] = judge.compare(features, wrong_labels)
        losses["mismatch"] = weight * softplus(logits["mismatch"]).mean()
    records = {f"logit.{name}": value.detach().mean() for name, value in logits.items()}
    records |= {f"sign.{name}": value.detach().sign().mean() for name, value in logits.items()}
    return PhaseResult(losses, records)


def gradient_penalties(
    judge: Judge, real: HeadImages, labels: Float[Tensor, "b 25"]
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
    logits = judge(replace(real, **leaves), labels)
    inputs: Sequence[Tensor] = list(leaves.values())
    gradients = torch.autograd.grad(
        logits.sum(), inputs, create_graph=True, allow_unused=True, materialize_grads=True
    )
    squares = {
        name: gradient.square().sum(dim=(1, 2, 3)).mean()
        for name, gradient in zip(leaves, gradients, strict=True)
    }
    config = judge.config
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
        ws = conditioned_styles(generator, z, labels, draw.pose_swap, config, images_seen)
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
        # (0, 0, -step); a tensor of a list would be copied from the host, which waits for a GPU.
        front, behind = densities(draws[0], pad(z.new_full((1,), -step), (2, 0)))
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
    places = torch.arange(len(labels), device=labels.device) - shift
    return labels[places % len(labels)]


def turned_away_labels(
    labels: Float[Tensor, "b 25"], candidates: Float[Tensor, "b k 25"], angle: float
) -> Float[Tensor, "b 25"]:
    """Give every image the first candidate that looks from elsewhere.

    Args:
        labels: Right cameras.
        candidates: Drawn from all cameras.
        angle: Least angle between viewing directions, in degrees; where no candidate reaches it,
            the farthest is taken.
    """
    forward, others = labels[:, _FORWARD], candidates[:, :, _FORWARD]
    cosine = (others * forward[:, None]).sum(dim=2)
    is_far = cosine <= math.cos(math.radians(angle))
    chosen = torch.where(is_far.any(dim=1), is_far.int().argmax(dim=1), cosine.argmin(dim=1))
    return candidates[torch.arange(len(labels), device=labels.device), chosen]

"""Invert a photo: find the styles of a head that looks like it, then tune the generator there.

Symbols: w is one style; w+ has one for every layer; the *pivot* is what the first stage finds.

Reference: Abdal et al., Image2StyleGAN, 2019; Karras et al., Analyzing and Improving the Image
Quality of StyleGAN, 2020, appendix D; Roich et al., Pivotal Tuning, 2021; spec section 7 for the
numbers of the release.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import avg_pool2d

from vultus.core.seeding import torch_generator
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.spherehead.generator import Generator
from vultus.nets.stylegan2.synthesis import SynthesisLayer

__all__ = [
    "Inversion",
    "InversionConfig",
    "InversionState",
    "StyleStatistics",
    "find_pivot",
    "moved_label",
    "noise_correlation",
    "style_statistics",
    "tune_generator",
    "with_noise",
]

Distance = Callable[[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]], Float[Tensor, ""]]
"""Compares images in [0, 1]."""

_STATISTICS_SEED = 123
_STATISTICS_CHUNK = 1000
_SMALLEST_NOISE = 8


@dataclass(frozen=True)
class InversionConfig:
    """How a photo is inverted; defaults are those of the release."""

    space: Literal["w+", "w"] = "w+"
    """w+: a style of its own for every layer; w: one for all, farther from the photo but closer to
    what the generator has learned."""
    steps: int = 500
    """Of the search for styles."""
    tuning_steps: int = 350
    """Of the tuning of the generator's weights; 0 leaves them."""
    learning_rate: float = 0.1
    """Of the styles, at its highest."""
    warm_up: float = 0.05
    """Share of the steps in which the rate rises."""
    cool_down: float = 0.25
    """Share of the steps in which it falls."""
    exploration: float = 0.05
    """Noise on the styles at the start, in standard deviations of styles..."""
    exploration_end: float = 0.75
    """...which is gone after this share of the steps."""
    pixel_weight: float = 0.1
    """Of the mean squared difference of colours in [-1, 1]."""
    distance_weight: float = 1.0
    """Of the perceptual distance."""
    style_weight: float = 1.0
    """Of the mean squared distance from the mean style."""
    optimize_noise: bool = False
    """Find the noise of the layers, too."""
    noise_weight: float = 1e5
    """Of the correlations of that noise, which would otherwise hold the picture."""
    tuning_rate: float = 3e-4
    """Learning rate of the generator's weights."""
    camera_rate: float = 0.0
    """Learning rate of the camera's turn (radians) and shift (world units) during the search; 0
    trusts the label."""
    mean_samples: int = 10_000
    """Styles that mean and deviation are measured on."""
    nearest: float | None = None
    """Nearest sample of the rays, in world units; default: that of the training. The release
    inverts with 2.35 instead of 2.25."""

    def __post_init__(self) -> None:
        """Reject what cannot be meant."""
        for name in ("steps", "mean_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.tuning_steps < 0:
            raise ValueError(f"tuning_steps must not be negative, got {self.tuning_steps}")
        for name in ("learning_rate", "tuning_rate"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warm_up", "cool_down", "exploration_end"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in (
            "exploration", "pixel_weight", "distance_weight", "style_weight", "noise_weight",
            "camera_rate",
        ):  # fmt: skip
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class StyleStatistics:
    """Of one style under frontal conditioning."""

    mean: Float[Tensor, " w"]
    deviation: float
    """Root of the mean squared distance from the mean."""


@dataclass(frozen=True)
class Inversion:
    """A head that looks like the photo."""

    ws: Float[Tensor, "1 n w"]
    label: Float[Tensor, "1 25"]
    """The photo's camera, refined if that was asked for."""
    noise: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    """Noise of the layers by the names of their buffers, if it was optimised."""


@dataclass(frozen=True)
class InversionState:
    """After a step, for logs and films."""

    step: int
    """Counted from 1 in each stage."""
    losses: dict[str, float]
    image: Float[Tensor, "1 3 h w"]
    """In [0, 1]."""
    found: Inversion


def style_statistics(
    generator: Generator, label: Float[Tensor, "1 25"], count: int
) -> StyleStatistics:
    """Measure mean and deviation of styles, on the latents that the release measures them on."""
    latents = np.random.RandomState(_STATISTICS_SEED).randn(count, generator.config.z_dim)
    z = torch.from_numpy(latents.astype(np.float32)).to(label.device)
    with torch.no_grad():
        parts = [
            generator.map(rows, label.expand(len(rows), -1))[:, 0]
            for rows in z.split(_STATISTICS_CHUNK)
        ]
    w = torch.cat(parts)
    mean = w.mean(dim=0)
    return StyleStatistics(mean, float((w - mean).square().sum(dim=1).mean().sqrt()))


def find_pivot(
    generator: Generator,
    target: Float[Tensor, "1 3 s s"],
    label: Float[Tensor, "1 25"],
    statistics: StyleStatistics,
    config: InversionConfig,
    distance: Distance,
    *,
    mask: Float[Tensor, "1 1 s s"] | None = None,
    seed: int = 0,
) -> Iterator[InversionState]:
    """Search for styles; yields the state after every step.

    Args:
        generator: Stays as it is, but for its noise buffers while noise is optimised.
        target: The photo in [0, 1], at the size that the generator makes.
        label: Its camera.
        statistics: Of the generator's styles.
        config: All settings.
        distance: Perceptual distance.
        mask: Where the photo counts; None everywhere.
        seed: Of exploration, rays and initial noise.
    """
    random = torch_generator(seed, "spherehead.inversion", label.device)
    num_styles = generator.num_ws if config.space == "w+" else 1
    styles = Parameter(statistics.mean.expand(1, num_styles, -1).clone())
    motion = Parameter(label.new_zeros(6))
    layers = _noisy_layers(generator) if config.optimize_noise else {}
    stored = {name: layer.noise for name, layer in layers.items()}
    # Not as parameters: modules refuse those in place of buffers.
    noise = {
        name: torch.randn(each.shape, generator=random, device=label.device).requires_grad_()
        for name, each in stored.items()
    }
    for name, layer in layers.items():
        layer.noise = noise[name]
    groups = [{"params": [styles, *noise.values()]}]
    if config.camera_rate > 0.0:
        groups.append({"params": [motion]})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.999))
    try:
        for step in range(1, config.steps + 1):
            progress = (step - 1) / config.steps
            ramp = _ramp(progress, config)
            for group, rate in zip(
                optimizer.param_groups, (config.learning_rate, config.camera_rate), strict=False
            ):
                group["lr"] = rate * ramp
            ws = styles.expand(1, generator.num_ws, -1)
            drawn = torch.randn(styles.shape, generator=random, device=ws.device)
            explored = ws + drawn * (statistics.deviation * _exploration(progress, config))
            image = _render(generator, explored, moved_label(label, motion), config, random)
            terms = _differences(image, target, mask, config, distance)
            terms["style"] = config.style_weight * (ws - statistics.mean).square().mean()
            if noise:
                correlations = torch.stack([noise_correlation(each) for each in noise.values()])
                terms["noise"] = config.noise_weight * correlations.sum()
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            _normalize(list(noise.values()))
            with torch.no_grad():
                found = Inversion(
                    styles.detach().expand(1, generator.num_ws, -1).clone(),
                    moved_label(label, motion).detach(),
                    {name: each.detach().clone() for name, each in noise.items()},
                )
            yield InversionState(step, _values(terms), image.detach(), found)
    finally:
        for name, layer in layers.items():
            layer.noise = stored[name]


def tune_generator(
    generator: Generator,
    found: Inversion,
    target: Float[Tensor, "1 3 s s"],
    config: InversionConfig,
    distance: Distance,
    *,
    mask: Float[Tensor, "1 1 s s"] | None = None,
    seed: int = 0,
) -> tuple[Generator, Iterator[InversionState]]:
    """Tune a copy of the generator so that the pivot shows the photo.

    Returns:
        The copy, which holds the found noise, and an iterator that trains it by a step at a time.
    """
    tuned = with_noise(generator, found).requires_grad_(True)

    def train() -> Iterator[InversionState]:
        random = torch_generator(seed, "spherehead.tuning", found.ws.device)
        optimizer = torch.optim.Adam(tuned.parameters(), lr=config.tuning_rate)
        for step in range(1, config.tuning_steps + 1):
            image = _render(tuned, found.ws, found.label, config, random)
            terms = _differences(image, target, mask, config, distance)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            yield InversionState(step, _values(terms), image.detach(), found)
        tuned.requires_grad_(False)

    return tuned, train()


def with_noise(generator: Generator, found: Inversion) -> Generator:
    """A copy of the generator with the noise that was found, if any was."""
    result = copy.deepcopy(generator)
    for name, layer in _noisy_layers(result).items():
        if name in found.noise:
            layer.noise = found.noise[name].clone()
    return result


def moved_label(label: Float[Tensor, "1 25"], motion: Float[Tensor, " 6"]) -> Float[Tensor, "1 25"]:
    """Turn the camera about the world's origin (axis-angle), then shift it; differentiable."""
    to_world = label[:, :16].unflatten(1, (4, 4))
    rotation = axis_angle_to_matrix(motion[:3])
    top = rotation @ to_world[:, :3] + torch.cat([motion.new_zeros(3, 3), motion[3:, None]], dim=1)
    moved = torch.cat([top, to_world[:, 3:]], dim=1)
    return torch.cat([moved.flatten(1), label[:, 16:]], dim=1)


def noise_correlation(noise: Float[Tensor, "h w"]) -> Float[Tensor, ""]:
    """Squared correlations of neighbours, of the noise and of its halved sizes.

    Reference: Karras et al. 2020, appendix D.
    """
    level = noise[None, None]
    total = noise.new_zeros(())
    while True:
        for axis in (2, 3):
            total = total + (level * level.roll(1, axis)).mean().square()
        if level.shape[-1] <= _SMALLEST_NOISE:
            return total
        level = avg_pool2d(level, 2)


def _render(
    generator: Generator,
    ws: Tensor,
    label: Tensor,
    config: InversionConfig,
    random: torch.Generator,
) -> Float[Tensor, "1 3 s s"]:
    """The head in [0, 1], unclamped, with rays of its own in each step."""
    volume = _volume(generator.config.volume, config)
    draws = generator.draw(1, random, volume=volume)
    images = generator.render(generator.planes(ws, "const"), ws, label, draws, volume=volume)
    return 0.5 * images.image + 0.5


def _volume(volume: VolumeSettings, config: InversionConfig) -> VolumeSettings:
    volume = replace(volume, density_noise=0.0)
    if config.nearest is None:
        return volume
    if volume.limits == "box":
        raise ValueError("nearest must be left out: rays of this generator begin at its box")
    return replace(volume, limits=(config.nearest, volume.limits[1]))


def _differences(
    image: Tensor,
    target: Tensor,
    mask: Tensor | None,
    config: InversionConfig,
    distance: Distance,
) -> dict[str, Tensor]:
    """Weighted terms; outside of the mask both images are black."""
    if mask is not None:
        image, target = image * mask, target * mask
    return {
        "pixels": config.pixel_weight * (2.0 * (image - target)).square().mean(),
        "distance": config.distance_weight * distance(image, target),
    }


def _noisy_layers(generator: Generator) -> dict[str, SynthesisLayer]:
    """Layers of the backbone, by the names of their noise buffers."""
    return {
        f"backbone.synthesis.{name}.noise": module
        for name, module in generator.backbone.synthesis.named_modules()
        if isinstance(module, SynthesisLayer)
    }


@torch.no_grad()
def _normalize(noise: Sequence[Tensor]) -> None:
    """Zero mean, unit square."""
    for each in noise:
        each -= each.mean()
        each *= each.square().mean().rsqrt()


def _ramp(progress: float, config: InversionConfig) -> float:
    """Share of the learning rate: linear at the start, a cosine at the end."""
    fall = min(1.0, (1.0 - progress) / config.cool_down) if config.cool_down else 1.0
    rise = min(1.0, progress / config.warm_up) if config.warm_up else 1.0
    return rise * (0.5 - 0.5 * math.cos(math.pi * fall))


def _exploration(progress: float, config: InversionConfig) -> float:
    if config.exploration_end == 0.0:
        return 0.0
    return config.exploration * max(0.0, 1.0 - progress / config.exploration_end) ** 2


def _values(terms: dict[str, Tensor]) -> dict[str, float]:
    values = torch.stack([term.detach() for term in terms.values()]).tolist()
    return dict(zip(terms, values, strict=True))

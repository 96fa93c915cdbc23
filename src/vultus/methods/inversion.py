"""Invert a photo: find what a generator needs to make a head like it, then tune the generator.

What is found are styles, and *extras* that a method adds: noise of layers, or the light. Symbols: w
is one style; w+ has one for every layer; the *pivot* is what the first stage finds.

Reference: Abdal et al., Image2StyleGAN, 2019; Karras et al., Analyzing and Improving the Image
Quality of StyleGAN, 2020, appendix D; Roich et al., Pivotal Tuning, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import Parameter

from vultus.core.seeding import torch_generator
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.optim.backward import backward_of_sum

__all__ = [
    "Distance",
    "Extras",
    "Inversion",
    "InversionConfig",
    "InversionState",
    "Invertible",
    "StyleInvertible",
    "StyleStatistics",
    "find_pivot",
    "moved_label",
    "style_statistics",
    "tune_generator",
]

Distance = Callable[[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]], Float[Tensor, ""]]
"""Compares images in [0, 1]."""
Extras = Mapping[str, Tensor]
"""What is found beside styles, by name."""

_STATISTICS_SEED = 123
_STATISTICS_CHUNK = 1000


@runtime_checkable
class Invertible(Protocol):
    """A generator as inversion sees it."""

    @property
    def network(self) -> nn.Module:
        """What the second stage tunes; its parameters need no gradients before."""
        ...

    @property
    def num_ws(self) -> int:
        """Styles per head."""
        ...

    @property
    def z_dim(self) -> int:
        """Numbers of a latent."""
        ...

    @property
    def extra_rate(self) -> float | None:
        """Learning rate of the extras at its highest; None for that of the styles."""
        ...

    def style(self, z: Float[Tensor, "b z"], labels: Float[Tensor, "b 25"]) -> Float[Tensor, "b w"]:
        """One style for each latent, not truncated."""
        ...

    def first_extras(self, random: torch.Generator) -> dict[str, Tensor]:
        """What the search begins with, on the device."""
        ...

    def render(
        self,
        ws: Float[Tensor, "1 n w"],
        label: Float[Tensor, "1 25"],
        extras: Extras,
        random: torch.Generator,
    ) -> Float[Tensor, "1 3 s s"]:
        """The head in [0, 1], unclamped; differentiable in everything."""
        ...

    def penalties(self, extras: Extras) -> dict[str, Float[Tensor, ""]]:
        """Weighted terms that keep extras likely."""
        ...

    def constrain(self, extras: Extras) -> None:
        """Bring extras back, in place, to what they may be after a step."""
        ...

    def copy(self, extras: Extras) -> Invertible:
        """A copy that can be tuned, with all extras in it that belong to its weights."""
        ...


class StyleInvertible:
    """The part of ``Invertible`` that is the same for all networks of styles."""

    network: Any
    """Maps latents and cameras to styles; has ``num_ws`` and ``config.z_dim``."""

    @property
    def num_ws(self) -> int:
        """Styles per head."""
        return self.network.num_ws

    @property
    def z_dim(self) -> int:
        """Numbers of a latent."""
        return self.network.config.z_dim

    def style(self, z: Float[Tensor, "b z"], labels: Float[Tensor, "b 25"]) -> Float[Tensor, "b w"]:
        """One style for each latent, not truncated."""
        return self.network.map(z, labels)[:, 0]


@dataclass(frozen=True)
class InversionConfig:
    """How a photo is inverted; defaults are those of SphereHead's release."""

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
    tuning_rate: float = 3e-4
    """Learning rate of the generator's weights."""
    camera_rate: float = 0.0
    """Learning rate of the camera's turn (radians) and shift (world units) during the search; 0
    trusts the label."""
    mean_samples: int = 10_000
    """Styles that mean and deviation are measured on."""

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
            "exploration", "pixel_weight", "distance_weight", "style_weight", "camera_rate",
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
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What the method has found beside styles, by name."""

    def to(self, device: torch.device) -> Inversion:
        """The same on a device."""
        extras = {name: each.to(device) for name, each in self.extras.items()}
        return Inversion(self.ws.to(device), self.label.to(device), extras)


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
    generator: Invertible, label: Float[Tensor, "1 25"], count: int
) -> StyleStatistics:
    """Measure mean and deviation of styles, on the latents that the release measures them on."""
    latents = np.random.RandomState(_STATISTICS_SEED).randn(count, generator.z_dim)
    z = torch.from_numpy(latents.astype(np.float32)).to(label.device)
    with torch.no_grad():
        w = torch.cat(
            [
                generator.style(rows, label.expand(len(rows), -1))
                for rows in z.split(_STATISTICS_CHUNK)
            ]
        )
    mean = w.mean(dim=0)
    return StyleStatistics(mean, float((w - mean).square().sum(dim=1).mean().sqrt()))


def find_pivot(
    generator: Invertible,
    target: Float[Tensor, "1 3 s s"],
    label: Float[Tensor, "1 25"],
    statistics: StyleStatistics,
    config: InversionConfig,
    distance: Distance,
    *,
    mask: Float[Tensor, "1 1 s s"] | None = None,
    seed: int = 0,
) -> Iterator[InversionState]:
    """Search for styles and extras; yields the state after every step.

    Args:
        generator: Stays as it is.
        target: The photo in [0, 1], at the size that the generator makes.
        label: Its camera.
        statistics: Of the generator's styles.
        config: All settings.
        distance: Perceptual distance.
        mask: Where the photo counts; None everywhere.
        seed: Of exploration, rays and first extras.
    """
    random = torch_generator(seed, "inversion.search", label.device)
    num_styles = generator.num_ws if config.space == "w+" else 1
    styles = Parameter(statistics.mean.expand(1, num_styles, -1).clone())
    extras = {name: Parameter(each) for name, each in generator.first_extras(random).items()}
    motion = Parameter(label.new_zeros(6))
    rates = _rates(config, generator.extra_rate, styles, list(extras.values()), motion)
    optimizer = torch.optim.Adam([{"params": group} for group, _ in rates], betas=(0.9, 0.999))
    for step in range(1, config.steps + 1):
        progress = (step - 1) / config.steps
        for group, (_, rate) in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _ramp(progress, config)
        ws = styles.expand(1, generator.num_ws, -1)
        drawn = torch.randn(styles.shape, generator=random, device=ws.device)
        explored = ws + drawn * (statistics.deviation * _exploration(progress, config))
        image = generator.render(explored, moved_label(label, motion), extras, random)
        terms = _differences(image, target, mask, config, distance)
        terms["style"] = config.style_weight * (ws - statistics.mean).square().mean()
        terms |= generator.penalties(extras)
        optimizer.zero_grad(set_to_none=True)
        backward_of_sum(terms)
        optimizer.step()
        with torch.no_grad():
            generator.constrain(extras)
            found = Inversion(
                styles.detach().expand(1, generator.num_ws, -1).clone(),
                moved_label(label, motion).detach(),
                {name: each.detach().clone() for name, each in extras.items()},
            )
        yield InversionState(step, _values(terms), image.detach(), found)


def tune_generator(
    generator: Invertible,
    found: Inversion,
    target: Float[Tensor, "1 3 s s"],
    config: InversionConfig,
    distance: Distance,
    *,
    mask: Float[Tensor, "1 1 s s"] | None = None,
    seed: int = 0,
) -> tuple[Invertible, Iterator[InversionState]]:
    """Tune a copy of the generator so that the pivot shows the photo.

    Returns:
        The copy, and an iterator that trains it by a step at a time.
    """
    tuned = generator.copy(found.extras)
    tuned.network.requires_grad_(True)

    def train() -> Iterator[InversionState]:
        random = torch_generator(seed, "inversion.tuning", found.ws.device)
        optimizer = torch.optim.Adam(tuned.network.parameters(), lr=config.tuning_rate)
        for step in range(1, config.tuning_steps + 1):
            image = tuned.render(found.ws, found.label, found.extras, random)
            terms = _differences(image, target, mask, config, distance)
            optimizer.zero_grad(set_to_none=True)
            backward_of_sum(terms)
            optimizer.step()
            yield InversionState(step, _values(terms), image.detach(), found)
        tuned.network.requires_grad_(False)

    return tuned, train()


def moved_label(label: Float[Tensor, "1 25"], motion: Float[Tensor, " 6"]) -> Float[Tensor, "1 25"]:
    """Turn the camera about the world's origin (axis-angle), then shift it; differentiable."""
    to_world = label[:, :16].unflatten(1, (4, 4))
    rotation = axis_angle_to_matrix(motion[:3])
    top = rotation @ to_world[:, :3] + torch.cat([motion.new_zeros(3, 3), motion[3:, None]], dim=1)
    moved = torch.cat([top, to_world[:, 3:]], dim=1)
    return torch.cat([moved.flatten(1), label[:, 16:]], dim=1)


def _rates(
    config: InversionConfig,
    extra_rate: float | None,
    styles: Parameter,
    extras: list[Parameter],
    motion: Parameter,
) -> list[tuple[list[Parameter], float]]:
    """What is searched for, with learning rates."""
    rates = [([styles], config.learning_rate)]
    if extras:
        rates.append((extras, config.learning_rate if extra_rate is None else extra_rate))
    if config.camera_rate > 0.0:
        rates.append(([motion], config.camera_rate))
    return rates


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

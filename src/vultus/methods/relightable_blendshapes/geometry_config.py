"""Settings of the geometry stage. Defaults are our specification's [5.2, 6.2]; * marks FLARE's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.data.semantics import SEMANTIC_GROUPS
from vultus.methods.schedule import check_schedule
from vultus.optim.schedules import scale_steps

__all__ = [
    "PRESETS",
    "GeometryConfig",
    "GeometryModelConfig",
    "GeometryOptim",
    "GeometryWeights",
    "KeepWeights",
    "scale_schedule",
]


@dataclass(frozen=True)
class GeometryModelConfig:
    """What is fitted."""

    subdivisions: int = 1
    """How often triangles are split into four, once ``optim.refine_at`` has come."""
    light_height: int = 16
    """Rows of the environment map; it has twice as many columns."""
    has_specular: bool = False
    """Whether the surface shines while it is fitted, with the two values below."""
    roughness: float = 0.6
    """Roughness of all of the surface, 0 to 1."""
    specular: float = 0.3
    """Strength of its highlights, 0 to 1."""

    def __post_init__(self) -> None:
        """Reject what cannot be built."""
        if self.subdivisions < 0:
            raise ValueError(f"subdivisions must not be negative, got {self.subdivisions}")
        if self.light_height < 1:
            raise ValueError(f"light_height must be positive, got {self.light_height}")


@dataclass(frozen=True)
class KeepWeights:
    """How firmly vertices stay with the head model, by what they are part of."""

    skin: float = 1.0
    """Factor for vertices of the skin."""
    eyes: float = 100.0
    """Factor for the eyes."""
    brows: float = 1.0
    """Factor for the brows."""
    mouth: float = 100.0
    """Factor for the inside of the mouth."""
    cloth: float = 0.1
    """Factor for clothes."""
    hair: float = 0.01
    """Factor for the hair."""
    background: float = 1.0
    """What has no label."""
    lips: float = 10.0
    """Factor for the lips."""

    def of_labels(self, labels: Int[Tensor, " v"]) -> Float[Tensor, " v"]:
        """Look the weights up; labels are places in ``SEMANTIC_GROUPS``."""
        table = torch.tensor([getattr(self, group) for group in SEMANTIC_GROUPS])
        return table.to(labels.device)[labels]


@dataclass(frozen=True)
class GeometryWeights:
    """Weights of the loss terms; zero switches a term off. Lengths count in quarter metres."""

    photometric: float = 1.0
    """Compressed radiance inside the matte*."""
    silhouette: float = 2.0
    """Antialiased coverage against the matte*."""
    laplacian: float = 3000.0
    """Distance of offsets from the mean of their neighbours (of vertices*), for a mesh as dense as
    FLAME's; it grows with the square of the number of vertices."""
    normal_consistency: float = 0.1
    """Angles between neighbouring faces*, at rest."""
    refined_factor: float = 4.0
    """On the term above after subdivision*."""
    keep_head: float = 10.0
    """Squared offsets, weighted by what a vertex is part of."""
    keep: KeepWeights = field(default_factory=KeepWeights)
    albedo_smoothness: float = 0.01
    """Differences of albedo between neighbouring places."""
    white_light: float = 0.01
    """Colour of the light on a white surface*."""
    light_variation: float = 1e-3
    """Differences of neighbouring texels of the light."""
    perceptual: float = 0.1
    """Features of VGG16*, if its weights are imported."""
    perceptual_fade: int = 600
    """Step from which that weight falls as 1 / step*."""


@dataclass(frozen=True)
class GeometryOptim:
    """Adam's learning rates, and when what happens."""

    batch_size: int = 4
    """Images of a step."""
    offset_lr: float = 2.5e-4
    """Metres*."""
    refined_offset_factor: float = 0.75
    """On the rate above after subdivision."""
    albedo_lr: float = 1e-2
    """Of albedo."""
    light_lr: float = 1e-2
    """Of the environment map."""
    refine_at: int = 1000
    """Step after which the mesh is subdivided, from 1."""
    coarse_until: int = 1000
    """Up to this step pictures are smaller."""
    coarse_factor: int = 2
    """How many times."""
    decay_steps: int = 1000
    """At the end, in which all rates fall along a cosine to ``decay_to``."""
    decay_to: float = 0.1
    """Share of every rate that is left at the end."""
    observe_every: int = 500
    """Steps after which labels and colours of vertices are looked up anew."""
    observed_frames: int = 64
    """Random frames that are looked at for that."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        at_least_one = (
            "batch_size",
            "refine_at",
            "coarse_factor",
            "observe_every",
            "observed_frames",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def decay(self, step: int, steps: int) -> float:
        """Factor on all rates at a step of a stage of some length."""
        done = (step - (steps - self.decay_steps)) / max(self.decay_steps, 1)
        share = 0.5 + 0.5 * math.cos(math.pi * min(max(done, 0.0), 1.0))
        return self.decay_to + (1.0 - self.decay_to) * share


@dataclass(frozen=True)
class GeometryConfig:
    """Everything that decides how the personal mesh is fitted."""

    steps: int = 3000
    """Optimisation steps, each on a batch of images."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the last checkpoints stay; 0 keeps all."""
    log_every: int = 20
    """Steps between lines of the metrics log."""
    model: GeometryModelConfig = field(default_factory=GeometryModelConfig)
    losses: GeometryWeights = field(default_factory=GeometryWeights)
    optim: GeometryOptim = field(default_factory=GeometryOptim)

    def __post_init__(self) -> None:
        """Reject numbers of steps that cannot be meant."""
        check_schedule(self)

    @property
    def refines(self) -> bool:
        """Whether the mesh is ever subdivided."""
        return self.model.subdivisions > 0 and self.optim.refine_at < self.steps

    def is_refined(self, step: int) -> bool:
        """Whether the mesh is subdivided while this step runs (the first step is 1)."""
        return self.refines and step > self.optim.refine_at


_STANDARD = GeometryConfig()
PRESETS: dict[str, GeometryConfig] = {
    "standard": _STANDARD,
    "toy": replace(
        _STANDARD,
        steps=200,
        checkpoint_every=100,
        model=GeometryModelConfig(subdivisions=0, light_height=8),
        optim=replace(
            GeometryOptim(),
            offset_lr=5e-4,
            albedo_lr=3e-2,
            light_lr=3e-2,
            coarse_until=0,
            decay_steps=60,
            observe_every=100,
            observed_frames=16,
        ),
    ),
}
"""``toy`` takes less than a minute on two cores for pictures of a hundred pixels."""


def scale_schedule(config: GeometryConfig, factor: float) -> GeometryConfig:
    """Multiply every number of steps, so that a shorter fit takes the same course.

    Checkpoints and logs keep their intervals.

    Raises:
        ValueError: If the factor is not positive.
    """
    optim = config.optim
    return replace(
        config,
        steps=scale_steps(config.steps, factor),
        losses=replace(
            config.losses, perceptual_fade=scale_steps(config.losses.perceptual_fade, factor)
        ),
        optim=replace(
            optim,
            refine_at=scale_steps(optim.refine_at, factor),
            coarse_until=scale_steps(optim.coarse_until, factor),
            decay_steps=scale_steps(optim.decay_steps, factor),
            observe_every=scale_steps(optim.observe_every, factor),
        ),
    )

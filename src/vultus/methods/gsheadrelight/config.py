"""Settings of GSHeadRelight's networks, losses and training; defaults are the published ones."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Literal

from vultus.data.camera_labels import LABEL_DIM
from vultus.data.image_choice import ChoiceConfig
from vultus.data.image_set import AlphaUse
from vultus.data.light_labels import LIGHT_TERMS
from vultus.kernels.gaussian_raster import Backend
from vultus.methods.adversarial import AdversarialSettings
from vultus.nets.augmentation.control import AugmentationConfig
from vultus.nets.stylegan2.synthesis import resolutions

__all__ = [
    "LIGHT_TERMS",
    "SPLIT_COUNT",
    "STYLED_LEVELS",
    "Background",
    "DiscriminatorConfig",
    "GSHeadRelightConfig",
    "GeneratorConfig",
    "ObjectiveConfig",
    "Parity",
    "ViewConfig",
]

Background = Literal["black", "random", "scenery"]
Parity = Literal["official", "fixed"]

_MOST = sys.float_info.max
"""Bounds what only has to be finite."""

SPLIT_COUNT = 4
"""Children of a Gaussian."""
STYLED_LEVELS = 2
"""Levels after the first whose points see neighbours and styles; later ones see siblings only."""


def _check_label_dim(label_dim: int) -> None:
    if label_dim != LABEL_DIM:
        raise ValueError(f"label_dim must be {LABEL_DIM}, got {label_dim}")


def _check_range(name: str, value: float | int, least: float, most: float) -> None:
    if least <= value <= most:
        return
    rule = f"at least {least:g} and finite" if most == _MOST else f"{least:g} to {most:g}"
    raise ValueError(f"{name} must be {rule}, got {value}")


@dataclass(frozen=True)
class GeneratorConfig:
    """What a generator is made of."""

    z_dim: int = 512
    """Numbers of a latent."""
    label_dim: int = LABEL_DIM
    """Numbers of a camera label."""
    w_dim: int = 512
    """Numbers of a style."""
    mapping_layers: int = 2
    """From latent and label to style."""
    num_points: int = 256
    """Gaussians of the first level; every level has four times as many as the one before."""
    channels: tuple[int, ...] = (512, 512, 512, 256, 128, 128, 128)
    """Features of a point before the first level and after each; one less is the number of
    levels."""
    transformer_layers: int = 6
    """Of the first level."""
    attention_heads: int = 8
    """Of the first level."""
    num_neighbors: int = 16
    """Most similar points that a point of the second and third level sees."""
    table_size: int = 512
    """Entries of the position tables along an axis."""
    light_channels: Literal[1, 3] = 1
    """Transfer vectors of a Gaussian: one for all colours, or one for each."""
    background_points: int = 2000
    """Coarse Gaussians behind the head; 0 for no background."""
    background_channels: int = 128
    """Features of a point of the background."""
    image_size: int = 512
    """Side of the training images."""
    detail: int | None = None
    """Gaussians that are not larger than 1 / detail pass their size on to their children, which
    may still choose to be smaller; None for the image size."""
    label_scale: float = 1.0
    """Factor of the label that conditions the mapping."""
    is_conditioned: bool = True
    """Without it the mapping sees a label of zeros."""
    parity: Parity = "fixed"
    """``"official"`` repeats slips of the release that its checkpoints were trained with: cameras
    with a mirrored sideways shift and one field of view for all, position tables that are looked up
    across their only axis, culling and gradients of the published rasterizer, and depth that is not
    divided by alpha."""
    backend: Backend = "auto"
    """Of the rasterizer."""
    gradient_precision: Literal["single", "bfloat16"] = "single"
    """On a GPU: between the layers of the levels after the third, where gradients are asked for;
    ``bfloat16`` halves what they keep for the backward pass."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if len(self.channels) < 2 + STYLED_LEVELS:
            raise ValueError(
                f"channels must have at least {2 + STYLED_LEVELS} entries, got {self.channels}"
            )
        if any(width % 2 for width in self.channels) or self.channels[0] != self.channels[1]:
            raise ValueError(
                f"channels must be even, and the first two the same, got {self.channels}"
            )
        if self.num_points <= self.num_neighbors:
            raise ValueError(
                f"num_points must exceed num_neighbors {self.num_neighbors}, got {self.num_points}"
            )
        if self.table_size < 2 or self.table_size % 2:
            raise ValueError(f"table_size must be even and positive, got {self.table_size}")
        if self.attention_heads < 1 or self.channels[0] % self.attention_heads:
            raise ValueError(
                f"attention_heads must divide the first of channels, {self.channels[0]}, got "
                f"{self.attention_heads}"
            )
        if self.detail is not None and self.detail < 1:
            raise ValueError(f"detail must be positive, got {self.detail}")
        _check_label_dim(self.label_dim)

    @property
    def num_levels(self) -> int:
        """Levels of the hierarchy, all of which are rendered."""
        return len(self.channels) - 1

    @property
    def num_gaussians(self) -> int:
        """Gaussians of a head."""
        return self.num_points * (SPLIT_COUNT**self.num_levels - 1) // (SPLIT_COUNT - 1)

    @property
    def num_ws(self) -> int:
        """Styles of a head; the last one is the background's."""
        return 2 * self.transformer_layers + 2 * STYLED_LEVELS + 1

    @property
    def transfer_dim(self) -> int:
        """Numbers of a Gaussian that light is multiplied with."""
        return LIGHT_TERMS * self.light_channels

    @property
    def coarsest_log_scale(self) -> float:
        """Largest log scale: that of as many Gaussians as cover a square."""
        return -0.5 * math.log(self.num_points)

    @property
    def finest_log_scale(self) -> float:
        """Parents below keep their size."""
        return -math.log(self.detail or self.image_size)

    @property
    def log_shrinkage(self) -> float:
        """By which a level is smaller than the one before."""
        steps = self.num_levels - 1
        return (self.coarsest_log_scale - self.finest_log_scale) / steps


@dataclass(frozen=True)
class DiscriminatorConfig:
    """What a discriminator is made of."""

    image_size: int = 512
    """Side of the images."""
    label_dim: int = LABEL_DIM
    """Numbers of a camera label."""
    light_dim: int = LIGHT_TERMS
    """Numbers of a light label: 9, or 27 with one light for each colour."""
    channel_base: int = 32768
    """Channels at a resolution r are ``channel_base / r``."""
    channel_max: int = 512
    """But not more than that."""
    clamp: float | None = 256.0
    """Largest activation."""
    group_size: int = 4
    """Images whose deviation is compared."""
    compared_features: int = 64
    """Numbers in which images and labels are compared."""

    def __post_init__(self) -> None:
        """Reject sizes without a block that camera and light can branch off from."""
        if len(resolutions(self.image_size)) < 3:
            raise ValueError(f"image_size must be at least 16, got {self.image_size}")
        if self.group_size < 1:
            raise ValueError(f"group_size must be positive, got {self.group_size}")
        _check_label_dim(self.label_dim)


@dataclass(frozen=True)
class ViewConfig:
    """Cameras of generated heads in training."""

    random_share: float = 0.5
    """Of heads that are seen from a random camera in place of one of the set; 0 for cats."""
    yaw_deviation: float = 16.6108
    """Standard deviation of the angle around the head, in degrees."""
    height_center: float = 5.1596
    """Mean angle above the eyes, in degrees of a scale that is even in height: 90 is above."""
    height_range: float = 22.32129
    """Largest difference from it, either way."""
    distance: float = 2.7
    """From the origin, which all random cameras look at."""
    light_turn: float = 0.0
    """Largest angle that lights of generated heads are turned by around the vertical, either way,
    in degrees. Ours; 180 frees light from pose, and its label turns with it."""
    light_gain: float = 0.0
    """Standard deviation of the logarithm of a factor of these lights. Ours."""
    light_tint: float = 0.0
    """Standard deviation of the logarithms of factors of each of their colours, which keep the
    geometric mean of the three; for generators of three light channels. Ours."""

    def __post_init__(self) -> None:
        """Reject cameras and lights that cannot be."""
        _check_range("random_share", self.random_share, 0.0, 1.0)
        _check_range("yaw_deviation", self.yaw_deviation, 0.0, _MOST)
        _check_range("height_range", self.height_range, 0.0, 90.0)
        most = 90.0 - self.height_range
        _check_range("height_center", self.height_center, -most, most)
        if not 0.0 < self.distance < math.inf:
            raise ValueError(f"distance must be positive, got {self.distance}")
        _check_range("light_turn", self.light_turn, 0.0, 180.0)
        _check_range("light_gain", self.light_gain, 0.0, _MOST)
        _check_range("light_tint", self.light_tint, 0.0, _MOST)


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and schedules; fades are counted in images seen."""

    camera_weight: float = 1.0
    """Of the comparison of images with cameras."""
    light_weight: float = 1.0
    """Of the comparison of images with lights."""
    temperature: float = 0.1
    """Of both."""
    center_weight: float = 1.0
    """Of the squared mean position of the coarse Gaussians; 10 for cats."""
    compactness_weight: float = 10.0
    """Of squared distances between near coarse Gaussians."""
    compactness_neighbors: int = 64
    """Which are as many."""
    r1_weight: float = 1.0
    """Of the squared gradient of the judgement with respect to real images."""
    r1_every: int = 16
    """Steps between gradient penalties."""
    penalty_compares: bool = True
    """Steps with a gradient penalty compare real images with cameras and lights once more, as
    published: at the same multiple as the penalty."""
    pose_swap: float = 0.5
    """Final share of heads that are conditioned on another camera; 0.8 for cats."""
    pose_swap_fade: int = 1_000_000
    """Until then the share falls from 1."""
    blur_sigma: float = 10.0
    """Of images at the start, in pixels."""
    blur_fade: int = 200_000
    """Until then the blur falls to nothing."""
    darkness_weight: float = 0.0
    """Of squared brightness below black, which pictures cut off. Ours."""
    background: Background = "black"
    """Behind heads, real and generated ones: black; a random colour for each pass; or the pictures
    as they are, and generated scenery."""
    scenery_start: int = 50_000
    """Until then generated heads have no scenery."""
    parity: Parity = "fixed"
    """``"official"`` composites real images as the release: with colours in [-1, 1], and alpha,
    too."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if self.parity == "official" and self.background != "black":
            raise ValueError(
                f"background must be 'black' with official parity, got {self.background!r}"
            )
        if self.temperature <= 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.r1_every < 1:
            raise ValueError(f"r1_every must be positive, got {self.r1_every}")
        if self.compactness_neighbors < 1:
            raise ValueError(
                f"compactness_neighbors must be positive, got {self.compactness_neighbors}"
            )
        _check_range("pose_swap", self.pose_swap, 0.0, 1.0)
        for name in (
            "camera_weight",
            "light_weight",
            "center_weight",
            "compactness_weight",
            "r1_weight",
            "darkness_weight",
            "blur_sigma",
            "pose_swap_fade",
            "blur_fade",
            "scenery_start",
        ):
            _check_range(name, getattr(self, name), 0.0, _MOST)

    def has_scenery(self, images_seen: int) -> bool:
        """Whether generated heads have scenery behind them at a moment of the training."""
        return self.background == "scenery" and images_seen >= self.scenery_start


@dataclass(frozen=True)
class GSHeadRelightConfig:
    """All settings of a training."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    choice: ChoiceConfig = field(default_factory=lambda: ChoiceConfig(mirror=False))
    training: AdversarialSettings = field(
        default_factory=lambda: AdversarialSettings(
            images=12_000_000, pass_size=8, generator_clip=20.0, discriminator_clip=5.0
        )
    )

    def __post_init__(self) -> None:
        """Reject networks that do not fit together."""
        made, judged = self.generator.image_size, self.discriminator.image_size
        if made != judged:
            raise ValueError(
                f"discriminator.image_size must be the generator's, {made}, got {judged}"
            )
        if self.discriminator.light_dim != self.generator.transfer_dim:
            raise ValueError(
                f"discriminator.light_dim must be {self.generator.transfer_dim} as the generator's "
                f"light_channels say, got {self.discriminator.light_dim}"
            )
        if self.views.light_tint and self.generator.light_channels != 3:
            raise ValueError(
                "views.light_tint needs generator.light_channels 3, as other lights have no colour"
            )
        if self.objective.background == "scenery" and not self.generator.background_points:
            raise ValueError("objective.background 'scenery' needs generator.background_points")
        near, points = self.objective.compactness_neighbors, self.generator.num_points
        if near >= points:
            raise ValueError(
                f"objective.compactness_neighbors must be below generator.num_points {points}, "
                f"got {near}"
            )
        self.training.check_group(self.discriminator.group_size)

    @property
    def image_size(self) -> int:
        """Side of the images."""
        return self.generator.image_size

    @property
    def needs_masks(self) -> bool:
        """Whether image sets must say what is the person."""
        return self.objective.background != "scenery"

    @property
    def alpha(self) -> AlphaUse:
        """Alpha says where the background is replaced, if it is."""
        return "mask" if self.needs_masks else "ignored"

    @property
    def needs_parts(self) -> Literal[False]:
        """No network sees semantic maps."""
        return False

    @property
    def light_channels(self) -> Literal[1, 3]:
        """Channels of the lights that image sets must state."""
        return self.generator.light_channels

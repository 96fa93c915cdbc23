"""Settings of SphereHead's generator and discriminators; defaults are the published ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from vultus.data.camera_labels import LABEL_DIM
from vultus.kernels.triplane_volume import DecoderActivation, VolumeSettings
from vultus.nets.stylegan2.synthesis import NoiseMode, resolutions

__all__ = [
    "SUPER_RESOLUTION",
    "DiscriminatorConfig",
    "DiscriminatorKind",
    "GeneratorConfig",
    "SuperResolutionKind",
    "SuperResolutionPlan",
    "with_parity",
]

SuperResolutionKind = Literal["8x_wide", "8x", "4x", "2x"]
DiscriminatorKind = Literal["mask", "mask_branch", "dual", "single", "parsing"]


@dataclass(frozen=True)
class SuperResolutionPlan:
    """Sizes of one variant of super-resolution."""

    input_size: int
    output_size: int
    channels: tuple[int, int]
    """Of the two blocks; the first doubles the size only if the output is 4 times the input."""
    keeps_larger_input: bool = False
    """An input above ``input_size`` is not reduced to it."""


SUPER_RESOLUTION: dict[SuperResolutionKind, SuperResolutionPlan] = {
    "8x_wide": SuperResolutionPlan(128, 512, (256, 128)),
    "8x": SuperResolutionPlan(128, 512, (128, 64)),
    "4x": SuperResolutionPlan(128, 256, (128, 64), keeps_larger_input=True),
    "2x": SuperResolutionPlan(64, 128, (128, 64)),
}
"""Published as Hybrid8XDC, Hybrid8X, Hybrid4X and Hybrid2X."""


@dataclass(frozen=True)
class GeneratorConfig:
    """What a generator is made of.

    EG3D is ``representation="tri_plane"`` without background, camera offset and ``has_to_rgb``,
    PanoHead ``representation="tri_grid"``.
    """

    z_dim: int = 512
    label_dim: int = LABEL_DIM
    w_dim: int = 512
    mapping_layers: int = 2
    channel_base: int = 32768
    channel_max: int = 512
    clamp: float | None = None
    """Largest activation of the backbone and the background."""
    plane_size: int = 256
    plane_channels: int = 32
    sphere_channels: tuple[int, int] = (512, 256)
    """Channels of the backbone's image and of the layer between it and a sphere's planes."""
    decoder_width: int = 64
    decoder_activation: DecoderActivation = "none"
    decoder_lr_multiplier: float = 1.0
    volume: VolumeSettings = field(default_factory=VolumeSettings)
    neural_size: int = 64
    """Side of the rendered feature image."""
    has_to_rgb: bool = True
    """A layer makes the raw image; otherwise it is the first three features."""
    has_background: bool = True
    has_camera_offset: bool = True
    camera_offset_scale: float = 1.0
    """Factor of the last drawn layer; at 1 an untrained offset is as large as the box."""
    parsing_classes: int = 0
    """Classes of the semantic map; 0 for none. The published variant has 20."""
    super_resolution: SuperResolutionKind = "8x_wide"
    super_resolution_clamp: float | None = 256.0
    super_resolution_noise: NoiseMode = "none"
    label_scale: float = 1.0
    """Factor of the label that conditions the mapping."""
    is_conditioned: bool = True
    """Without it the mapping sees a label of zeros."""
    parity: Literal["official", "fixed"] = "fixed"
    """``"official"``: without conditioning, an offset camera loses its rotation; and what
    ``VolumeSettings.parity`` says. Must be the same there."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        resolutions(self.plane_size)
        if self.volume.parity != self.parity:
            raise ValueError(
                f"parity must be the same for generator and volume, got {self.parity!r} and "
                f"{self.volume.parity!r}"
            )
        if self.plane_channels < 3:
            raise ValueError(f"plane_channels must be at least 3, got {self.plane_channels}")

    @property
    def image_size(self) -> int:
        """Side of the final image."""
        return SUPER_RESOLUTION[self.super_resolution].output_size

    @property
    def backbone_channels(self) -> int:
        """Channels of the backbone's image."""
        if self.volume.representation == "dual_sphere":
            return self.sphere_channels[0]
        return 3 * self.plane_channels * self.volume.grid_depth


@dataclass(frozen=True)
class DiscriminatorConfig:
    """What a discriminator is made of and what it sees."""

    kind: DiscriminatorKind = "mask"
    """``"mask"`` sees image, raw image and mask; ``"mask_branch"`` has own blocks for the mask;
    ``"dual"`` sees no mask, ``"single"`` only the image; ``"parsing"`` also the semantic map."""
    image_size: int = 512
    label_dim: int = LABEL_DIM
    image_channels: int = 3
    mask_channels: int = 1
    mask_size: int = 128
    """Of the own blocks of ``"mask_branch"``."""
    parsing_classes: int = 20
    channel_base: int = 32768
    channel_max: int = 512
    clamp: float | None = 256.0
    group_size: int = 4
    """Images whose deviation is compared."""
    label_noise: float = 0.0
    """Noise on labels, in standard deviations of the batch."""

    @property
    def input_channels(self) -> int:
        """Channels that the first block of images sees."""
        single = self.image_channels
        extra = {
            "single": 0,
            "dual": 0,
            "mask_branch": 0,
            "mask": self.mask_channels,
            "parsing": self.mask_channels + self.parsing_classes,
        }[self.kind]
        return single + extra if self.kind == "single" else 2 * single + extra


def with_parity(config: GeneratorConfig, parity: Literal["official", "fixed"]) -> GeneratorConfig:
    """Switch the release's slips on or off in every part."""
    return replace(config, parity=parity, volume=replace(config.volume, parity=parity))

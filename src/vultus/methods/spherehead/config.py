"""Settings of SphereHead's networks, losses and training; defaults are the published ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from vultus.data.camera_labels import LABEL_DIM
from vultus.data.image_choice import ChoiceConfig
from vultus.data.semantics import PARSING_CLASSES
from vultus.kernels.triplane_volume import DecoderActivation, VolumeSettings
from vultus.methods.adversarial import AdversarialSettings
from vultus.nets.augmentation.control import AugmentationConfig
from vultus.nets.stylegan2.synthesis import NoiseMode, resolutions

__all__ = [
    "SUPER_RESOLUTION",
    "DiscriminatorConfig",
    "DiscriminatorKind",
    "GeneratorConfig",
    "ObjectiveConfig",
    "SphereHeadConfig",
    "SuperResolutionKind",
    "SuperResolutionPlan",
    "with_parity",
]

SuperResolutionKind = Literal["8x_wide", "8x", "4x", "2x", "2x_64"]
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
    "2x_64": SuperResolutionPlan(32, 64, (64, 32)),
}
"""Published as Hybrid8XDC, Hybrid8X, Hybrid4X and Hybrid2X; the last one is ours."""


@dataclass(frozen=True)
class GeneratorConfig:
    """What a generator is made of.

    EG3D is ``representation="tri_plane"`` without background, camera offset and ``has_to_rgb``,
    PanoHead ``representation="tri_grid"``.
    """

    z_dim: int = 512
    """Numbers of a latent."""
    label_dim: int = LABEL_DIM
    """Numbers of a camera label."""
    w_dim: int = 512
    """Numbers of a style."""
    mapping_layers: int = 2
    """From latent and label to style."""
    channel_base: int = 32768
    """Channels of the backbone at a resolution r are ``channel_base / r``; half for the
    background."""
    channel_max: int = 512
    """But not more than that."""
    clamp: float | None = None
    """Largest activation of the backbone and the background."""
    plane_size: int = 256
    """Side of the feature planes."""
    plane_channels: int = 32
    """Features of a plane, of which the first three may be colours."""
    sphere_channels: tuple[int, int] = (512, 256)
    """Channels of the backbone's image and of the layer between it and a sphere's planes."""
    decoder_width: int = 64
    """Hidden numbers between features of a point and its density and colour."""
    decoder_activation: DecoderActivation = "none"
    """Of the decoded features; EG3D has ``"sigmoid"``."""
    decoder_lr_multiplier: float = 1.0
    """Factor of the decoder's learning rate."""
    volume: VolumeSettings = field(default_factory=VolumeSettings)
    neural_size: int = 64
    """Side of the rendered feature image."""
    has_to_rgb: bool = True
    """A layer makes the raw image; otherwise it is the first three features."""
    has_background: bool = True
    """A second synthesis network paints what is behind the head."""
    has_camera_offset: bool = True
    """A small network moves cameras, for labels that do not centre all heads alike."""
    camera_offset_scale: float = 1.0
    """Factor of the last drawn layer; at 1 an untrained offset is as large as the box."""
    parsing_classes: int = 0
    """Classes of the semantic map; 0 for none. The published variant has 20."""
    super_resolution: SuperResolutionKind = "8x_wide"
    """Networks to the final image, of 512, 512, 256, 128 and 64 pixels."""
    super_resolution_clamp: float | None = 256.0
    """Largest activation of super-resolution."""
    super_resolution_noise: NoiseMode = "none"
    """Noise of the layers of super-resolution."""
    label_scale: float = 1.0
    """Factor of the label that conditions the mapping."""
    is_conditioned: bool = True
    """Without it the mapping sees a label of zeros."""
    parity: Literal["official", "fixed"] = "fixed"
    """``"official"``: without conditioning, an offset camera loses its rotation; and what
    ``VolumeSettings.parity`` says. Must be the same there."""
    backend: Literal["auto", "ref", "cpu", "gpu"] = "auto"
    """Of the volume renderer."""
    precision: Literal["half", "single"] = "half"
    """On a GPU: of planes and features inside the volume renderer, and between the layers of
    synthesis networks where no gradients are asked for."""
    gradient_precision: Literal["single", "bfloat16"] = "single"
    """On a GPU: between the layers of synthesis networks where gradients are asked for;
    ``bfloat16`` halves what they keep for the backward pass."""

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
    """Side of the images, that of the generator's super-resolution."""
    label_dim: int = LABEL_DIM
    """Numbers of a camera label."""
    image_channels: int = 3
    """Colours."""
    mask_channels: int = 1
    """Of the mask."""
    mask_size: int = 128
    """Of the own blocks of ``"mask_branch"``."""
    parsing_classes: int = 20
    """Classes of the semantic map that ``"parsing"`` sees."""
    channel_base: int = 32768
    """Channels at a resolution r are ``channel_base / r``."""
    channel_max: int = 512
    """But not more than that."""
    clamp: float | None = 256.0
    """Largest activation."""
    group_size: int = 4
    """Images whose deviation is compared."""
    label_noise: float = 0.0
    """Noise on labels, in standard deviations of the batch."""

    @property
    def sees_masks(self) -> bool:
        """Whether image sets must have masks."""
        return self.kind not in ("single", "dual")

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
    """Of the squared gradient of the judgement with respect to real images."""
    mask_r1_weight: float = 1.0
    """The same with respect to masks."""
    parsing_r1_weight: float = 1.0
    """The same with respect to semantic maps."""
    r1_every: int = 16
    """Steps between gradient penalties."""
    mismatch_weight: float = 1.0
    """Of real images with wrong labels, the view-image consistency. Ours: the published weight is
    not known."""
    mismatch_angle: float = 0.0
    """Least angle between right and wrong viewing directions, in degrees; 0 takes the labels of the
    other images of a pass."""
    blur_sigma: float = 10.0
    """Of images at the start, in pixels."""
    blur_fade: int = 200_000
    """Until then the blur falls to nothing."""
    noise_fade: int = 200_000
    """Until then noise on the density falls from 1 to 0; 0 for none."""
    neural_size_final: int | None = None
    """Side of the rendered feature image after ``neural_size_fade``; None keeps the first one."""
    neural_size_fade: int = 1_000_000
    """Until then the side changes."""
    density_kind: Literal["smooth", "monotonic", "monotonic_detached"] = "smooth"
    """Monotonic: density must not fall towards the back of the head."""
    density_weight: float = 0.0
    """PanoHead and SphereHead train without; EG3D with 0.25."""
    density_every: int = 4
    """Steps between comparisons of densities."""
    density_distance: float = 0.004
    """Between compared points, in world units."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if self.r1_every < 1 or self.density_every < 1:
            raise ValueError(
                "r1_every and density_every must be positive, got "
                f"{self.r1_every} and {self.density_every}"
            )
        if not 0.0 <= self.mismatch_angle < 180.0:
            raise ValueError(f"mismatch_angle must be in [0, 180), got {self.mismatch_angle}")


@dataclass(frozen=True)
class SphereHeadConfig:
    """All settings of a training."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    choice: ChoiceConfig = field(default_factory=lambda: ChoiceConfig(back_repeat=4))
    training: AdversarialSettings = field(default_factory=AdversarialSettings)

    def __post_init__(self) -> None:
        """Reject networks that do not fit together."""
        made, judged = self.generator.image_size, self.discriminator.image_size
        if made != judged:
            raise ValueError(
                "discriminator.image_size must be that of the generator's super-resolution, "
                f"{made}, got {judged}"
            )
        self._check_parts()
        self.training.check_group(self.discriminator.group_size)

    @property
    def image_size(self) -> int:
        """Side of the images."""
        return self.generator.image_size

    @property
    def needs_masks(self) -> bool:
        """Whether image sets must say what is the person."""
        return self.discriminator.sees_masks

    @property
    def needs_parts(self) -> bool:
        """Whether image sets must have semantic maps."""
        return self.discriminator.kind == "parsing"

    @property
    def alpha(self) -> Literal["refused"]:
        """Images show their backgrounds, which are generated, too."""
        return "refused"

    @property
    def light_channels(self) -> Literal[0]:
        """Light belongs to the images."""
        return 0

    def _check_parts(self) -> None:
        """Semantic maps are generated for a discriminator that sees them, and only for it."""
        made, seen = self.generator.parsing_classes, self.discriminator.parsing_classes
        if not self.needs_parts:
            if made:
                raise ValueError(
                    "generator.parsing_classes must be 0 where discriminator.kind is not "
                    f"'parsing': nothing else would train them, got {made}"
                )
        elif made != seen or made < len(PARSING_CLASSES):
            raise ValueError(
                "generator.parsing_classes and discriminator.parsing_classes must be the same and "
                f"at least {len(PARSING_CLASSES)}, the classes of semantic maps, got {made} and "
                f"{seen}"
            )


def with_parity(config: GeneratorConfig, parity: Literal["official", "fixed"]) -> GeneratorConfig:
    """Switch the release's slips on or off in every part."""
    return replace(config, parity=parity, volume=replace(config.volume, parity=parity))

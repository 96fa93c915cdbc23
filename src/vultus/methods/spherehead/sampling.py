"""Generate people from seeds and look at them from any side, one view at a time.

Every random number comes from a stream that starts anew for each head and view: images of a person
depend neither on who else is generated nor on the number of views, and films do not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.seeding import torch_generator
from vultus.data.camera_labels import labels_to_camera, shift_labels
from vultus.data.semantics import parsing_colors
from vultus.geometry.cameras import ray_distance_to_depth
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.generated_heads import GeneratorOutput, HeadView
from vultus.methods.head_views import ViewRig
from vultus.methods.people import DrawSettings, People, StyleSampler
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.nets.ranges import from_signed
from vultus.nets.stylegan2.synthesis import NoiseMode
from vultus.nets.weights import count_weights

__all__ = ["CameraOffset", "Head", "HeadSampler", "SamplingSettings", "mean_camera_offset"]

CameraOffset = Literal["none", "mean", "own"]
"""Which learned offset moves cameras: none as in the published images, the mean of many people, or
each person's own as in training. All are those of the camera that conditions the head."""

_OUTPUTS: tuple[GeneratorOutput, ...] = ("rgb", "raw", "depth", "mask", "normals")
_SIZES = range(8, 1025, 2)
_NUM_MEAN_PEOPLE = 1000
_MEAN_SEED = 123


@dataclass(frozen=True)
class SamplingSettings(DrawSettings):
    """How people are drawn and how finely they are rendered."""

    camera_offset: CameraOffset = "none"
    noise: NoiseMode = "const"
    """Noise of the layers: const is the stored one, random that of each seed, none without."""
    neural_size: int | None = None
    """Side of the rendered feature image; default: that of the training."""
    sample_factor: float = 1.0
    """Multiply the samples of each ray (official --sample_mult)."""

    def __post_init__(self) -> None:
        """Reject what makes no heads."""
        super().__post_init__()
        if self.neural_size is not None and self.neural_size not in _SIZES:
            raise ValueError(
                f"neural_size must be an even number from {_SIZES[0]} to {_SIZES[-1]}, got "
                f"{self.neural_size}"
            )
        if not 0.0 < self.sample_factor <= 16.0:
            raise ValueError(f"sample_factor must be in (0, 16], got {self.sample_factor}")


@dataclass(frozen=True)
class Head:
    """One person with planes, to be seen from any side."""

    person: People
    planes: Float[Tensor, "1 ..."]


@dataclass(frozen=True)
class HeadSampler(StyleSampler):
    """A generator with all that decides on its images."""

    generator: Generator
    rig: ViewRig
    """Cameras of its views."""
    settings: SamplingSettings
    training_rig: ViewRig | None = None
    """Cameras of the training, one of which people are conditioned on; default: ``rig``."""

    @property
    def outputs(self) -> tuple[GeneratorOutput, ...]:
        """What its views show."""
        return (*_OUTPUTS, "parts") if self.generator.config.parsing_classes else _OUTPUTS

    @property
    def shows_all_sides(self) -> bool:
        """Whether heads have a back that is meant to be seen."""
        return True

    @property
    def depth_bounds(self) -> tuple[float, float]:
        """Between the sides of the box that are nearest and farthest in a frontal view."""
        half = 0.5 * self.generator.config.volume.box_size
        return self.rig.distance - half, self.rig.distance + half

    @property
    def description(self) -> str:
        """What it is, in a few words."""
        config = self.generator.config
        return (
            f"{config.volume.representation} generator of {config.image_size} pixels with "
            f"{count_weights(self.generator) / 1e6:.1f} M weights"
        )

    @torch.no_grad()
    def people_of_styles(self, ws: Float[Tensor, "b n w"]) -> People:
        """People of styles as they are, without truncation; their noise is that of seed 0.

        Raises:
            ValueError: If cameras have each person's own offset, which styles do not tell.
        """
        if self.settings.camera_offset == "own":
            raise ValueError("camera_offset must not be 'own' for styles: they tell no offset")
        offsets = self._common_offset().expand(len(ws), -1)
        return People(ws.to(self.device), offsets, (0,) * len(ws))

    @torch.no_grad()
    def head(self, person: People) -> Head:
        """Make the planes of one person."""
        return Head(
            person, self.generator.planes(person.ws, self.settings.noise, self._noise(person))
        )

    @torch.no_grad()
    def view(self, head: Head, label: Float[Tensor, "1 25"]) -> HeadImages:
        """Render one view."""
        volume, size = self.volume, self.settings.neural_size
        rays = torch_generator(0, "spherehead.rays", self.device)
        draws = self.generator.draw(1, rays, neural_size=size, volume=volume)
        return self.generator.render(
            head.planes,
            head.person.ws,
            self.seen_label(head, label),
            draws,
            neural_size=size,
            volume=volume,
            noise_mode=self.settings.noise,
            generator=self._noise(head.person),
        )

    def seen_label(self, head: Head, label: Float[Tensor, "1 25"]) -> Float[Tensor, "1 25"]:
        """The camera that a view is rendered from, offset included."""
        return shift_labels(label.to(self.device), head.person.offsets)

    def look(self, head: Head, label: Float[Tensor, "1 25"]) -> HeadView:
        """Render one view as pictures."""
        images = self.view(head, label)
        assert images.raw_image is not None
        assert images.mask is not None
        assert images.depth is not None
        seen = self.seen_label(head, label).cpu()
        camera = labels_to_camera(seen, images.depth.shape[-1])
        parts = None if images.parsing is None else parsing_colors(images.parsing)[0].cpu()
        return HeadView(
            rgb=from_signed(images.image)[0].cpu(),
            alpha=images.mask[0].clamp(0.0, 1.0).cpu(),
            depth=ray_distance_to_depth(images.depth.cpu(), camera)[0],
            camera=camera,
            raw=from_signed(images.raw_image)[0].cpu(),
            parts=parts,
        )

    @property
    def volume(self) -> VolumeSettings:
        """How rays are sampled; noise on the density is for training only."""
        volume, factor = self.generator.config.volume, self.settings.sample_factor
        return replace(
            volume,
            coarse_samples=round(volume.coarse_samples * factor),
            fine_samples=round(volume.fine_samples * factor),
            density_noise=0.0,
        )

    def _people_of_latents(self, z: Tensor, seeds: tuple[int, ...]) -> People:
        if self.settings.camera_offset == "own":
            label = self._condition()
            moved = [self.generator.offset_labels(row, label)[1] for row in z.split(1)]
            offsets = torch.cat(moved)
        else:
            offsets = self._common_offset().expand(len(z), -1)
        return People(self._styles(z), offsets, seeds, z)

    def _noise(self, person: People) -> torch.Generator:
        (seed,) = person.seeds
        return torch_generator(seed, "spherehead.noise", self.device)

    def _common_offset(self) -> Float[Tensor, "1 3"]:
        if self.settings.camera_offset == "none":
            return torch.zeros(1, 3, device=self.device)
        return mean_camera_offset(self.generator, self._condition())


@torch.no_grad()
def mean_camera_offset(generator: Generator, label: Float[Tensor, "1 25"]) -> Float[Tensor, "1 3"]:
    """Mean of the learned offset over many people, for a camera on the generator's device."""
    random = torch.Generator().manual_seed(_MEAN_SEED)
    shape = _NUM_MEAN_PEOPLE, generator.config.z_dim
    z = torch.randn(shape, generator=random).to(label.device)
    labels = label.expand(_NUM_MEAN_PEOPLE, -1)
    return generator.offset_labels(z, labels)[1].mean(dim=0, keepdim=True)

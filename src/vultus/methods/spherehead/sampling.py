"""Generate people from seeds and look at them from any side, one view at a time.

Every random number comes from a stream that starts anew for each head and view: images of a person
depend neither on who else is generated nor on the number of views, and films do not flicker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.seeding import torch_generator
from vultus.data.camera_labels import shift_labels
from vultus.kernels.triplane_volume import VolumeSettings
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.images import HeadImages
from vultus.methods.spherehead.latents import (
    closed_slerp,
    closed_spline,
    latents_of_seeds,
    mix_styles,
)
from vultus.methods.spherehead.views import ViewRig
from vultus.nets.stylegan2.synthesis import NoiseMode

__all__ = [
    "Between",
    "CameraOffset",
    "Head",
    "HeadSampler",
    "People",
    "SamplingSettings",
    "mixed_person",
]

CameraOffset = Literal["none", "mean", "own"]
"""Which learned offset moves cameras: none as in the published images, the mean of many people, or
each person's own as in training. All are those of the camera that conditions the head."""
Between = Literal["w", "z"]
"""What lies between people: a spline through their styles, or arcs between their latents."""

_LARGEST_TRUNCATION = 2.0
_SIZES = range(8, 1025, 2)
_NUM_MEAN_PEOPLE = 1000
_MEAN_SEED = 123


@dataclass(frozen=True)
class SamplingSettings:
    """How people are drawn and how finely they are rendered."""

    truncation: float = 0.7
    """0 gives the mean head, 1 all the variety of the training images."""
    cutoff: int | None = None
    """Truncate only so many of the first styles; default: all."""
    condition_yaw: float = 0.0
    """Yaw of the camera that people are conditioned on, in radians; 0 is frontal."""
    camera_offset: CameraOffset = "none"
    noise: NoiseMode = "const"
    """Noise of the layers: const is the stored one, random that of each seed, none without."""
    neural_size: int | None = None
    """Side of the rendered feature image; default: that of the training."""
    sample_factor: float = 1.0
    """Multiply the samples of each ray (official --sample_mult)."""

    def __post_init__(self) -> None:
        """Reject what makes no heads."""
        if not 0.0 <= self.truncation <= _LARGEST_TRUNCATION:
            raise ValueError(
                f"truncation must be in [0, {_LARGEST_TRUNCATION:g}], got {self.truncation}"
            )
        if self.cutoff is not None and self.cutoff < 0:
            raise ValueError(f"cutoff must not be negative, got {self.cutoff}")
        if self.neural_size is not None and self.neural_size not in _SIZES:
            raise ValueError(
                f"neural_size must be an even number from {_SIZES[0]} to {_SIZES[-1]}, got "
                f"{self.neural_size}"
            )
        if not 0.0 < self.sample_factor <= 16.0:
            raise ValueError(f"sample_factor must be in (0, 16], got {self.sample_factor}")


@dataclass(frozen=True)
class People:
    """What tells people apart, before any planes are made."""

    ws: Float[Tensor, "b n w"]
    offsets: Float[Tensor, "b 3"]
    """Of their cameras."""
    seeds: tuple[int, ...]
    """Of random noise."""

    def __len__(self) -> int:
        """Number of people."""
        return len(self.seeds)

    def __iter__(self) -> Iterator[People]:
        """One after the other."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> People:
        """One of them."""
        rows = [range(len(self))[index]]
        return People(self.ws[rows], self.offsets[rows], (self.seeds[index],))


@dataclass(frozen=True)
class Head:
    """One person with planes, to be seen from any side."""

    person: People
    planes: Float[Tensor, "1 ..."]


@dataclass(frozen=True)
class HeadSampler:
    """A generator with all that decides on its images."""

    generator: Generator
    rig: ViewRig
    settings: SamplingSettings

    @property
    def device(self) -> torch.device:
        """Where heads are made."""
        return self.generator.backbone.mapping.mean_w.device

    def people(self, seeds: Sequence[int]) -> People:
        """People of seeds."""
        return self.people_of_latents(self._latents(seeds), tuple(seeds))

    @torch.no_grad()
    def people_of_latents(self, z: Float[Tensor, "b z"], seeds: tuple[int, ...]) -> People:
        """People of latents; seeds serve random noise only."""
        label = self._condition()
        truncation, cutoff = self.settings.truncation, self.settings.cutoff
        # One by one: products of other batch sizes round otherwise.
        ws = [self.generator.map(row, label, truncation, cutoff) for row in z.split(1)]
        return People(torch.cat(ws), self._offsets(z, label), seeds)

    def people_between(
        self, seeds: Sequence[int], times: Float[Tensor, " t"], between: Between = "w"
    ) -> People:
        """Go around the closed path through people, who are met at whole times.

        Noise is that of the first seed all along.
        """
        keys = self.people(seeds)
        noise_seeds = (seeds[0],) * len(times)
        if len(seeds) == 1:
            rows = torch.zeros(len(times), dtype=torch.long)
            return People(keys.ws[rows], keys.offsets[rows], noise_seeds)
        if between == "z":
            z = closed_slerp(self._latents(seeds), times)
            return self.people_of_latents(z, noise_seeds)
        ws, offsets = (closed_spline(key, times) for key in (keys.ws, keys.offsets))
        return People(ws, offsets, noise_seeds)

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

    def _condition(self) -> Float[Tensor, "1 25"]:
        return self.rig.label(self.settings.condition_yaw).to(self.device)

    def _latents(self, seeds: Sequence[int]) -> Float[Tensor, "b z"]:
        return latents_of_seeds(seeds, self.generator.config.z_dim).to(self.device)

    def _noise(self, person: People) -> torch.Generator:
        (seed,) = person.seeds
        return torch_generator(seed, "spherehead.noise", self.device)

    def _offsets(self, z: Tensor, label: Tensor) -> Float[Tensor, "b 3"]:
        kind = self.settings.camera_offset
        if kind == "none":
            return z.new_zeros(len(z), 3)
        if kind == "own":
            return torch.cat([self.generator.offset_labels(row, label)[1] for row in z.split(1)])
        random = torch.Generator().manual_seed(_MEAN_SEED)
        many = torch.randn(_NUM_MEAN_PEOPLE, z.shape[1], generator=random).to(z)
        labels = label.expand(_NUM_MEAN_PEOPLE, -1)
        return self.generator.offset_labels(many, labels)[1].mean(dim=0).expand(len(z), -1)


def mixed_person(coarse: People, fine: People, first_fine: int) -> People:
    """Give a person the styles of another from a layer on.

    Raises:
        ValueError: If there is no such layer.
    """
    return replace(coarse, ws=mix_styles(coarse.ws, fine.ws, first_fine))

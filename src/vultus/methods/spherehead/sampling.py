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
    z: Float[Tensor, "b z"] | None = None
    """Latents, of those who have been drawn."""

    def __len__(self) -> int:
        """Number of people."""
        return len(self.seeds)

    def __iter__(self) -> Iterator[People]:
        """One after the other."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> People:
        """One or some of them."""
        if isinstance(index, slice):
            rows = index
        else:
            first = range(len(self))[index]  # Raises beyond the last, where slices are empty.
            rows = slice(first, first + 1)
        z = None if self.z is None else self.z[rows]
        return People(self.ws[rows], self.offsets[rows], self.seeds[rows], z)

    @staticmethod
    def join(parts: Sequence[People]) -> People:
        """Put people together; latents are kept if all have them."""
        z = [part.z for part in parts if part.z is not None]
        return People(
            torch.cat([part.ws for part in parts]),
            torch.cat([part.offsets for part in parts]),
            tuple(seed for part in parts for seed in part.seeds),
            torch.cat(z) if len(z) == len(parts) else None,
        )


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

    @torch.no_grad()
    def people(self, seeds: Sequence[int]) -> People:
        """People of seeds."""
        z = latents_of_seeds(seeds, self.generator.config.z_dim).to(self.device)
        return self._people_of_latents(z, tuple(seeds))

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
    def way(self, keys: People, times: Float[Tensor, " t"], between: Between = "w") -> People:
        """Go around the closed path through people, who are met at whole times.

        Noise is that of the first one all along.

        Raises:
            ValueError: If arcs between latents are asked for and people have none.
        """
        seeds = keys.seeds[:1] * len(times)
        if len(keys) == 1:
            rows = torch.zeros(len(times), dtype=torch.long)
            return People(keys.ws[rows], keys.offsets[rows], seeds)
        if between == "w":
            ws, offsets = (closed_spline(key, times) for key in (keys.ws, keys.offsets))
            return People(ws, offsets, seeds)
        if keys.z is None:
            raise ValueError("between must be 'w' for people of styles: they have no latents")
        return self._people_of_latents(closed_slerp(keys.z, times), seeds)

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

    def _people_of_latents(self, z: Tensor, seeds: tuple[int, ...]) -> People:
        label = self._condition()
        truncation, cutoff = self.settings.truncation, self.settings.cutoff
        # One by one: products of other batch sizes round otherwise.
        rows = z.split(1)
        ws = [self.generator.map(row, label, truncation, cutoff) for row in rows]
        if self.settings.camera_offset == "own":
            offsets = torch.cat([self.generator.offset_labels(row, label)[1] for row in rows])
        else:
            offsets = self._common_offset().expand(len(z), -1)
        return People(torch.cat(ws), offsets, seeds, z)

    def _noise(self, person: People) -> torch.Generator:
        (seed,) = person.seeds
        return torch_generator(seed, "spherehead.noise", self.device)

    def _common_offset(self) -> Float[Tensor, "1 3"]:
        if self.settings.camera_offset == "none":
            return torch.zeros(1, 3, device=self.device)
        random = torch.Generator().manual_seed(_MEAN_SEED)
        shape = _NUM_MEAN_PEOPLE, self.generator.config.z_dim
        z = torch.randn(shape, generator=random).to(self.device)
        labels = self._condition().expand(_NUM_MEAN_PEOPLE, -1)
        return self.generator.offset_labels(z, labels)[1].mean(dim=0, keepdim=True)


def mixed_person(coarse: People, fine: People, first_fine: int) -> People:
    """Give a person the styles of another from a layer on.

    Raises:
        ValueError: If there is no such layer.
    """
    return replace(coarse, ws=mix_styles(coarse.ws, fine.ws, first_fine), z=None)

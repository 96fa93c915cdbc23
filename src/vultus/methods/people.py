"""Generated people: what tells them apart, how they are drawn, the way from one to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.methods.head_views import ViewRig
from vultus.methods.latents import closed_slerp, closed_spline, latents_of_seeds, mix_styles

__all__ = ["Between", "DrawSettings", "People", "StyleSampler", "mixed_person", "way_through"]

Between = Literal["w", "z"]
"""What lies between people: a spline through their styles, or arcs between their latents."""

_LARGEST_TRUNCATION = 2.0


@dataclass(frozen=True)
class DrawSettings:
    """How people are drawn, by any generator."""

    truncation: float = 0.7
    """0 gives the mean head, 1 all the variety of the training images."""
    cutoff: int | None = None
    """Truncate only so many of the first styles; default: all."""
    condition_yaw: float = 0.0
    """Yaw of the camera that people are conditioned on, in radians; 0 is frontal."""

    def __post_init__(self) -> None:
        """Reject what makes no heads."""
        if not 0.0 <= self.truncation <= _LARGEST_TRUNCATION:
            raise ValueError(
                f"truncation must be in [0, {_LARGEST_TRUNCATION:g}], got {self.truncation}"
            )
        if self.cutoff is not None and self.cutoff < 0:
            raise ValueError(f"cutoff must not be negative, got {self.cutoff}")


@dataclass(frozen=True)
class People:
    """What tells people apart, before any geometry is made."""

    ws: Float[Tensor, "b n w"]
    offsets: Float[Tensor, "b 3"]
    """Of their cameras; zero where a generator learns none."""
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


def way_through(
    keys: People,
    times: Float[Tensor, " t"],
    between: Between,
    people_of_latents: Callable[[Float[Tensor, "t z"], tuple[int, ...]], People],
) -> People:
    """Go around the closed path through people, who are met at whole times.

    Noise is that of the first one all along.

    Args:
        keys: Who is met.
        times: In steps from one to the next.
        between: What lies between them.
        people_of_latents: Maps latents to styles, with seeds of the noise.

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
    return people_of_latents(closed_slerp(keys.z, times), seeds)


class StyleSampler(ABC):
    """Base of samplers: draws people of seeds and of paths between people."""

    generator: Any
    """Maps latents and cameras to styles; has ``num_ws`` and ``config``."""
    rig: ViewRig
    """Cameras of its views."""
    settings: DrawSettings
    training_rig: ViewRig | None
    """Cameras of the training, one of which people are conditioned on; default: ``rig``."""

    @abstractmethod
    def _people_of_latents(self, z: Float[Tensor, "b z"], seeds: tuple[int, ...]) -> People:
        """Map latents to people, with seeds of their noise."""

    @property
    def device(self) -> torch.device:
        """Where heads are made."""
        return next(self.generator.parameters()).device

    @property
    def style_shape(self) -> tuple[int, int]:
        """Styles of a person, and numbers of a style."""
        return self.generator.num_ws, self.generator.config.w_dim

    @torch.no_grad()
    def people(self, seeds: Sequence[int]) -> People:
        """People of seeds."""
        z = latents_of_seeds(seeds, self.generator.config.z_dim).to(self.device)
        return self._people_of_latents(z, tuple(seeds))

    @torch.no_grad()
    def way(self, keys: People, times: Float[Tensor, " t"], between: Between = "w") -> People:
        """Go around the closed path through people; see ``way_through``."""
        return way_through(keys, times, between, self._people_of_latents)

    def _condition(self) -> Float[Tensor, "1 25"]:
        rig = self.training_rig or self.rig
        return rig.label(self.settings.condition_yaw).to(self.device)

    def _styles(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b n w"]:
        """Styles of latents, one by one: products of other batch sizes round otherwise."""
        label, settings = self._condition(), self.settings
        mapped = (
            self.generator.map(row, label, settings.truncation, settings.cutoff)
            for row in z.split(1)
        )
        return torch.cat(list(mapped))


def mixed_person(coarse: People, fine: People, first_fine: int) -> People:
    """Give a person the styles of another from a layer on.

    Raises:
        ValueError: If there is no such layer.
    """
    return replace(coarse, ws=mix_styles(coarse.ws, fine.ws, first_fine), z=None)

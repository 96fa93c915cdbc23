"""Measure whether generated heads stay what they are before other backgrounds.

The release finds the person in both pictures with a network (``calc_mbs``); here it is one that the
user has. Without it, what the generator itself calls head is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.image_io import to_bytes
from vultus.core.progress import track
from vultus.core.seeding import torch_generator
from vultus.data.cropping.detectors import MatteDetector, Photograph
from vultus.metrics.background_swap import mask_difference, weighted_change

__all__ = [
    "BackgroundSwapConfig",
    "PersonFinder",
    "SceneryMaker",
    "measure_background_swap",
    "swap_protocol",
]

_PEOPLE = 64


@runtime_checkable
class SceneryMaker(Protocol):
    """A generator that paints what is behind heads, which can be exchanged."""

    @property
    def z_dim(self) -> int:
        """Numbers of a latent."""
        ...

    def before_backgrounds(
        self,
        z: Float[Tensor, "1 z"],
        others: Float[Tensor, "2 z"],
        label: Float[Tensor, "1 25"],
    ) -> tuple[Float[Tensor, "2 3 s s"], Float[Tensor, "1 1 s s"]]:
        """Show a person before the backgrounds of two others.

        Args:
            z: The person.
            others: Whose backgrounds are shown.
            label: The camera of both pictures, on which all three are conditioned.

        Returns:
            Both pictures in [0, 1], and what of them is the head, in [0, 1].
        """
        ...


@dataclass(frozen=True)
class BackgroundSwapConfig:
    """How much is looked at."""

    swap_count: int | None = None
    """People who are shown before two backgrounds, from the front; 0 swaps none; default: 64
    where the generator paints backgrounds."""

    def __post_init__(self) -> None:
        """Reject what is no number of people."""
        if self.num_people < 0:
            raise ValueError(f"swap_count must be at least 0, got {self.swap_count}")

    @property
    def num_people(self) -> int:
        """People who are shown where that is possible."""
        return _PEOPLE if self.swap_count is None else self.swap_count


@dataclass(frozen=True)
class PersonFinder:
    """A network that finds the person in pictures."""

    name: str
    """Tells it apart from others; numbers of different networks do not compare."""
    detect: MatteDetector


def swap_protocol(config: BackgroundSwapConfig, finder: PersonFinder | None = None) -> str:
    """Id that every number carries."""
    found = "" if finder is None else f"-{finder.name}"
    return f"background-swap-{config.num_people}{found}-v1"


@torch.no_grad()
def measure_background_swap(
    make: SceneryMaker,
    frontal: Float[Tensor, "1 25"],
    config: BackgroundSwapConfig,
    finder: PersonFinder | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Show people before the backgrounds of two others each, and compare their pictures.

    ``background_swap_head`` is the root mean squared change of colours in [0, 1] over what the
    generator calls head, the mean over people; it should be small beside
    ``background_swap_outside``, the change over the rest. With a finder also
    ``background_swap_mask``, the mean squared difference between the masks that it finds in both.
    People are not truncated, have their stored noise, and pictures are rounded to bytes.

    Args:
        make: The generator, on the device of ``frontal``.
        frontal: The camera of all pictures, on which people are conditioned.
        config: How much is looked at.
        finder: Finds people in pictures; None leaves that number out.
        seed: Of people and backgrounds.

    Raises:
        ValueError: If the finder finds no person in a picture.
    """
    random = torch_generator(seed, "background_quality", frontal.device)
    shape = config.num_people, 3, make.z_dim
    latents = torch.randn(shape, generator=random, device=frontal.device)
    measured: dict[str, list[Tensor]] = {}
    people = track(latents, len(latents), "swapped backgrounds", "people")
    for person, latent in enumerate(people):
        pictures, head = make.before_backgrounds(latent[:1], latent[1:], frontal)
        pixels = to_bytes(pictures).float() / 255.0
        one, other = pixels.split(1)
        values = {
            "background_swap_head": weighted_change(one, other, head),
            "background_swap_outside": weighted_change(one, other, 1.0 - head),
        }
        if finder is not None:
            masks = [_find(finder, picture, person) for picture in pixels.cpu()]
            values["background_swap_mask"] = mask_difference(*masks)
        for name, value in values.items():
            measured.setdefault(name, []).append(value)
    return {name: float(torch.cat(values).mean()) for name, values in measured.items()}


def _find(
    finder: PersonFinder, picture: Float[Tensor, "3 s s"], person: int
) -> Float[Tensor, "1 1 s s"]:
    mask = finder.detect(Photograph(f"person {person}", picture))
    if mask is None:
        raise ValueError(f"{finder.name}: finds nobody in the picture of person {person}")
    return mask[None]

"""Which images of a set a generator trains on, how often, and in which order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.core.seeding import torch_generator
from vultus.data.camera_labels import label_angles, mirror_labels
from vultus.data.light_labels import mirror_lights

__all__ = ["ChoiceConfig", "Entries", "ShuffledOrder", "choose_entries", "yaw_repeats"]

_FRONT_LIMIT = 90.0
_HALF_TURN = 180.0


@dataclass(frozen=True)
class ChoiceConfig:
    """Filters and repetitions; generated cameras are drawn from the same list."""

    min_yaw: float = 0.0
    """Least angle around the head, either way; 0 to 180 degrees, 0 is frontal."""
    max_yaw: float = 180.0
    """Largest angle around the head, in degrees."""
    max_pitch: float = 90.0
    """Largest angle from above or below, in degrees."""
    back_repeat: int = 1
    """How often views from behind (90 degrees and more) appear."""
    yaw_group: float = 5.0
    """Width of a group of views for ``least_per_group``, in degrees of yaw."""
    least_per_group: int = 0
    """Repeat the images of smaller groups until they are as many (1500 in the authors' tools);
    0 leaves rare views rare."""
    mirror: bool = True
    """Use every image also flipped left to right."""
    max_images: int | None = None
    """Take that many at random, before filters; None for all."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if not 0.0 <= self.min_yaw <= self.max_yaw <= _HALF_TURN:
            raise ValueError(
                f"yaw must rise from 0 to 180 degrees, got {self.min_yaw} to {self.max_yaw}"
            )
        if self.back_repeat < 1:
            raise ValueError(f"back_repeat must be at least 1, got {self.back_repeat}")
        if not 0.0 < self.yaw_group <= 2.0 * _HALF_TURN:
            raise ValueError(f"yaw_group must be in (0, 360] degrees, got {self.yaw_group}")
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images must be positive, got {self.max_images}")


class Entries(NamedTuple):
    """What may be drawn: images with repetitions, as they are and mirrored."""

    rows: Int[Tensor, " n"]
    """Of the image set."""
    is_mirrored: Bool[Tensor, " n"]
    labels: Float[Tensor, "n 25"]
    """Mirrored where the image is."""
    lights: Float[Tensor, "n l"] | None = None
    """Likewise; None where lights are not known or do not matter."""


def choose_entries(
    labels: Float[Tensor, "m 25"],
    config: ChoiceConfig,
    seed: int,
    lights: Float[Tensor, "m l"] | None = None,
) -> Entries:
    """List what is trained on.

    Args:
        labels: Of all images.
        config: Filters and repetitions.
        seed: Decides which images ``max_images`` takes.
        lights: Of all images, for methods that light heads.

    Raises:
        ValueError: If nothing is left.
    """
    rows = torch.arange(len(labels))
    if config.max_images is not None and config.max_images < len(labels):
        shuffled = torch.randperm(len(labels), generator=torch_generator(seed, "image_choice"))
        rows = shuffled[: config.max_images].sort().values
    yaw, pitch, _ = torch.rad2deg(label_angles(labels[rows])).unbind(dim=1)
    turn = yaw.abs()
    is_kept = (turn >= config.min_yaw) & (turn <= config.max_yaw)
    is_kept &= pitch.abs() <= config.max_pitch
    rows, yaw, turn = rows[is_kept], yaw[is_kept], turn[is_kept]
    if len(rows) == 0:
        raise ValueError(
            f"no image has a yaw of {config.min_yaw} to {config.max_yaw} degrees and a pitch of at "
            f"most {config.max_pitch} degrees"
        )
    repeats = torch.where(turn >= max(_FRONT_LIMIT, config.min_yaw), config.back_repeat, 1)
    if config.least_per_group:
        repeats = repeats * yaw_repeats(yaw, config.yaw_group, config.least_per_group)
    rows = rows.repeat_interleave(repeats)
    is_mirrored = torch.zeros_like(rows, dtype=torch.bool)
    chosen = labels[rows]
    lit = None if lights is None else lights[rows]
    if config.mirror:
        rows = rows.repeat(2)
        is_mirrored = torch.cat([is_mirrored, ~is_mirrored])
        chosen = torch.cat([chosen, mirror_labels(chosen)])
        lit = None if lit is None else torch.cat([lit, mirror_lights(lit)])
    return Entries(rows, is_mirrored, chosen, lit)


def yaw_repeats(yaw: Float[Tensor, " n"], group: float, least: int) -> Int[Tensor, " n"]:
    """How often each image must appear so that every group of views has at least ``least``.

    Args:
        yaw: In degrees, from -180 to 180.
        group: Width of a group, in degrees.
        least: A group of c images below it is repeated ceil(least / c) times.
    """
    last = math.ceil(2.0 * _HALF_TURN / group) - 1
    groups = ((yaw + _HALF_TURN) / group).floor().long().clamp(0, last)
    counts = groups.bincount(minlength=last + 1)[groups]
    return torch.where(counts < least, (least + counts - 1) // counts, 1)


class ShuffledOrder:
    """An endless order in which every entry comes once an epoch.

    The k-th place depends only on k and the seed, so processes can share the work and a resumed
    training goes on with the image where it stopped.
    """

    def __init__(self, num_entries: int, seed: int) -> None:
        """Remember the size; nothing is drawn yet.

        Raises:
            ValueError: If there is no entry.
        """
        if num_entries < 1:
            raise ValueError(f"num_entries must be positive, got {num_entries}")
        self.num_entries = num_entries
        # Two epochs at most are in use, where a batch straddles them.
        self._epoch = lru_cache(maxsize=2)(
            lambda epoch: torch.randperm(
                num_entries, generator=torch_generator(seed, f"image_order/{epoch}")
            )
        )

    def take(self, first: int, count: int) -> Int[Tensor, " count"]:
        """Entries of ``count`` places from place ``first`` on."""
        taken = []
        while count:
            epoch, start = divmod(first, self.num_entries)
            part = self._epoch(epoch)[start : start + count]
            taken.append(part)
            first, count = first + len(part), count - len(part)
        return torch.cat(taken)

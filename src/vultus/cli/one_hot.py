"""Options that show expressions of a head one at a time."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch

from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.one_hot import find_expressions, one_hot_poses

__all__ = ["OneHotOptions"]


@dataclass(frozen=True)
class OneHotOptions:
    """What a film shows in place of the track."""

    one_hot: tuple[str, ...] = ()
    """Single expressions in turns, by name or number, or all: nothing else moves, jaw and eyes are
    at rest, and the head is where --timestep has it. On --path still each rises and falls again,
    on other paths it stays as it is."""
    weight: float | None = None
    """Coefficient of --one-hot, at its height; default: 1."""

    def __post_init__(self) -> None:
        """Reject a weight that is none, or of nothing."""
        if self.weight is not None and not self.one_hot:
            raise ValueError("--weight is of --one-hot, which is not given")
        if self.weight is not None and not math.isfinite(self.weight):
            raise ValueError(f"--weight must be finite, got {self.weight}")

    def poses(
        self,
        head: HeadModel,
        place: HeadPose,
        frames: int,
        *,
        is_swinging: bool,
        moving: Collection[int] | None = None,
    ) -> HeadPose:
        """One pose per frame of the film.

        Args:
            head: Whose expressions.
            place: One frame: where the head is.
            frames: Of the film.
            is_swinging: Whether expressions rise and fall.
            moving: Those that move the avatar; ``None``: all.

        Raises:
            ValueError: If an expression is unknown or moves nothing, or there are more of them than
                frames.
        """
        columns = find_expressions(head, self.one_hot, moving)
        if len(columns) > frames:
            raise ValueError(
                f"--frames must be at least {len(columns)}, one for each expression, got {frames}"
            )
        turns = (torch.arange(frames) + 0.5) * len(columns) / frames
        weights = torch.full((frames,), 1.0 if self.weight is None else self.weight)
        if is_swinging:
            weights = weights * torch.sin(math.pi * turns).square()
        return one_hot_poses(head, place, torch.tensor(columns)[turns.long()], weights)

"""Positions of points to features."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

__all__ = ["LearnedWaves", "PositionTables"]


class LearnedWaves(nn.Module):
    """Sines of learned frequencies and phases."""

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        """Draw both uniformly; without a generator, from PyTorch's global one."""
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(channels, 3))
        self.phases = nn.Parameter(torch.empty(channels))
        self.draw(generator)

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None) -> None:
        """Draw anew."""
        bounds = (math.sqrt(3.0), math.sqrt(1.0 / 3.0))
        for tensor, bound in zip((self.frequencies, self.phases), bounds, strict=True):
            tensor.uniform_(-bound, bound, generator=generator)

    def forward(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b d"]:
        """Encode positions."""
        return torch.nn.functional.linear(points, self.frequencies, self.phases).sin()


class PositionTables(nn.Module):
    """A learned table along each axis; features of a point are the sum over its coordinates.

    ``lookup="official"`` repeats a slip of the release: coordinates look the table up across the
    axis that it has no extent along. Every point then gets the mean of the two middle entries,
    fading with the distance from the middle; all other entries are never used.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        lookup: Literal["official", "fixed"] = "fixed",
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw tables of ``size`` entries for coordinates in [-1, 1]."""
        super().__init__()
        self.lookup: Literal["official", "fixed"] = lookup
        self.tables = nn.Parameter(torch.empty(3, channels, size))
        self.draw(generator)

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None) -> None:
        """Draw anew."""
        self.tables.normal_(generator=generator)

    def forward(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b d"]:
        """Encode positions."""
        if self.lookup == "official":
            middle = self.tables.shape[2] // 2
            entries = self.tables[:, :, middle - 1 : middle + 1].mean(dim=2)
            return (1.0 - 0.5 * points.abs()) @ entries / math.sqrt(3.0)
        coordinates = points.reshape(-1, 3).T
        grid = torch.stack([coordinates, torch.zeros_like(coordinates)], dim=-1)
        found = grid_sample(
            self.tables[:, :, None], grid[:, None], padding_mode="border", align_corners=False
        )
        summed = found[:, :, 0].sum(dim=0).T / math.sqrt(3.0)
        return summed.reshape(*points.shape[:-1], -1)

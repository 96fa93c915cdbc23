"""Finite lists of lights: far and near ones in one form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["LightList", "directional_lights", "point_lights"]


@dataclass(frozen=True)
class LightList:
    """Lights that a surface is lit by, one by one. Linear light.

    A surface at p receives ``intensity * cos / d^2`` with d the distance of p to the position; a
    light at infinity has d = 1.
    """

    positions: Float[Tensor, "k 4"]
    """Homogeneous: (x, y, z, 1) a position in the world, (x, y, z, 0) the unit direction towards a
    light at infinity."""
    intensity: Float[Tensor, "k 3"]
    """Irradiance of a surface that faces a light at infinity; else radiant intensity (power per
    solid angle), the irradiance at one metre."""
    spread: Float[Tensor, " k"]
    """Mean solid angle in units of 2 pi that a light stands for, 0 for true points. Highlights
    widen with it, so that a few lights in place of a whole map do not show as dots."""

    def __post_init__(self) -> None:
        """Reject what is not light."""
        if self.positions.shape[0] == 0:
            raise ValueError("a LightList needs at least one light")
        if not bool(((self.positions[:, 3] == 0) | (self.positions[:, 3] == 1)).all()):
            raise ValueError("positions must end in 0 (direction) or 1 (position)")
        for name in ("positions", "intensity", "spread"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ValueError(f"{name} of lights must be finite")
        if bool((self.intensity < 0).any()):
            raise ValueError(f"intensity must not be negative, got {float(self.intensity.min())}")

    def __len__(self) -> int:
        """Number of lights."""
        return self.positions.shape[0]

    def scaled(self, factor: float) -> LightList:
        """The same lights with ``factor`` times the intensity."""
        return LightList(self.positions, self.intensity * factor, self.spread)

    @staticmethod
    def cat(lists: list[LightList]) -> LightList:
        """All lights of several lists together."""
        return LightList(
            torch.cat([lights.positions for lights in lists]),
            torch.cat([lights.intensity for lights in lists]),
            torch.cat([lights.spread for lights in lists]),
        )


def directional_lights(
    directions: Float[Tensor, "k 3"], irradiance: Float[Tensor, "k 3"]
) -> LightList:
    """Lights at infinity.

    Args:
        directions: Towards the lights; any length but zero.
        irradiance: On a surface that faces the light.

    Raises:
        ValueError: If a direction is zero, or the irradiance is negative or not finite.
    """
    if bool((directions.norm(dim=1) < 1e-12).any()):
        raise ValueError("directions of lights must not be zero")
    return _list(normalize(directions, dim=1), 0.0, irradiance)


def point_lights(positions: Float[Tensor, "k 3"], intensity: Float[Tensor, "k 3"]) -> LightList:
    """Lights at positions in the world that shine equally in all directions.

    Args:
        positions: Metres.
        intensity: Radiant intensity: the irradiance on a facing surface at one metre.

    Raises:
        ValueError: If the intensity is negative or not finite.
    """
    return _list(positions, 1.0, intensity)


def _list(xyz: Float[Tensor, "k 3"], w: float, intensity: Float[Tensor, "k 3"]) -> LightList:
    count = xyz.shape[0]
    positions = torch.cat([xyz, xyz.new_full((count, 1), w)], dim=1)
    return LightList(positions, intensity, xyz.new_zeros(count))

"""Options that choose the light of generated heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.methods.gsheadrelight.light_sources import (
    LIGHT_SUFFIXES,
    MAP_SUFFIXES,
    MapLayout,
    NamedLight,
    exposed_environment_light,
    named_light,
    read_environment,
    read_light,
)
from vultus.methods.gsheadrelight.lights import turn_around_up
from vultus.render.lighting.envmap import EnvironmentMap

__all__ = ["LightOptions", "LightSource", "MapOptions"]


@dataclass(frozen=True)
class MapOptions:
    """How maps of surroundings are read, and how bright light is."""

    map_layout: MapLayout = "world"
    """What maps show where. world: light before the face stands at a quarter of the width;
    front_centered: it stands in the middle; release: mirrored, as GSHeadRelight's programs read
    maps."""
    exposure: float | None = None
    """Factor of the light. Default: 1 for coefficients; for a map what makes its largest
    coefficient 0.7, the published brightness."""
    yaw: float = 0.0
    """Turn the light around the head, in degrees: what came from the front then comes from the
    right of the picture at 90."""

    def __post_init__(self) -> None:
        """Reject light that cannot be."""
        if self.exposure is not None and not 0.0 < self.exposure < math.inf:
            raise ValueError(f"--exposure must be positive, got {self.exposure}")
        if not math.isfinite(self.yaw):
            raise ValueError(f"--yaw must be finite, got {self.yaw}")


@dataclass(frozen=True)
class LightSource:
    """A light with where it comes from."""

    name: str
    light: Float[Tensor, "9 c"]
    """In axes of the head."""
    environment: EnvironmentMap | None = None
    """What it is the light of, turned as the light is."""

    @staticmethod
    def open(text: str, options: MapOptions) -> LightSource:
        """Find a light by its name, or read it from a file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the text names no light, or the file holds none.
        """
        if text in get_args(NamedLight):
            return LightSource(text, named_light(cast("NamedLight", text))).changed(options)
        path = Path(text)
        suffix = path.suffix.lower()
        if suffix in MAP_SUFFIXES:
            return LightSource.of_map(path, options)
        if suffix not in LIGHT_SUFFIXES:
            known = ", ".join((*get_args(NamedLight), *LIGHT_SUFFIXES, *MAP_SUFFIXES))
            raise ValueError(f"a light must be one of {known}, got {text!r}")
        return LightSource(path.stem, read_light(path)).changed(options)

    @staticmethod
    def of_map(path: Path, options: MapOptions) -> LightSource:
        """Read a map of surroundings.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no such map, or black; names the file.
        """
        environment = read_environment(path, options.map_layout)
        try:
            light = exposed_environment_light(environment, options.exposure)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return LightSource(path.stem, light, environment).turned(math.radians(options.yaw))

    def changed(self, options: MapOptions) -> LightSource:
        """The light of coefficients with the options' brightness and direction."""
        exposure = 1.0 if options.exposure is None else options.exposure
        brighter = LightSource(self.name, exposure * self.light, self.environment)
        return brighter.turned(math.radians(options.yaw))

    def turned(self, angle: float) -> LightSource:
        """Turn light and surroundings around the head, from the front to the picture's right."""
        light = turn_around_up(self.light[None], torch.tensor([angle]))[0]
        environment = None if self.environment is None else self.environment.rotated(angle)
        return LightSource(self.name, light, environment)


@dataclass(frozen=True)
class LightOptions(MapOptions):
    """The one light that people are shown in."""

    light: str | None = None
    """front, left, right, above, below or even; or a file of 9 or 27 coefficients (.json of
    envmap-light, .npz, or .txt as DPR's). Default: front."""
    envmap: Path | None = None
    """Map of the surroundings (.hdr, .exr) that light people, instead of --light."""
    albedo: bool = False
    """Show people without any light."""

    def source(self) -> LightSource:
        """Find or read the light.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no light, or there are two.
        """
        if self.envmap is None:
            return LightSource.open(self.light or "front", self)
        if self.light is not None:
            raise ValueError(f"--light {self.light} and --envmap must not both be given")
        return LightSource.of_map(self.envmap, self)

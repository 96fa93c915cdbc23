"""Lights that generated heads are shown in: by name, from files, from maps of surroundings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.srgb import LUMINANCE
from vultus.data.light_labels import LIGHT_TERMS
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.geometry.spherical_harmonics import COSINE_LOBE, light_sh_basis
from vultus.methods.gsheadrelight.light_files import LIGHT_SUFFIXES, read_light
from vultus.methods.gsheadrelight.lights import (
    environment_light,
    turn_around_up,
    turn_around_view,
)
from vultus.methods.gsheadrelight.official_lights import official_environment_light
from vultus.methods.gsheadrelight.rendering import ShadeMode
from vultus.render.lighting.environments import MapLayout, read_environment
from vultus.render.lighting.envmap import (
    EnvironmentMap,
    envmap_directions,
    sample_envmap,
    to_mirrored,
)

__all__ = [
    "MAP_SUFFIXES",
    "LightSettings",
    "LightSource",
    "MapLight",
    "NamedLight",
    "TurnAxis",
    "exposed",
    "light_of_map",
    "named_light",
    "open_light",
    "open_lights",
    "published_map_light",
]

NamedLight = Literal["front", "left", "right", "above", "below", "even"]
"""A large lamp on one side of the picture with some light from everywhere, or only the latter."""
TurnAxis = Literal["up", "view"]
"""What lights turn around: the vertical, or the direction that a frontal camera looks in."""

MapLight = Literal["whole", "official", "official_ldr"]
"""How maps become light: integrated over the whole sphere, or as the release does it."""

MAP_SUFFIXES = (".exr", ".hdr")

_LAMPS: dict[str, tuple[float, float, float]] = {
    "front": (0.0, -1.0, 0.0),
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "above": (0.0, 0.0, 1.0),
    "below": (0.0, 0.0, -1.0),
}
"""Directions towards the lamp: to the right of the picture, into the scene, up."""
_LAMP_BRIGHTNESS, _FILL_BRIGHTNESS = 0.75, 0.25
"""Of a white matte surface that faces the lamp, and of one in the even light alone."""
_ALBEDO = "albedo"
"""Names no light at all."""
_LARGEST_TERM = 0.7
"""Published: what the largest coefficient of a map's light is scaled to."""


@dataclass(frozen=True)
class LightSettings:
    """How maps of surroundings are read, and how bright and from where light is."""

    map_layout: MapLayout = "world"
    """What maps show where. world: light before the face stands at a quarter of the width;
    front_centered: it stands in the middle; mirrored: as GSHeadRelight's programs read maps."""
    map_light: MapLight = "whole"
    """How maps become light. whole: integrated over all of the sphere; official: as GSHeadRelight's
    programs do it, blurred, reduced to 20 x 10, and dimmed if the largest coefficient is above 0.7;
    official_ldr: the same with their encoding in whole numbers up to 255 before."""
    exposure: float | None = None
    """Factor of the light. Default: 1 for coefficients and official lights; for a map integrated
    as a whole what makes its largest coefficient 0.7, the published brightness."""
    yaw: float = 0.0
    """Turn the light around the head, in degrees: what came from the front then comes from the
    right of the picture at 90."""

    def __post_init__(self) -> None:
        """Reject light that cannot be."""
        if self.exposure is not None and not 0.0 < self.exposure < math.inf:
            raise ValueError(f"exposure must be positive, got {self.exposure}")
        if not math.isfinite(self.yaw):
            raise ValueError(f"yaw must be finite, got {self.yaw}")

    def check_maps(self, *, has_map: bool) -> None:
        """Reject what says how maps are read where there is none.

        Raises:
            ValueError: Naming the setting.
        """
        if has_map:
            return
        for name in ("map_layout", "map_light"):
            value = getattr(self, name)
            if value != getattr(LightSettings, name):
                raise ValueError(f"{name} {value} needs a map of surroundings (.exr, .hdr)")


@dataclass(frozen=True)
class LightSource:
    """A light with where it comes from."""

    name: str
    light: Float[Tensor, "9 c"]
    """In axes of the head."""
    environment: EnvironmentMap | None = None
    """What it is the light of, as bright as the light is."""
    mode: ShadeMode = "lit"
    """What is shown of heads in it."""

    def gray(self) -> LightSource:
        """The same in one channel, as bright."""
        if self.light.shape[1] == 1:
            return self
        luminance = self.light @ self.light.new_tensor(LUMINANCE)[:, None]
        return replace(self, light=luminance)

    def turned(self, angle: float, axis: TurnAxis = "up") -> LightSource:
        """Turn light and surroundings around the head.

        Args:
            angle: In radians.
            axis: Up: from the front to the picture's right. View: from the right to above, as the
                lights turn that are published beside the release.
        """
        if axis == "up":
            light = turn_around_up(self.light[None], torch.tensor([angle]))[0]
        else:
            light = turn_around_view(self.light, angle)
        environment = self.environment
        if environment is not None and axis == "up":
            environment = environment.rotated(angle)
        elif environment is not None:
            environment = _rolled(environment, angle)
        return replace(self, light=light, environment=environment)


def open_light(text: str, settings: LightSettings) -> LightSource:
    """Find a light by its name, or read it from a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the text names no light, or the file holds none.
    """
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix in MAP_SUFFIXES:
        return light_of_map(path, settings)
    if text == _ALBEDO:
        return LightSource(text, named_light("even"), mode="albedo")
    if text in get_args(NamedLight):
        name, light = text, named_light(cast("NamedLight", text))
    elif suffix in LIGHT_SUFFIXES:
        name, light = path.stem, read_light(path)
    else:
        known = ", ".join((*get_args(NamedLight), _ALBEDO, *LIGHT_SUFFIXES, *MAP_SUFFIXES))
        raise ValueError(f"a light must be one of {known}, got {text!r}")
    exposure = 1.0 if settings.exposure is None else settings.exposure
    return LightSource(name, exposure * light).turned(math.radians(settings.yaw))


def open_lights(texts: Sequence[str], settings: LightSettings) -> list[LightSource]:
    """Find or read several lights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a text names no light, or a file holds none; if there is no map for the
            settings of maps.
    """
    settings.check_maps(has_map=any(Path(text).suffix.lower() in MAP_SUFFIXES for text in texts))
    return [open_light(text, settings) for text in texts]


def light_of_map(path: Path, settings: LightSettings) -> LightSource:
    """Read a map of surroundings.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such map, or black; names the file.
    """
    environment = read_environment(path, settings.map_layout)
    try:
        if settings.map_light == "whole":
            environment = exposed(environment, settings.exposure)
            light = environment_light(environment)
        else:
            is_low_range = settings.map_light == "official_ldr"
            exposure = 1.0 if settings.exposure is None else settings.exposure
            light, environment = published_map_light(
                environment, exposure, is_low_range=is_low_range
            )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return LightSource(path.stem, light, environment).turned(math.radians(settings.yaw))


def named_light(name: NamedLight) -> Float[Tensor, "9 1"]:
    """One of a few lights; white surfaces that face its lamp have brightness 1.

    A lamp is a hemisphere that is brightest in its middle, by the cosine.
    """
    even = torch.zeros(LIGHT_TERMS)
    even[0] = math.sqrt(4.0 * math.pi) / math.pi
    if name == "even":
        return even[:, None]
    basis = light_sh_basis(torch.tensor(_LAMPS[name]), 2)
    # The integral of the squared cosine over a hemisphere is 2 pi / 3.
    lamp = (1.5 * _LAMP_BRIGHTNESS / math.pi) * torch.tensor(COSINE_LOBE) * basis
    return (lamp + _FILL_BRIGHTNESS * even)[:, None]


def exposed(environment: EnvironmentMap, exposure: float | None = None) -> EnvironmentMap:
    """A map at a useful brightness.

    Its light is integrated over all of the sphere, so nothing is blurred before, as the release
    does, and no border of the map plays a part.

    Args:
        environment: Where the light comes from.
        exposure: Factor of the radiance; None makes the largest coefficient of the light 0.7 (the
            release only ever scales down, and does so before the division by pi).

    Raises:
        ValueError: If the map is black and no exposure is given.
    """
    if exposure is None:
        largest = float(environment_light(environment).max())
        if not largest > 0.0:
            raise ValueError("exposure must be given for a map that is black")
        exposure = _LARGEST_TERM / largest
    return environment.scaled(exposure)


def published_map_light(
    environment: EnvironmentMap, exposure: float = 1.0, *, is_low_range: bool = False
) -> tuple[Float[Tensor, "9 3"], EnvironmentMap]:
    """Light of a map as the release makes it, and the map at the mean brightness of that light.

    Args:
        environment: Where the light comes from.
        exposure: Factor of both.
        is_low_range: See ``official_environment_light``.

    Raises:
        ValueError: If the map is black.
    """
    light = exposure * official_environment_light(
        to_mirrored(environment.radiance[None])[0], is_low_range=is_low_range
    )
    mean, own = float(light[0].mean()), float(environment_light(environment)[0].mean())
    if not (mean > 0.0 and own > 0.0):
        raise ValueError("a map that is black has no light")
    return light, environment.scaled(mean / own)


def _rolled(environment: EnvironmentMap, angle: float) -> EnvironmentMap:
    """Turn a map about +z of the world by the right-hand rule."""
    height, width = environment.radiance.shape[1:]
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, angle]))
    came_from = (envmap_directions(height, width) @ turn).flatten(0, 1)
    found = sample_envmap(environment.radiance[None], came_from[None])[0]
    return EnvironmentMap(found.T.unflatten(1, (height, width)).contiguous())

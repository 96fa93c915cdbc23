"""The studio's own lights, and exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.studio.tone_curve import Film
from vultus.render.lighting.environments import MapLayout, read_environment
from vultus.render.lighting.envmap import (
    EnvironmentMap,
    envmap_directions,
    envmap_solid_angles,
)

__all__ = [
    "BUILT_IN_LIGHTS",
    "LightOrientation",
    "auto_exposure",
    "load_light",
    "open_light",
    "studio_light",
]

LightOrientation = Literal["vultus", "front_centered"]
"""``front_centered``: the centre column lies before the face, as Poly Haven's maps are used."""

_LAYOUTS: dict[LightOrientation, MapLayout] = {
    "vultus": "world",
    "front_centered": "front_centered",
}

_WHITE_LEVEL = 0.85
"""Linear brightness of a white matte board in front of the face after ``auto_exposure``; skin then
lies between 0.1 and 0.5."""

_MAX_RADIANCE_RATIO = 60.0
_BOARDS = (8, 16)
"""Rows and columns of directions that a board is turned to."""
_HEIGHT = 32

_Color = tuple[float, float, float]


@dataclass(frozen=True)
class _Room:
    """Walls that change evenly from floor to ceiling, and round lamps with soft rims."""

    ceiling: _Color
    """Radiance."""
    floor: _Color
    lamps: tuple[tuple[_Color, float, float, _Color], ...]
    """Direction towards the lamp, angular radius, softness (radians) and radiance."""


_PORTRAIT = _Room(
    (0.34, 0.35, 0.37),
    (0.16, 0.15, 0.14),
    (
        ((0.75, 0.55, 0.75), 0.42, 0.10, (9.0, 8.4, 7.6)),
        ((-0.9, 0.15, 0.7), 0.55, 0.20, (1.9, 2.1, 2.5)),
        ((-0.6, 0.75, -0.8), 0.30, 0.08, (6.0, 6.2, 6.6)),
        ((0.0, 1.0, 0.1), 0.60, 0.30, (1.1, 1.1, 1.1)),
    ),
)
_BUILT_IN = {
    "left": _Room(
        (0.10, 0.11, 0.14),
        (0.05, 0.05, 0.05),
        (((1.0, 0.25, 0.45), 0.35, 0.08, (12.0, 10.0, 8.0)),),
    ),
    "right": _Room(
        (0.12, 0.10, 0.09),
        (0.06, 0.05, 0.05),
        (((-1.0, 0.25, 0.45), 0.35, 0.08, (7.0, 9.0, 12.0)),),
    ),
    "top": _Room(
        (0.35, 0.35, 0.35), (0.10, 0.09, 0.08), (((0.0, 1.0, 0.35), 0.50, 0.10, (6.0, 6.0, 5.6)),)
    ),
    "sky": _Room((0.75, 0.95, 1.30), (0.45, 0.36, 0.26), ()),
}
BUILT_IN_LIGHTS = tuple(_BUILT_IN)
"""Lights made by code, named as the subject sees them: the lamp of ``left`` is at its left."""


def studio_light(height: int = _HEIGHT) -> EnvironmentMap:
    """A portrait light: warm key from the subject's upper left, cool fill, rim, soft ceiling."""
    return _light_of(_PORTRAIT, height)


def open_light(name_or_file: str, orientation: LightOrientation) -> tuple[str, EnvironmentMap]:
    """Open a light by name, or by file as ``load_light`` does.

    Returns:
        Its name, which is that of a file without its suffix, and the map.

    Raises:
        FileNotFoundError: If it is neither.
        ValueError: As ``load_light``.
    """
    if name_or_file in _BUILT_IN:
        return name_or_file, _light_of(_BUILT_IN[name_or_file], _HEIGHT)
    path = Path(name_or_file)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a light is a file or one of {', '.join(_BUILT_IN)}"
        )
    return path.stem, load_light(path, orientation)


def load_light(path: Path, orientation: LightOrientation) -> EnvironmentMap:
    """Read an equirectangular map; radiance is cut at 60 times the mean.

    A sun of one texel would cast one jagged shadow where visibility is baked.

    Args:
        path: ``.exr`` or ``.hdr``, linear.
        orientation: Of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is not twice as wide as high, or holds no light.
    """
    light = read_environment(path, _LAYOUTS[orientation])
    if not bool((light.radiance > 0).any()):
        raise ValueError(f"{path}: holds no light")
    return light.limited(_MAX_RADIANCE_RATIO)


def auto_exposure(light: EnvironmentMap, film: Film = "studio") -> float:
    """Factor on the light that makes a white board appear bright, not burnt.

    The board is before the face. For a film that clips, it also turns to where it is brightest, so
    that what faces a lamp at the side is not burnt either.
    """
    front = torch.tensor([[0.0, 0.0, 1.0]])
    facing = envmap_directions(*_BOARDS).reshape(-1, 3) if film == "srgb" else front
    radiance: Float[Tensor, "3 h w"] = light.radiance
    height, width = radiance.shape[1:]
    directions = envmap_directions(height, width).reshape(-1, 3)
    energy = radiance.mean(dim=0) * envmap_solid_angles(height, width) / math.pi
    brightness = (facing @ directions.T).clamp_min(0) @ energy.flatten()
    if float(brightness.max()) <= 0:
        raise ValueError("light leaves the face dark; give an exposure or turn the light")
    return _WHITE_LEVEL / float(brightness.max())


def _light_of(room: _Room, height: int) -> EnvironmentMap:
    directions = envmap_directions(height, 2 * height)
    up = 0.5 + 0.5 * directions[..., 1:2]
    radiance = up * torch.tensor(room.ceiling) + (1 - up) * torch.tensor(room.floor)
    for toward, radius, softness, color in room.lamps:
        axis = torch.nn.functional.normalize(torch.tensor(toward), dim=0)
        angle = torch.arccos((directions @ axis).clamp(-1, 1))
        inside = torch.sigmoid((radius - angle) / (0.25 * softness))
        radiance = radiance + inside[..., None] * torch.tensor(color)
    return EnvironmentMap(radiance.permute(2, 0, 1).contiguous())

"""Environment maps from files, a few made here, and what a camera sees of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.core.image_io import read_radiance
from vultus.geometry.cameras import Camera, pixel_directions
from vultus.render.lighting.envmap import (
    EnvironmentMap,
    envmap_directions,
    from_front_centered,
    from_mirrored,
    sample_envmap,
)
from vultus.render.lighting.resampling import resize_envmap

__all__ = [
    "EnvironmentName",
    "MapLayout",
    "made_environment",
    "read_environment",
    "see_surroundings",
]

MapLayout = Literal["world", "front_centered", "mirrored"]
"""Where a map shows what is before the face: at a quarter of its width, as in
``render.lighting.envmap``; in the centre, as Poly Haven's are used; or at three quarters, left and
right exchanged, as GSHeadRelight's programs read maps."""

EnvironmentName = Literal["constant", "gradient", "sun", "three_point"]
"""White everywhere; bright sky over dark ground; a small warm sun; key, fill and rim lamps."""

_SKY, _GROUND = (1.4, 1.5, 1.6), (0.35, 0.3, 0.25)
_FINE_ROWS = 256
"""Maps are made at this size and averaged down: light does not depend on the size asked for."""
_LAMP_EDGE = 0.01
"""Radians."""
_DIM = 0.12
"""Of the sky and ground around lamps."""

_Lamp = tuple[tuple[float, float, float], float, tuple[float, float, float]]

_LAMPS: dict[str, tuple[_Lamp, ...]] = {
    "sun": (((0.6, 0.6, 0.55), 0.12, (220.0, 200.0, 170.0)),),
    "three_point": (
        ((0.75, 0.5, 0.7), 0.35, (16.0, 15.0, 13.5)),
        ((-0.9, 0.1, 0.5), 0.5, (2.4, 2.7, 3.2)),
        ((-0.4, 0.6, -0.9), 0.3, (9.0, 9.3, 10.0)),
    ),
}
"""Direction towards the lamp in the world, angular radius in radians, radiance."""


def read_environment(
    path: Path, layout: MapLayout = "world", exposure: float = 1.0
) -> EnvironmentMap:
    """Read an equirectangular map (``.hdr``, ``.exr``), linear.

    Args:
        path: The file.
        layout: How the map lies in it.
        exposure: Factor on its radiance.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is not twice as wide as high, or holds what is no light.
    """
    radiance = read_radiance(path)
    height, width = radiance.shape[1:]
    if width != 2 * height:
        raise ValueError(f"{path}: must be twice as wide as high, got {width} x {height}")
    try:
        if layout == "front_centered":
            radiance = from_front_centered(radiance[None])[0]
        elif layout == "mirrored":
            radiance = from_mirrored(radiance[None])[0]
        return EnvironmentMap(radiance).scaled(exposure)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def made_environment(name: EnvironmentName, height: int = 64) -> EnvironmentMap:
    """One of a few maps for looking at a head; the world's +z is before the face.

    Args:
        name: Which one.
        height: Rows; twice as many columns.
    """
    if name == "constant":
        return EnvironmentMap.constant((1.0, 1.0, 1.0), height)
    directions = envmap_directions(_FINE_ROWS, 2 * _FINE_ROWS)
    up = (0.5 + 0.5 * directions[..., 1])[..., None]
    radiance = up * torch.tensor(_SKY) + (1.0 - up) * torch.tensor(_GROUND)
    if name in _LAMPS:
        radiance = _DIM * radiance
    for toward, radius, color in _LAMPS.get(name, ()):
        angle = torch.arccos((directions @ normalize(torch.tensor(toward), dim=0)).clamp(-1, 1))
        lamp = torch.sigmoid((radius - angle) / _LAMP_EDGE)
        radiance = radiance + lamp[..., None] * torch.tensor(color)
    return EnvironmentMap(resize_envmap(radiance.permute(2, 0, 1)[None], height, 2 * height)[0])


def see_surroundings(
    radiance: Float[Tensor, "3 h w"],
    camera: Camera,
    light_to_world: Float[Tensor, "b 3 3"],
) -> Float[Tensor, "b 3 height width"]:
    """Look a map up along the ray of every pixel: the background that lights the head.

    Args:
        radiance: Of any size, in the convention of ``render.lighting.envmap``.
        camera: One per frame; where it stands does not matter.
        light_to_world: Rotations from the map's frame into the world.
    """
    to_camera = camera.world_to_camera[:, :3, :3]
    rays = pixel_directions(camera).flatten(1, 2)
    # Rows times a rotation are its transpose times columns: world, then the map's frame.
    seen = rays @ to_camera @ light_to_world
    found = sample_envmap(radiance[None].expand(len(camera), -1, -1, -1), seen)
    return found.mT.unflatten(2, (camera.height, camera.width))

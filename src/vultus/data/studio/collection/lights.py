"""Random surroundings whose light is known exactly.

All lights of a collection stand at the same directions: visibility that was found for one of them
serves every other one.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.spherical_harmonics import light_sh_basis, light_sh_rotation
from vultus.render.lighting.envmap import envmap_directions, envmap_solid_angles
from vultus.render.lighting.lights import LightList

__all__ = ["camera_light_sh", "draw_light", "irradiance_on", "world_light_sh"]

_MAP_HEIGHT = 32
_SH_DEGREE = 2
_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
# Lamps: how many and how often; angular radius (radians), strength against the surroundings.
_NUM_LAMPS = ((0, 0.12), (1, 0.38), (2, 0.32), (3, 0.18))
_LAMP_RADIUS = (0.3, 0.8)
_LAMP_STRENGTH = (2.0, 14.0)
_KEY_SPREAD = 1.1
"""Standard deviation (radians) of the lamps' azimuth around the camera's: what a camera sees is
mostly lit from its own side."""
_WHITE_LEVEL = (0.5, 1.0)
"""Brightness of a white matte board that faces the camera: exposure suits the picture."""


def draw_light(rng: np.random.Generator, count: int, camera_azimuth: float) -> LightList:
    """Draw surroundings as seen by a camera, and lights that stand in for them.

    Args:
        rng: Drawn from.
        count: Of the lights, whose directions are always the same.
        camera_azimuth: Angle of the camera around +y from +z towards +x.
    """
    directions, solid_angles, nearest = _lattice_cells(count)
    radiance = _draw_radiance(rng, directions, camera_azimuth)
    centers = _lattice(count)
    energy = radiance * solid_angles[:, None]
    intensity = torch.zeros(count, 3, dtype=torch.float64).index_add_(0, nearest, energy)
    toward_camera = torch.tensor([math.sin(camera_azimuth), 0.0, math.cos(camera_azimuth)])
    board = irradiance_on(toward_camera.double(), centers, intensity).mean() / math.pi
    intensity = intensity * (rng.uniform(*_WHITE_LEVEL) / board)
    positions = torch.cat([centers, torch.zeros(count, 1, dtype=torch.float64)], dim=1)
    # The mean light of ``count`` stands for 4 pi / count.
    return LightList(positions.float(), intensity.float(), torch.full((count,), 2.0 / count))


def irradiance_on(
    normal: Float[Tensor, 3], directions: Float[Tensor, "k 3"], intensity: Float[Tensor, "k 3"]
) -> Float[Tensor, 3]:
    """Light that falls onto a surface under lights at infinity, none of them hidden."""
    return (directions @ normal).clamp(min=0.0) @ intensity


def world_light_sh(lights: LightList) -> Float[Tensor, "9 3"]:
    """Project lights at infinity onto the basis of ``light_sh_basis``, world axes.

    The radiance is divided by pi: summed with the cosine lobe's factors pi, 2 pi / 3 and pi / 4 it
    gives the brightness of a white matte surface, as in DPR's labels.
    """
    basis = light_sh_basis(lights.positions[:, :3].double(), _SH_DEGREE)
    return (basis.T @ lights.intensity.double() / math.pi).float()


def camera_light_sh(
    world_sh: Float[Tensor, "9 3"], camera_to_world: Float[Tensor, "4 4"]
) -> Float[Tensor, "9 3"]:
    """Turn a light into the axes of GSHeadRelight's labels (DPR's).

    They are the camera's: X to the right of the picture, Y into the scene, Z up.
    """
    right, down, forward = camera_to_world[:3, :3].double().unbind(dim=1)
    to_label = torch.stack([right, forward, -down])
    return (light_sh_rotation(to_label, _SH_DEGREE) @ world_sh.double()).float()


def _draw_radiance(
    rng: np.random.Generator, directions: Float[Tensor, "n 3"], camera_azimuth: float
) -> Float[Tensor, "n 3"]:
    """Ceiling, floor and some round lamps with soft rims."""
    up = 0.5 + 0.5 * directions[:, 1:2]
    ceiling = rng.uniform(0.5, 1.2) * _draw_white(rng, 0.10)
    floor = rng.uniform(0.15, 0.6) * _draw_white(rng, 0.12)
    radiance = up * ceiling + (1 - up) * floor
    counts, shares = zip(*_NUM_LAMPS, strict=True)
    for _ in range(rng.choice(counts, p=shares)):
        azimuth = camera_azimuth + rng.normal(0.0, _KEY_SPREAD)
        height = rng.uniform(-0.25, 0.95)
        ring = math.sqrt(1 - height * height)
        toward = [ring * math.sin(azimuth), height, ring * math.cos(azimuth)]
        radius = rng.uniform(*_LAMP_RADIUS)
        strength = math.exp(rng.uniform(*np.log(_LAMP_STRENGTH)))
        angle = torch.arccos((directions @ directions.new_tensor(toward)).clamp(-1, 1))
        inside = torch.sigmoid((radius - angle) / (0.15 * radius))[:, None]
        # Small lamps are brighter: the light that they give varies less than their size.
        lamp = strength * (_LAMP_RADIUS[0] / radius) * _draw_white(rng, 0.12)
        radiance = radiance + inside * lamp
    return radiance


def _draw_white(rng: np.random.Generator, spread: float) -> Float[Tensor, 3]:
    """A white between warm and cool, with some tint."""
    warmth, tint = rng.normal(0.0, spread), rng.normal(0.0, 0.25 * spread)
    return torch.tensor([1 + warmth, 1 + tint, 1 - warmth], dtype=torch.float64).clamp(min=0.3)


@lru_cache(maxsize=4)
def _lattice(count: int) -> Float[Tensor, "k 3"]:
    """Directions of a Fibonacci lattice."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    height = 1.0 - 2.0 * index / count
    ring = (1.0 - height * height).sqrt()
    turn = index * _GOLDEN_ANGLE
    return torch.stack([ring * turn.cos(), height, ring * turn.sin()], dim=1)


@lru_cache(maxsize=4)
def _lattice_cells(
    count: int,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Directions and solid angles of a map's texels, and the light that each belongs to."""
    directions = envmap_directions(_MAP_HEIGHT, 2 * _MAP_HEIGHT).double().reshape(-1, 3)
    directions = normalize(directions, dim=1)
    solid_angles = envmap_solid_angles(_MAP_HEIGHT, 2 * _MAP_HEIGHT).double().reshape(-1)
    return directions, solid_angles, (directions @ _lattice(count).T).argmax(dim=1)

"""Cameras and lights of films of generated heads."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.camera_labels import look_at_labels
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.methods.gsheadrelight.lights import turn_around_up, turn_light

__all__ = ["OFFICIAL_FOCAL", "film_labels", "lights_around_up", "lights_around_view"]

OFFICIAL_FOCAL = 4.2647
"""Of the camera labels of faces, in units of the image's side."""
_DISTANCE = 2.7
_TARGET = (0.0, 0.0, 0.2)
_SWING = 0.35
_HEIGHT, _RISE = 0.05, 0.25
"""Published offsets v of heights, which are 2 v / pi times the distance."""


def film_labels(count: int, focal: float = OFFICIAL_FOCAL) -> Float[Tensor, "n 25"]:
    """The published path of films: to and fro, up and down before the face; it loops."""
    turn = torch.arange(count) * (2.0 * math.pi / count)
    height = (_HEIGHT - _RISE * turn.cos()) * (2.0 / math.pi)
    target = torch.tensor(_TARGET)
    yaw = _SWING * turn.sin()
    return look_at_labels(yaw, height, target=target, radius=_DISTANCE, focal=focal)


def lights_around_up(light: Float[Tensor, "9 c"], count: int) -> Float[Tensor, "n 9 c"]:
    """Turn a light around the head in equal steps, the given one first."""
    angles = torch.arange(count, device=light.device) * (2.0 * math.pi / count)
    return turn_around_up(light.expand(count, -1, -1), angles.to(light.dtype))


def lights_around_view(light: Float[Tensor, "9 c"], count: int) -> Float[Tensor, "n 9 c"]:
    """Turn a light around the axis into the scene in equal steps, from X towards Z.

    The lights that are published beside the release are seven such steps.
    """
    lights = []
    for step in range(count):
        angle = -2.0 * math.pi * step / count
        turn = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0], dtype=torch.float64))
        lights.append(turn_light(light, turn))
    return torch.stack(lights)

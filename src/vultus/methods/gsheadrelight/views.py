"""Lights that turn around generated heads in equal steps."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.methods.gsheadrelight.lights import turn_around_up, turn_light

__all__ = ["lights_around_up", "lights_around_view"]


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

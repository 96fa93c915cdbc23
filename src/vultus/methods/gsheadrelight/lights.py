"""Lights of generated heads: their axes, their labels, where they come from.

A light is 9 coefficients of ``light_sh_basis`` for one or three colour channels, radiance over pi:
summed with the factors of a cosine lobe it is the brightness of a white matte surface. Inside this
method its axes are those of a label seen by a frontal camera (DPR's): X to the right of the
picture, Y into the scene, Z up. Elsewhere it is in axes of the world; only ``world_to_head_light``
leads from one to the other.

Reference: Zhou et al., Deep Single-Image Portrait Relighting, 2019 (labels).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.light_labels import HEAD_AXES, LIGHT_TERMS
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.geometry.spherical_harmonics import COSINE_LOBE, light_sh_basis, light_sh_rotation
from vultus.render.lighting.envmap import (
    EnvironmentMap,
    envmap_directions,
    envmap_solid_angles,
)

__all__ = [
    "environment_light",
    "head_to_world_light",
    "labels_to_light",
    "light_to_labels",
    "lit_ball",
    "turn_around_up",
    "turn_around_view",
    "turn_light",
    "world_to_head_light",
]

_DEGREE = 2
_BRIGHTEST_SHARE = 0.05


def labels_to_light(labels: Float[Tensor, "b l"]) -> Float[Tensor, "b 9 c"]:
    """Unpack labels of 9 numbers, or of 27, coefficient by coefficient.

    Raises:
        ValueError: If they have another length.
    """
    if labels.shape[1] not in (LIGHT_TERMS, 3 * LIGHT_TERMS):
        raise ValueError(f"labels must have 9 or 27 numbers, got {labels.shape[1]}")
    return labels.unflatten(1, (LIGHT_TERMS, -1))


def light_to_labels(light: Float[Tensor, "b 9 c"]) -> Float[Tensor, "b l"]:
    """Undo ``labels_to_light``."""
    return light.flatten(1)


def turn_light(
    light: Float[Tensor, "*b 9 c"], rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "*b 9 c"]:
    """Turn a light: what came from d then comes from ``rotation @ d``, in the light's own axes."""
    return light_sh_rotation(rotation, _DEGREE).to(light) @ light


def turn_around_up(
    light: Float[Tensor, "b 9 c"], angles: Float[Tensor, " b"]
) -> Float[Tensor, "b 9 c"]:
    """Turn lights in axes of the head around Z, each by its own angle, from X towards Y."""
    once, twice = (torch.stack([(m * angles).cos(), (m * angles).sin()])[..., None] for m in (1, 2))
    constant, y, z, x, xy, yz, zz, xz, xx = light.unbind(dim=1)

    def turned(cosine: Tensor, sine: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Terms of cos(m a) and of sin(m a), for azimuths a."""
        return turn[0] * cosine - turn[1] * sine, turn[1] * cosine + turn[0] * sine

    x, y = turned(x, y, once)
    xz, yz = turned(xz, yz, once)
    xx, xy = turned(xx, xy, twice)
    return torch.stack([constant, y, z, x, xy, yz, zz, xz, xx], dim=1)


def turn_around_view(light: Float[Tensor, "*b 9 c"], angle: float) -> Float[Tensor, "*b 9 c"]:
    """Turn a light in axes of the head around the axis into the scene, from X towards Z.

    The lights that are published beside the release are seven equal steps of a turn.
    """
    turn = axis_angle_to_matrix(torch.tensor([0.0, -angle, 0.0], dtype=torch.float64))
    return turn_light(light, turn)


def world_to_head_light(light_sh: Float[Tensor, "*b 9 c"]) -> Float[Tensor, "*b 9 c"]:
    """Convert a light in axes of the world."""
    return turn_light(light_sh, torch.tensor(HEAD_AXES, dtype=torch.float64))


def head_to_world_light(light: Float[Tensor, "*b 9 c"]) -> Float[Tensor, "*b 9 c"]:
    """Undo ``world_to_head_light``."""
    return turn_light(light, torch.tensor(HEAD_AXES, dtype=torch.float64).T)


def environment_light(environment: EnvironmentMap, exposure: float = 1.0) -> Float[Tensor, "9 3"]:
    """Light of an environment map, in axes of the head.

    Args:
        environment: Turn it by ``rotated`` before, or its light by ``turn_light`` afterwards.
        exposure: Factor of the light.
    """
    height, width = environment.radiance.shape[1:]
    basis = light_sh_basis(envmap_directions(height, width).double(), _DEGREE)
    energy = environment.radiance.double().cpu() * envmap_solid_angles(height, width)
    light_sh = torch.einsum("hwk,chw->kc", basis, energy) * (exposure / math.pi)
    return world_to_head_light(light_sh).to(environment.radiance)


def lit_ball(light: Float[Tensor, "9 c"], size: int = 256) -> Float[Tensor, "c s s"]:
    """A white matte ball in a light, seen from the front, in [0, 1]; black around it.

    The brightest 5 % of the picture are cut off, as in previews of DPR.
    """
    x = torch.linspace(-1.0, 1.0, size, dtype=light.dtype, device=light.device)
    up, right = torch.meshgrid(-x, x, indexing="ij")
    square = right.square() + up.square()
    depth = (1.0 - square).clamp(min=0.0).sqrt()
    normals = torch.stack([right, -depth, up], dim=-1)
    lobe = light.new_tensor(COSINE_LOBE)
    ball = ((light_sh_basis(normals, _DEGREE) * lobe) @ light).permute(2, 0, 1)
    ball = torch.where(square <= 1.0, ball, 0.0)
    # torch.quantile takes no more than 2**24 numbers.
    rank = ball.numel() - int(_BRIGHTEST_SHARE * ball.numel())
    brightest = ball.flatten().kthvalue(rank).values
    return ball.clamp(max=float(brightest)).clamp(0.0, 1.0)

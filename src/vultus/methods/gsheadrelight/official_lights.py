"""Lights as the release makes them from pictures of surroundings, for its checkpoints.

Its maps have +Z (up) in the first row, +X in the first column, then +Y (away from the viewer) a
quarter of the width further: the axes of a head's light. Radiance is not divided by pi.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from vultus.geometry.spherical_harmonics import light_sh_basis

__all__ = ["official_environment_light", "official_expansion", "official_small_map"]

_SMALL_SIZE = (10, 20)
_BLUR_SHARE = 0.1
_GAMMA = 0.45
_BRIGHTNESS = 0.7
_DEGREE = 2


def official_environment_light(
    envmap: Float[Tensor, "3 h w"], *, is_low_range: bool = False
) -> Float[Tensor, "9 3"]:
    """Light of a map: blurred, reduced, expanded, and scaled down if too bright.

    Args:
        envmap: Linear radiance in the release's orientation.
        is_low_range: Encode and clip the reduced map to whole numbers up to 255 first.
    """
    small = official_small_map(envmap)
    if is_low_range:
        small = (small.clamp(min=0.0).pow(_GAMMA).clamp(0.0, 1.0) * 255.0).floor()
    light = official_expansion(small)
    return light * (_BRIGHTNESS / light.max().clamp(min=_BRIGHTNESS))


def official_small_map(envmap: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 10 20"]:
    """Blur a map without regard to its seam, and reduce it without regard to aliasing."""
    radius = math.floor(_BLUR_SHARE * envmap.shape[1])
    blurred = envmap[:, None]
    if radius:
        offsets = torch.arange(-radius, radius + 1, dtype=envmap.dtype, device=envmap.device)
        kernel = (-0.5 * (offsets / (0.5 * radius)).square()).exp()
        kernel = kernel / kernel.sum()
        blurred = pad(blurred, (radius,) * 4, mode="reflect")
        blurred = conv2d(blurred, kernel[None, None, :, None])
        blurred = conv2d(blurred, kernel[None, None, None])
    small = interpolate(blurred, _SMALL_SIZE, mode="bilinear", align_corners=False)
    return small[:, 0]


def official_expansion(envmap: Float[Tensor, "c n m"]) -> Float[Tensor, "9 c"]:
    """Expand a map of n rows and 2 n columns, whose first row is the pole.

    Raises:
        ValueError: If it is not twice as wide as high.

    Reference: Driscoll and Healy, Computing Fourier Transforms and Convolutions on the 2-Sphere,
    1994, theorem 3.
    """
    rows, columns = envmap.shape[1:]
    if columns != 2 * rows:
        raise ValueError(f"envmap must be twice as wide as high, got {columns} x {rows}")
    polar = torch.arange(rows, dtype=torch.float64) * (math.pi / rows)
    azimuth = torch.arange(columns, dtype=torch.float64) * (math.pi / rows)
    odd = 2.0 * torch.arange(rows // 2, dtype=torch.float64) + 1.0
    series = ((odd * polar[:, None]).sin() / odd).sum(dim=1)
    weights = (4.0 * math.pi / rows**2) * polar.sin() * series
    polar, azimuth = torch.meshgrid(polar, azimuth, indexing="ij")
    ring = polar.sin()
    directions = torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), polar.cos()], dim=-1)
    basis = light_sh_basis(directions, _DEGREE) * weights[:, None, None]
    return torch.einsum("hwk,chw->kc", basis.to(envmap), envmap)

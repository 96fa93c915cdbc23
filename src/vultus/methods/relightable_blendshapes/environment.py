"""The unknown light of a capture: its parameters, and what keeps it plausible.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from vultus.core.srgb import LUMINANCE

__all__ = [
    "light_energy",
    "light_variation",
    "radiance_to_raw",
    "raw_to_radiance",
]

_LEAST_RADIANCE = 1e-6
"""Of a texel that can be lit again: softplus of -13.8. Also what logarithms start from."""


def raw_to_radiance(raw: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """Activate stored texels: softplus, so that light is never negative [3.7]."""
    return softplus(raw)


def radiance_to_raw(radiance: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """Invert ``raw_to_radiance``; radiance below 1e-6 becomes 1e-6."""
    bounded = radiance.clamp(min=_LEAST_RADIANCE)
    # log(e^x - 1) without the overflow of e^x.
    return bounded + torch.log(-torch.expm1(-bounded))


def light_variation(radiance: Float[Tensor, "3 h w"]) -> Float[Tensor, ""]:
    """Mean difference of neighbours' logarithms, across the seam but not over the poles [5.2]."""
    logs = radiance.clamp(min=_LEAST_RADIANCE).log()
    across = (logs - logs.roll(1, dims=2)).abs().mean()
    return across + logs.diff(dim=1).abs().mean() if radiance.shape[1] > 1 else across


def light_energy(
    radiance: Float[Tensor, "3 h w"], solid_angles: Float[Tensor, " t"]
) -> Float[Tensor, ""]:
    """Square of mean luminance minus 1, which fixes the scale that albedo leaves open [5.3]."""
    shares = solid_angles / solid_angles.sum()
    red, green, blue = (radiance.flatten(1) * shares).sum(dim=1).unbind()
    r, g, b = LUMINANCE
    return (r * red + g * green + b * blue - 1.0).square()

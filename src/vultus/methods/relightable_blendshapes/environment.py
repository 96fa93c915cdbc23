"""The unknown light of a capture: its parameters, and what keeps it plausible.

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, softplus

from vultus.core.srgb import LUMINANCE

__all__ = [
    "light_cosines",
    "light_energy",
    "light_variation",
    "radiance_to_raw",
    "raw_to_radiance",
]

_LEAST_RADIANCE = 1e-6
"""Of a texel that can be lit again: softplus of -13.8. Also what logarithms start from."""

_JUST_BELOW = 0.999
"""In even light the mean is off by its rounding."""


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


def light_cosines(found: Float[Tensor, "3 h w"], true: Float[Tensor, "3 h w"]) -> dict[str, float]:
    """How alike two maps are, whatever their brightness [10.1].

    Returns:
        Cosines over all texels, and over those that are lit: at least as bright as the mean of the
        true map.
    """
    luminance = torch.einsum("c,chw->hw", true.new_tensor(LUMINANCE), true)
    is_lit = luminance >= _JUST_BELOW * luminance.mean()
    parts = {
        "light_cosine": (found.flatten(), true.flatten()),
        "lit_light_cosine": (found[:, is_lit].flatten(), true[:, is_lit].flatten()),
    }
    return {name: float(cosine_similarity(*maps, dim=0)) for name, maps in parts.items()}

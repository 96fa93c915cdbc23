"""Reference of shading: all pairs of Gaussians and texels at once, gradients by autograd."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.env_shade._types import Materials, Shading, Shadows, TexelLights
from vultus.kernels.env_shade.constants import (
    MIN_HALF_SQUARED,
    MIN_LOBE_DIVISOR,
    NORMAL_REFLECTANCE,
)
from vultus.kernels.ray_mesh import unpack_visibility

__all__ = ["shade"]


def shade(
    normals: Float[Tensor, "b n 3"],
    view_directions: Float[Tensor, "b n 3"],
    materials: Materials,
    lights: TexelLights,
    shadows: Shadows | None,
    has_specular: bool,
    has_back_faces: bool,
) -> Shading:
    """See ``vultus.kernels.env_shade.shade``."""
    n_l = normals @ lights.directions.mT
    n_v = torch.linalg.vecdot(normals, view_directions)[..., None]
    shares = torch.ones_like(n_l) if shadows is None else _visibility(shadows, n_l.shape[-1])
    if not has_back_faces:
        shares = shares * (n_v > 0)
    diffuse = (shares * n_l.relu() / math.pi) @ lights.irradiances
    if has_specular:
        lobe = _lobe(n_l, n_v, normals, view_directions, materials.roughness, lights.directions)
        specular = (shares * lobe) @ lights.irradiances
    else:
        specular = torch.zeros_like(diffuse)
    color = materials.albedo * diffuse + materials.specular * specular
    return Shading(color, diffuse, specular)


def _visibility(shadows: Shadows, num_lights: int) -> Float[Tensor, "b n t"]:
    batch, num_probes, _ = shadows.words.shape
    bits = unpack_visibility(shadows.words.flatten(0, 1), num_lights)
    corners = bits.view(batch, num_probes, num_lights)[:, shadows.probes]
    seen = (shadows.weights[..., None] * corners).sum(dim=2)
    return seen if shadows.strength is None else 1 - shadows.strength * (1 - seen)


def _lobe(
    n_l: Float[Tensor, "b n t"],
    n_v: Float[Tensor, "b n 1"],
    normals: Float[Tensor, "b n 3"],
    view_directions: Float[Tensor, "b n 3"],
    roughness: Float[Tensor, "b n"],
    directions: Float[Tensor, "b t 3"],
) -> Float[Tensor, "b n t"]:
    """F G D / 4."""
    half = directions[:, None] + view_directions[:, :, None]
    squared = half.square().sum(dim=-1)
    # A light that is exactly behind the Gaussian has no half vector: it counts as zero.
    has_half = squared > MIN_HALF_SQUARED
    inverse = torch.where(has_half, squared, 1.0).rsqrt() * has_half
    l_h = torch.linalg.vecdot(half, directions[:, None]) * inverse
    n_h = torch.linalg.vecdot(half, normals[:, :, None]) * inverse
    fresnel = NORMAL_REFLECTANCE + (1 - NORMAL_REFLECTANCE) * (1 - l_h.clamp(0, 1)) ** 5
    r = roughness[..., None]
    k = (r + 1).square() / 8
    lit, seen = n_l.relu(), n_v.relu()
    geometry = lit / ((lit * (1 - k) + k) * (seen * (1 - k) + k))
    a = r**4
    t = n_h.square() * (a - 1) + 1
    distribution = a / (math.pi * t.square()).clamp(min=MIN_LOBE_DIVISOR)
    return (fresnel * geometry * distribution / 4).relu()

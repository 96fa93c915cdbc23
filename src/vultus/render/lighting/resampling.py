"""Environment maps in another size, blurred, or turned in any way.

Texels are areas of constant radiance for ``resize_envmap``, which therefore keeps the light that
arrives from everywhere exactly; the other two look bilinearly interpolated maps up, and keep a
constant map constant.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.render.lighting.envmap import envmap_directions, sample_envmap

__all__ = ["blur_envmap", "resize_envmap", "turn_envmap"]

_GOLDEN_RATIO = (1.0 + math.sqrt(5.0)) / 2.0
_LOOKUPS_PER_CHUNK = 1 << 20


def resize_envmap(
    envmap: Float[Tensor, "b 3 h w"], height: int, width: int
) -> Float[Tensor, "b 3 height width"]:
    """Average maps over the solid angles of other texels: ``mean`` over the sphere stays.

    Sizes need not divide each other; refining repeats texels. A map that has the size already is
    returned itself. Differentiable.

    Raises:
        ValueError: If a size is not positive.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an environment map must have texels, got {height} x {width}")
    # A band between two elevations has the area of the difference of their sines.
    if height != envmap.shape[2]:
        old, new = (-torch.cos(math.pi * _edges(count)) for count in (envmap.shape[2], height))
        envmap = _shares(old, new).to(envmap) @ envmap
    if width != envmap.shape[3]:
        envmap = envmap @ _shares(_edges(envmap.shape[3]), _edges(width)).to(envmap).T
    return envmap


def _edges(count: int) -> Float[Tensor, " n"]:
    """The ends of equal parts of [0, 1]."""
    return torch.linspace(0, 1, count + 1, dtype=torch.float64)


def _shares(old: Float[Tensor, " m"], new: Float[Tensor, " n"]) -> Float[Tensor, "n_new n_old"]:
    """Which part of each new interval every old one covers, given the rising edges of both."""
    start = torch.maximum(new[:-1, None], old[:-1])
    end = torch.minimum(new[1:, None], old[1:])
    return (end - start).clamp(min=0.0) / (new[1:] - new[:-1])[:, None]


def blur_envmap(
    envmap: Float[Tensor, "b 3 h w"], height: int, width: int, lobe: float, num_samples: int = 256
) -> Float[Tensor, "b 3 height width"]:
    """Average maps over a lobe around each direction: what a rough mirror sees.

    Angles from the centre follow tan^2 = lobe^2 u / (1 - u) with u even in [0, 1), the distribution
    of GGX normals. The samples are those of a fixed lattice, so that the result is deterministic.

    Args:
        envmap: Linear radiance.
        height: Rows of the result.
        width: Columns of the result.
        lobe: 0 looks the centres up.
        num_samples: Directions per texel.

    Raises:
        ValueError: If the lobe is negative or there are no samples.
    """
    if lobe < 0 or num_samples < 1:
        raise ValueError(f"lobe must not be negative, got {lobe} with {num_samples} samples")
    index = torch.arange(num_samples, dtype=torch.float64)
    even = (index + 0.5) / num_samples
    tangent = lobe * (even / (1.0 - even)).sqrt()
    turn = 2.0 * math.pi * index / _GOLDEN_RATIO
    around = torch.stack([tangent * turn.cos(), tangent * turn.sin(), torch.ones_like(turn)], dim=1)
    centers = envmap_directions(height, width, torch.float64).flatten(0, 1)
    directions = torch.einsum("nij,kj->nki", _frames(centers), around)
    return _mean_lookups(envmap, directions).unflatten(2, (height, width))


def _frames(axes: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """Rotations that take +z to the axes, which do not point up or down exactly."""
    up = axes.new_tensor([0.0, 1.0, 0.0]).expand_as(axes)
    right = normalize(torch.linalg.cross(up, axes), dim=-1)
    return torch.stack([right, torch.linalg.cross(axes, right), axes], dim=-1)


def turn_envmap(
    envmap: Float[Tensor, "b 3 h w"], rotation: Float[Tensor, "3 3"], supersampling: int = 4
) -> Float[Tensor, "b 3 h w"]:
    """Turn maps: what came from direction d then comes from ``rotation @ d``.

    Each texel averages ``supersampling`` squared lookups at places of equal solid angle. Turns
    about +y by whole columns are exact in ``rotate_envmap``; its positive angles are the negative
    azimuths.

    Raises:
        ValueError: If ``supersampling`` is not positive.
    """
    if supersampling < 1:
        raise ValueError(f"supersampling must be positive, got {supersampling}")
    height, width = envmap.shape[2:]
    inner = (torch.arange(supersampling, dtype=torch.float64) + 0.5) / supersampling
    edges = torch.cos(math.pi * torch.arange(height + 1, dtype=torch.float64) / height)
    y = (edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * inner)[:, None, :, None]
    columns = torch.arange(width, dtype=torch.float64)[:, None] + inner
    azimuth = (2.0 * math.pi / width * columns)[None, :, None, :]
    ring = (1.0 - y.square()).clamp(min=0.0).sqrt()
    xyz = torch.broadcast_tensors(ring * azimuth.cos(), y, ring * azimuth.sin())
    directions = torch.stack(xyz, dim=-1).flatten(2, 3).flatten(0, 1)
    # Rows times the rotation are its transpose times columns: where the light came from.
    sources = directions @ rotation.to(directions)
    return _mean_lookups(envmap, sources).unflatten(2, (height, width))


def _mean_lookups(
    envmap: Float[Tensor, "b 3 h w"], directions: Float[Tensor, "n k 3"]
) -> Float[Tensor, "b 3 n"]:
    """Average the lookups of each row of directions."""
    chunk = max(1, _LOOKUPS_PER_CHUNK // directions.shape[1])
    means = []
    for part in directions.split(chunk):
        flat = part.flatten(0, 1).to(envmap)[None].expand(envmap.shape[0], -1, -1)
        found = sample_envmap(envmap, flat).unflatten(1, part.shape[:2])
        means.append(found.mean(dim=2))
    return torch.cat(means, dim=1).mT

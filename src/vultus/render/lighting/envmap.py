"""Environment maps: light from all directions, stored equirectangularly.

Convention: row 0 is +y. The centre of column j of W has azimuth a = 2 pi (j + 0.5) / W; at
elevation e the direction *towards the light* is (cos e cos a, sin e, cos e sin a). With our world
(+x the subject's left, +z out of the face) the light from the left stands at the left and right
borders of the picture, and the light before the face at a quarter of its width. Maps in other
orientations are read only through the named converters here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vultus.render.lighting.lights import LightList

__all__ = [
    "EnvironmentMap",
    "cluster_lights",
    "envmap_directions",
    "envmap_solid_angles",
    "from_front_centered",
    "from_mirrored",
    "rotate_envmap",
    "sample_envmap",
    "to_front_centered",
    "to_mirrored",
]

# Rows that a map is refined to before clustering: a bright texel can then feed several lights.
_CLUSTER_ROWS = 128
_CLUSTER_ROUNDS = 4
# Share of the mean energy that every texel gets as weight, so that dark regions keep lights.
_EVEN_WEIGHT = 0.15
# Shakes apart lights that start from the same texel (radians).
_JITTER = 0.01
_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
# Direction-light products held at once while clustering.
_CHUNK_PRODUCTS = 4_000_000


@dataclass(frozen=True)
class EnvironmentMap:
    """A map in the convention of this module. Linear radiance, not negative."""

    radiance: Float[Tensor, "3 h w"]

    def __post_init__(self) -> None:
        """Reject what is not light."""
        if not bool(torch.isfinite(self.radiance).all()):
            raise ValueError("radiance of an environment map must be finite")
        if bool((self.radiance < 0).any()):
            lowest = float(self.radiance.min())
            raise ValueError(f"radiance of an environment map must not be negative, got {lowest}")

    @staticmethod
    def constant(radiance: tuple[float, float, float], height: int = 16) -> EnvironmentMap:
        """The same light from everywhere."""
        return EnvironmentMap(torch.tensor(radiance)[:, None, None].repeat(1, height, 2 * height))

    def mean(self) -> Float[Tensor, 3]:
        """Mean radiance over the sphere."""
        height, width = self.radiance.shape[1:]
        weights = envmap_solid_angles(height, width).to(self.radiance)
        return (self.radiance * weights).sum(dim=(1, 2)) / (4.0 * math.pi)

    def rotated(self, angle: float) -> EnvironmentMap:
        """Turn the surroundings; see ``rotate_envmap``."""
        return EnvironmentMap(rotate_envmap(self.radiance[None], angle)[0])

    def turned(self, axes: Float[Tensor, "3 3"]) -> EnvironmentMap:
        """The same light in other axes, looked up bilinearly.

        Args:
            axes: Rotation that takes directions from the other axes to those of this map.
        """
        height, width = self.radiance.shape[1:]
        directions = envmap_directions(height, width, self.radiance.dtype).reshape(1, -1, 3)
        found = sample_envmap(self.radiance[None], directions @ axes.to(self.radiance).T)
        return EnvironmentMap(found[0].T.reshape(3, height, width).contiguous())

    def scaled(self, factor: float) -> EnvironmentMap:
        """``factor`` times the light."""
        return EnvironmentMap(self.radiance * factor)

    def limited(self, ratio: float) -> EnvironmentMap:
        """Cut every channel at ``ratio`` times the mean of its brightest channel.

        A sun of one texel casts one razor-sharp shadow, which visibility per vertex cannot show.
        """
        return EnvironmentMap(self.radiance.clamp(max=ratio * float(self.mean().max())))


def envmap_directions(
    height: int, width: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "h w 3"]:
    """Unit directions towards the texel centres, rounded to ``dtype`` (by default PyTorch's)."""
    elevation = math.pi * (0.5 - (torch.arange(height, dtype=torch.float64) + 0.5) / height)
    azimuth = 2.0 * math.pi * (torch.arange(width, dtype=torch.float64) + 0.5) / width
    elevation, azimuth = torch.meshgrid(elevation, azimuth, indexing="ij")
    ring = elevation.cos()
    xyz = torch.stack([ring * azimuth.cos(), elevation.sin(), ring * azimuth.sin()], dim=-1)
    return xyz.to(dtype or torch.get_default_dtype())


def envmap_solid_angles(
    height: int, width: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "h w"]:
    """Exact solid angles of the texels, rounded to ``dtype``; their sum is 4 pi."""
    edges = torch.cos(math.pi * torch.arange(height + 1, dtype=torch.float64) / height)
    rows = (2.0 * math.pi / width) * (edges[:-1] - edges[1:])
    return rows[:, None].repeat(1, width).to(dtype or torch.get_default_dtype())


def sample_envmap(
    envmap: Float[Tensor, "b 3 h w"], directions: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b n 3"]:
    """Look maps up bilinearly; differentiable in both arguments away from texel borders.

    Directions need not be unit. Columns wrap around; rows above the first and below the last texel
    centre repeat it.
    """
    batch, _, height, width = envmap.shape
    x, y, z = normalize(directions, dim=-1).unbind(dim=-1)
    azimuth = torch.atan2(z, x) / (2.0 * math.pi)
    column = (azimuth - torch.floor(azimuth)) * width - 0.5
    row = (0.5 - torch.asin(y.clamp(-1.0, 1.0)) / math.pi) * height - 0.5
    row = row.clamp(0.0, height - 1.0)
    left, top = torch.floor(column), torch.floor(row)
    across, down = (column - left)[..., None], (row - top)[..., None]
    texels = envmap.flatten(2).transpose(1, 2)

    def look_up(rows: Tensor, columns: Tensor) -> Tensor:
        index = rows.long().clamp(max=height - 1) * width + columns.long() % width
        return texels.gather(1, index[..., None].expand(batch, -1, 3))

    upper = look_up(top, left) * (1 - across) + look_up(top, left + 1) * across
    lower = look_up(top + 1, left) * (1 - across) + look_up(top + 1, left + 1) * across
    return upper * (1 - down) + lower * down


def rotate_envmap(envmap: Float[Tensor, "b 3 h w"], angle: float) -> Float[Tensor, "b 3 h w"]:
    """Turn maps about +y by the right-hand rule: light from +z at 0 comes from +x at pi / 2.

    Exact for multiples of a column, linear between columns otherwise.
    """
    width = envmap.shape[3]
    shift = angle * width / (2.0 * math.pi)
    # Rounding makes turns by whole columns exact in spite of the division by pi.
    shift = round(shift) if math.isclose(shift, round(shift), abs_tol=1e-6) else shift
    whole = math.floor(shift)
    part = shift - whole
    turned = envmap.roll(-whole, dims=3)
    return turned if part == 0 else (1.0 - part) * turned + part * turned.roll(-1, dims=3)


def from_front_centered(envmap: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Convert maps whose centre column lies before the face (+z), with +x at u = 0.25.

    At column fraction u and row fraction v such a map shows the light from
    (sin 2 pi u sin pi v, cos pi v, -cos 2 pi u sin pi v). This is how Poly Haven maps are commonly
    put around a head, and the orientation of the ``lps_multiview`` data.

    Raises:
        ValueError: If the width is not a multiple of 4.
    """
    return envmap.roll(-_quarter(envmap), dims=3)


def to_front_centered(envmap: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Undo ``from_front_centered``."""
    return envmap.roll(_quarter(envmap), dims=3)


def from_mirrored(envmap: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Convert maps whose azimuth runs the other way, so that a quarter lies behind the head (-z).

    This is how the programs of GSHeadRelight read maps.
    """
    return envmap.flip(3)


def to_mirrored(envmap: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Undo ``from_mirrored``."""
    return envmap.flip(3)


def _quarter(envmap: Float[Tensor, "b 3 h w"]) -> int:
    width = envmap.shape[3]
    if width % 4:
        raise ValueError(f"the width of the map must be a multiple of 4, got {width}")
    return width // 4


def cluster_lights(environment: EnvironmentMap, count: int) -> LightList:
    """Stand in for a map by a few lights at infinity that carry all of its energy.

    Half of them start evenly spread, half where the energy is; four rounds of clustering weighted
    by energy then move each to the centroid of the directions nearest to it. The result depends on
    the map alone.

    Raises:
        ValueError: If ``count`` is less than 2.
    """
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    directions, energy = _refined_texels(environment)
    luminance = energy.sum(dim=1)
    centers = _initial_lights(directions, luminance, count)
    weights = luminance + _EVEN_WEIGHT * luminance.mean()
    for _ in range(_CLUSTER_ROUNDS):
        nearest = _nearest_light(directions, centers)
        sums = torch.zeros_like(centers).index_add_(0, nearest, directions * weights[:, None])
        is_used = sums.norm(dim=1, keepdim=True) > 0
        centers = torch.where(is_used, normalize(sums, dim=1), centers)
    nearest = _nearest_light(directions, centers)
    intensity = energy.new_zeros(count, 3).index_add_(0, nearest, energy)
    positions = torch.cat([centers, centers.new_zeros(count, 1)], dim=1)
    # The mean light of ``count`` stands for 4 pi / count.
    spread = torch.full((count,), 2.0 / count)
    return LightList(positions.float(), intensity.float(), spread)


def _refined_texels(
    environment: EnvironmentMap,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Directions and energies (radiance times solid angle) of the texels of a finer grid."""
    radiance = environment.radiance.detach().to("cpu", torch.float64)
    factor = max(1, _CLUSTER_ROWS // radiance.shape[1])
    radiance = radiance.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    height, width = radiance.shape[1:]
    energy = radiance * envmap_solid_angles(height, width)
    directions = envmap_directions(height, width).double().reshape(-1, 3)
    return normalize(directions, dim=1), energy.flatten(1).T.contiguous()


def _initial_lights(
    directions: Float[Tensor, "n 3"], luminance: Float[Tensor, " n"], count: int
) -> Float[Tensor, "k 3"]:
    """Half on a Fibonacci lattice, half at equal steps of the accumulated energy."""
    num_bright = count // 2 if float(luminance.sum()) > 0 else 0
    num_even = count - num_bright
    index = torch.arange(num_even, dtype=torch.float64) + 0.5
    height = 1.0 - 2.0 * index / num_even
    ring = (1.0 - height * height).sqrt()
    turn = index * _GOLDEN_ANGLE
    even = torch.stack([ring * turn.cos(), height, ring * turn.sin()], dim=1)
    steps = (torch.arange(num_bright, dtype=torch.float64) + 0.5) / max(num_bright, 1)
    accumulated = luminance.cumsum(dim=0)
    picks = torch.searchsorted(accumulated, steps * accumulated[-1])
    bright = directions[picks.clamp(max=len(directions) - 1)]
    generator = torch.Generator().manual_seed(0)
    shake = torch.randn(num_bright, 3, generator=generator, dtype=torch.float64)
    return normalize(torch.cat([even, bright + _JITTER * shake]), dim=1)


def _nearest_light(
    directions: Float[Tensor, "n 3"], centers: Float[Tensor, "k 3"]
) -> Int[Tensor, " n"]:
    chunks = directions.float().split(max(1, _CHUNK_PRODUCTS // len(centers)))
    return torch.cat([(chunk @ centers.float().T).argmax(dim=1) for chunk in chunks])

"""Surfaces of generated Gaussians: how much of them is where, on a grid, with colours.

Reference: Tang et al., DreamGaussian, 2024, sec. 3.2 (local density query).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from vultus.core.progress import track
from vultus.geometry.isosurface import check_grid, isosurface
from vultus.geometry.meshes import TriangleMesh, largest_component
from vultus.geometry.rotations import quaternion_to_matrix
from vultus.methods.generated_heads import CarvedHead
from vultus.methods.gsheadrelight.gaussians import HeadGaussians
from vultus.methods.gsheadrelight.rendering import shade
from vultus.methods.gsheadrelight.sampling import RelightableSampler
from vultus.methods.people import People

__all__ = ["HeadVolume", "OccupancyCarver", "OccupancySettings", "head_volume", "volume_mesh"]

_LARGEST_RESOLUTION = 512
_CUTOFF = 3.0
"""Deviations beyond which a Gaussian has no density."""
_SMALLEST_DEVIATION = 0.5
"""Grid steps to which narrower Gaussians are widened, as the grid would miss them."""
_CHUNK = 2**22
"""Pairs of a Gaussian and a grid point that are computed at a time."""
_LEAST_WEIGHT = 1e-8


@dataclass(frozen=True)
class OccupancySettings:
    """How finely a head is sampled, and where its surface is."""

    resolution: int = 128
    """Points along a side of the cube."""
    length: float = 1.4
    """Side of the cube around the origin, in world units."""
    level: float = 1.0
    """Summed opacity of the surface."""
    least_opacity: float = 0.005
    """Gaussians below are left out."""
    only_largest: bool = True
    """Drop everything but the largest connected part."""
    is_closed: bool = True
    """Put a wall where a head reaches the side of the cube, as necks do."""

    def __post_init__(self) -> None:
        """Reject grids that hold no surface."""
        check_grid(self.resolution, _LARGEST_RESOLUTION, self.length)
        if not 0.0 <= self.least_opacity < 1.0:
            raise ValueError(f"least_opacity must be in [0, 1), got {self.least_opacity}")

    @property
    def step(self) -> float:
        """Between neighbouring points."""
        return self.length / (self.resolution - 1)


@dataclass(frozen=True)
class HeadVolume:
    """A head on the points of ``geometry.isosurface.grid_points``, on the CPU."""

    density: Float[Tensor, "x y z"]
    """Sum of opacity times the Gaussian's value."""
    colors: Float[Tensor, "3 x y z"]
    """Means with these weights; black where nothing is."""


@dataclass(frozen=True)
class OccupancyCarver:
    """Finds surfaces among Gaussians, coloured as the sampler shows them; a ``HeadCarver``."""

    sampler: RelightableSampler
    settings: OccupancySettings

    @property
    def length(self) -> float:
        """Side of the cube around the origin that is sampled."""
        return self.settings.length

    def carve(self, person: People, *, has_mesh: bool) -> CarvedHead:
        """Sample the head of one person."""
        gaussians, shown = self.sampler.head(person).gaussians, self.sampler.settings
        colors = shade(gaussians, shown.light[None].to(self.sampler.device), shown.mode)
        volume = head_volume(gaussians, colors, self.settings)
        mesh = volume_mesh(volume, self.settings) if has_mesh else None
        return CarvedHead(volume.density, mesh)


@torch.no_grad()
def head_volume(
    gaussians: HeadGaussians, colors: Float[Tensor, "1 n 3"], settings: OccupancySettings
) -> HeadVolume:
    """Sum Gaussians up on a grid.

    Args:
        gaussians: One head.
        colors: Of its Gaussians, such as ``rendering.shade`` gives.
        settings: See there.
    """
    opacities = gaussians.opacity_logits[0, :, 0].sigmoid().cpu()
    means, log_scales, quats = (
        value[0].cpu() for value in (gaussians.means, gaussians.log_scales, gaussians.quats)
    )
    half = 0.5 * settings.length
    deviations = log_scales.exp().clamp(min=_SMALLEST_DEVIATION * settings.step)
    reach = _CUTOFF * deviations.amax(dim=1)
    is_kept = (opacities > settings.least_opacity) & (means.abs() < (half + reach)[:, None]).all(1)
    kept = is_kept.nonzero()[:, 0]
    values = torch.cat([torch.ones_like(colors[0, :, :1]), colors[0]], dim=1).cpu()
    total = torch.zeros(settings.resolution**3, 4)
    batches = list(_batches(kept, reach[kept], settings))
    for rows, radius in track(batches, label="density", unit="batches"):
        whitening = quaternion_to_matrix(quats[rows]).mT / deviations[rows][:, :, None]
        index, offsets = _neighbors(means[rows], radius, settings)
        local = offsets @ whitening.mT
        square = local.square().sum(dim=2)
        weight = opacities[rows][:, None] * (-0.5 * square).exp() * (square < _CUTOFF**2)
        is_inside = index >= 0
        parts = (weight[..., None] * values[rows][:, None])[is_inside]
        total.index_add_(0, index[is_inside], parts)
    side = (settings.resolution,) * 3
    density = total[:, 0]
    mean_colors = total[:, 1:] / density.clamp(min=_LEAST_WEIGHT)[:, None]
    return HeadVolume(density.view(side), mean_colors.T.contiguous().view(3, *side))


def volume_mesh(volume: HeadVolume, settings: OccupancySettings) -> TriangleMesh:
    """Extract the surface in world units, with normals and colours.

    Raises:
        ValueError: If no part of the cube has the density of the surface.
    """
    mesh = isosurface(volume.density, settings.level, settings.length, is_closed=settings.is_closed)
    if settings.only_largest:
        mesh = largest_component(mesh)
    # Places in grid_sample go from -1 to 1 and are in the order z, y, x of this volume.
    places = (mesh.vertices / (0.5 * settings.length)).flip(1)[None, None, None]
    found = grid_sample(
        volume.colors[None], places, mode="bilinear", padding_mode="border", align_corners=True
    )
    return replace(mesh, colors=found[0, :, 0, 0].T.clamp(0.0, 1.0).contiguous())


def _batches(
    kept: Int[Tensor, " k"], reach: Float[Tensor, " k"], settings: OccupancySettings
) -> Iterator[tuple[Int[Tensor, " b"], int]]:
    """Gaussians of about one size, with the grid steps that they reach."""
    radii = (reach / settings.step).ceil().long().clamp(max=settings.resolution)
    # Radii are rounded up to powers of two, so that there are few sizes.
    radii = 2 ** radii.double().log2().ceil().long()
    for radius in radii.unique().tolist():
        rows = kept[radii == radius]
        for part in rows.split(max(1, _CHUNK // (2 * radius + 1) ** 3)):
            yield part, radius


def _neighbors(
    means: Float[Tensor, "b 3"], radius: int, settings: OccupancySettings
) -> tuple[Int[Tensor, "b p"], Float[Tensor, "b p 3"]]:
    """Grid points around means: their places in the grid, -1 outside, and where they are."""
    side = settings.resolution
    span = torch.arange(-radius, radius + 1)
    around = torch.cartesian_prod(span, span, span)
    nearest = ((means + 0.5 * settings.length) / settings.step).round().long()
    places = nearest[:, None] + around
    points = places * settings.step - 0.5 * settings.length
    index = (places[..., 0] * side + places[..., 1]) * side + places[..., 2]
    is_inside = ((places >= 0) & (places < side)).all(dim=2)
    return torch.where(is_inside, index, -1), points - means[:, None]

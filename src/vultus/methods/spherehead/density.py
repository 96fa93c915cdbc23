"""Density of generated heads on a grid, and its surface with colours."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.progress import Progress
from vultus.geometry.isosurface import check_grid, grid_points, isosurface
from vultus.geometry.meshes import TriangleMesh, largest_component
from vultus.methods.generated_heads import CarvedHead
from vultus.methods.people import People
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.sampling import Head, HeadSampler
from vultus.nets.ranges import from_signed

__all__ = ["DensityCarver", "DensitySettings", "density_grid", "head_mesh", "point_colors"]

_LARGEST_RESOLUTION = 1024


@dataclass(frozen=True)
class DensitySettings:
    """How densely a head is sampled, and where its surface is."""

    resolution: int = 256
    """Points along a side of the cube (official --shape-res 512)."""
    length: float | None = None
    """Side of the cube around the origin, in world units; default: the generator's box."""
    level: float = 10.0
    """Density of the surface before softplus; the default is the published one."""
    chunk: int = 2**18
    """Points that are asked for at a time."""
    only_largest: bool = True
    """Drop everything but the largest connected part."""
    is_closed: bool = True
    """Put a wall where a head reaches the side of the cube, as necks do."""

    def __post_init__(self) -> None:
        """Reject grids that hold no surface."""
        check_grid(self.resolution, _LARGEST_RESOLUTION, self.length)
        if self.chunk < 1:
            raise ValueError(f"chunk must be positive, got {self.chunk}")


@dataclass(frozen=True)
class DensityCarver:
    """Finds surfaces in the density of heads; a ``HeadCarver``."""

    sampler: HeadSampler
    settings: DensitySettings

    @property
    def length(self) -> float:
        """Side of the cube around the origin that is sampled."""
        return _cube_length(self.sampler.generator, self.settings)

    def carve(self, person: People, *, has_mesh: bool) -> CarvedHead:
        """Sample the head of one person."""
        generator, head = self.sampler.generator, self.sampler.head(person)
        density = density_grid(generator, head, self.settings)
        mesh = head_mesh(generator, head, self.settings, density) if has_mesh else None
        return CarvedHead(density, mesh)


@torch.no_grad()
def density_grid(
    generator: Generator, head: Head, settings: DensitySettings
) -> Float[Tensor, "x y z"]:
    """Densities before softplus at ``geometry.isosurface.grid_points``, on the CPU."""
    resolution, length = settings.resolution, _cube_length(generator, settings)
    count = resolution**3
    values = torch.empty(count)
    with Progress("density", count, "points") as progress:
        for start in range(0, count, settings.chunk):
            points = grid_points(resolution, length, start, start + settings.chunk)
            _, density = generator.query(head.planes, points.to(head.planes)[None], is_cropped=True)
            values[start : start + len(points)] = density[0].cpu()
            progress.advance(len(points))
    return values.view(resolution, resolution, resolution)


@torch.no_grad()
def point_colors(
    generator: Generator, head: Head, points: Float[Tensor, "p 3"], chunk: int = 2**18
) -> Float[Tensor, "p 3"]:
    """Colours in [0, 1] that single points have, before super-resolution; on the CPU."""
    w = head.person.ws[:, -1]
    parts = []
    for rows in points.split(chunk):
        features, _ = generator.query(head.planes, rows.to(head.planes)[None])
        if generator.decoder.activation == "sigmoid":
            features = 2.0 * features - 1.0
        image = features.transpose(1, 2)[..., None]
        colors = image[:, :3] if generator.to_rgb is None else generator.to_rgb(image, w)
        parts.append(from_signed(colors)[0, :, :, 0].T.cpu())
    return torch.cat(parts)


def head_mesh(
    generator: Generator,
    head: Head,
    settings: DensitySettings,
    density: Float[Tensor, "x y z"] | None = None,
) -> TriangleMesh:
    """Extract the surface of a head in world units, with normals and colours.

    Args:
        generator: Of the head.
        head: Whose surface.
        settings: See there.
        density: Of ``density_grid``, if it is there already.

    Raises:
        ValueError: If no part of the cube has the density of the surface.
    """
    density = density_grid(generator, head, settings) if density is None else density
    length = _cube_length(generator, settings)
    mesh = isosurface(density, settings.level, length, is_closed=settings.is_closed)
    if settings.only_largest:
        mesh = largest_component(mesh)
    return replace(mesh, colors=point_colors(generator, head, mesh.vertices, settings.chunk))


def _cube_length(generator: Generator, settings: DensitySettings) -> float:
    return generator.config.volume.box_size if settings.length is None else settings.length

"""Densities of generated heads and their surfaces."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tiny_generators import TINY, tiny_generator
from tolerances import assert_close
from vultus.geometry.isosurface import grid_points
from vultus.geometry.meshes import boundary_edges, face_components
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.config import GeneratorConfig
from vultus.methods.spherehead.density import (
    DensitySettings,
    density_grid,
    head_mesh,
    point_colors,
)
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.sampling import Head, HeadSampler, SamplingSettings
from vultus.nets.ranges import from_signed

SETTINGS = DensitySettings(resolution=24, level=0.0, chunk=1000)
PLANES = replace(
    TINY,
    volume=replace(TINY.volume, representation="tri_plane", crop_margin=None),
    has_to_rgb=False,
    has_background=False,
    decoder_activation="sigmoid",
)


def head_of(config: GeneratorConfig = TINY) -> tuple[Generator, Head]:
    source = HeadSampler(tiny_generator(config), ViewRig(), SamplingSettings(truncation=1.0))
    return source.generator, source.head(source.people((3,)))


def test_the_grid_holds_what_single_points_have() -> None:
    generator, head = head_of()
    grid = density_grid(generator, head, SETTINGS)
    _, density = generator.query(head.planes, grid_points(24, 1.0)[None], is_cropped=True)
    assert_close(grid, density.view(24, 24, 24))
    # No ray sees what is closer than the margin to the sides in x and z.
    assert float(grid[0].max()) < -900 > float(grid[:, :, -1].max())
    assert float(grid[12, 0, 12]) > -900


def test_a_shorter_cube_is_a_part_of_the_box() -> None:
    generator, head = head_of()
    settings = replace(SETTINGS, length=0.5, resolution=3)
    grid = density_grid(generator, head, settings)
    _, density = generator.query(head.planes, torch.tensor([[[-0.25, 0.0, 0.25]]]))
    assert_close(grid[0, 1, 2], density[0, 0])


@pytest.mark.parametrize("config", [TINY, PLANES], ids=["to_rgb", "first_features"])
def test_vertices_have_the_colours_that_rays_composite(config: GeneratorConfig) -> None:
    generator, head = head_of(config)
    points = 0.3 * torch.rand(7, 3, generator=torch.Generator().manual_seed(0)) - 0.15
    found = point_colors(generator, head, points, chunk=3)
    features, _ = generator.query(head.planes, points[None])
    for index in range(7):
        feature = features[0, index]
        if generator.to_rgb is None:
            color = 2.0 * feature[:3] - 1.0
        else:
            image = feature[None, :, None, None]
            color = generator.to_rgb(image, head.person.ws[:, -1])[0, :, 0, 0]
        assert_close(found[index], from_signed(color[:, None, None])[:, 0, 0])


def test_the_surface_is_closed_and_in_one_part() -> None:
    generator, head = head_of()
    mesh = head_mesh(generator, head, SETTINGS)
    assert len(boundary_edges(mesh.faces)) == 0
    assert int(face_components(mesh.faces, len(mesh.vertices)).max()) == 0
    assert mesh.colors is not None
    assert mesh.colors.shape == mesh.vertices.shape
    _, density = generator.query(head.planes, mesh.vertices[None])
    inside = mesh.vertices[:, [0, 2]].abs().amax(dim=1) < 0.3
    inside &= mesh.vertices[:, 1].abs() < 0.45
    middle = density[0, inside].abs().median()
    # Bilinear planes are curved between grid points.
    assert float(middle) < 1.5


def test_a_density_that_does_not_occur_is_refused() -> None:
    generator, head = head_of()
    with pytest.raises(ValueError, match="level must be a density that occurs, from -1000"):
        head_mesh(generator, head, replace(SETTINGS, level=1e5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 1}, "resolution must be 2 to 1024, got 1"),
        ({"length": -1.0}, "length must be positive, got -1.0"),
        ({"chunk": 0}, "chunk must be positive, got 0"),
    ],
)
def test_grids_that_hold_nothing_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DensitySettings(**change)  # pyright: ignore[reportArgumentType]

"""Surfaces of densities on grids."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.geometry.isosurface import grid_points, isosurface
from vultus.geometry.meshes import TriangleMesh, boundary_edges


def ball(resolution: int, length: float, center: tuple[float, float, float]) -> Tensor:
    """Distance to the surface of a ball of radius 0.3, positive inside."""
    points = grid_points(resolution, length)
    distance = 0.3 - (points - torch.tensor(center)).norm(dim=1)
    return distance.view(resolution, resolution, resolution)


def volume_of(mesh: TriangleMesh) -> float:
    """Signed volume: positive for faces that are counter-clockwise seen from outside."""
    a, b, c = mesh.vertices[mesh.faces].double().unbind(dim=1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6.0)


def test_a_ball_lies_where_it_is_in_the_world() -> None:
    center = (0.1, -0.05, 0.02)
    mesh = isosurface(ball(33, 1.0, center), 0.0, 1.0)
    radius = (mesh.vertices - torch.tensor(center)).norm(dim=1)
    # Between grid points the distance is a line up to curvature.
    assert float((radius - 0.3).abs().max()) < 0.05 / 33
    assert_close(mesh.vertices.mean(dim=0), torch.tensor(center), looser=100.0, reason="few points")
    assert len(boundary_edges(mesh.faces)) == 0
    assert volume_of(mesh) == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.02)
    assert mesh.normals is not None
    outward = (mesh.vertices - torch.tensor(center)) / 0.3
    assert float((mesh.normals * outward).sum(dim=1).min()) > 0.98


def test_a_level_moves_the_surface() -> None:
    mesh = isosurface(ball(33, 1.0, (0.0, 0.0, 0.0)), 0.1, 1.0)
    assert float((mesh.vertices.norm(dim=1) - 0.2).abs().max()) < 0.05 / 33


def test_what_reaches_the_side_is_walled_or_open() -> None:
    density = ball(25, 1.0, (0.0, -0.5, 0.0))
    closed = isosurface(density, 0.0, 1.0)
    assert len(boundary_edges(closed.faces)) == 0
    assert volume_of(closed) == pytest.approx(2 / 3 * math.pi * 0.3**3, rel=0.1)
    assert float(closed.vertices[:, 1].min()) >= -0.5 - 1.0 / 24
    opened = isosurface(density, 0.0, 1.0, is_closed=False)
    assert len(boundary_edges(opened.faces)) > 0
    assert float(opened.vertices[:, 1].min()) == pytest.approx(-0.5)


def test_grids_are_exact_at_their_last_points() -> None:
    resolution = 512
    last = grid_points(resolution, 2.0, resolution**3 - 2)
    step = 2.0 / 511
    assert last.tolist() == [[1.0, 1.0, pytest.approx(1.0 - step)], [1.0, 1.0, 1.0]]
    first = grid_points(resolution, 2.0, resolution**2, resolution**2 + 1)
    assert first[0].tolist() == [pytest.approx(-1.0 + step), -1.0, -1.0]


def test_parts_of_a_grid_make_the_whole() -> None:
    parts = [grid_points(5, 1.0, start, start + 40) for start in range(0, 125, 40)]
    assert torch.equal(torch.cat(parts), grid_points(5, 1.0))


@pytest.mark.parametrize("level", [2.0, -2.0, math.nan])
def test_levels_that_do_not_occur_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match=r"level must be a density that occurs, from -0\.5"):
        isosurface(ball(9, 1.0, (0.0, 0.0, 0.0)), level, 1.0)

"""Fewer faces on the same vertices: shape, borders and topology stay."""

from __future__ import annotations

import pytest
import torch

from fakes import FakeHead
from vultus.geometry.decimation import decimate, decimated_mesh
from vultus.geometry.isosurface import grid_points, isosurface
from vultus.geometry.mesh_sampling import closest_points, interpolate_on_faces
from vultus.geometry.meshes import (
    TriangleMesh,
    boundary_edges,
    face_areas,
    face_normals,
    unique_edges,
)
from vultus.heads.registry import load_head


def grid(size: int, height: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of size x size vertices, facing +z."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    z = torch.zeros(size, size) if height is None else height
    points = torch.stack([columns.float(), rows.float(), z], dim=2).flatten(0, 1)
    first = (rows[:-1, :-1] * size + columns[:-1, :-1]).flatten()
    lower = torch.stack([first, first + 1, first + size + 1], dim=1)
    upper = torch.stack([first, first + size + 1, first + size], dim=1)
    return points, torch.cat([lower, upper])


def euler_characteristic(faces: torch.Tensor) -> int:
    return len(faces.unique()) - len(unique_edges(faces)) + len(faces)


def test_a_flat_square_keeps_its_border_its_area_and_the_way_it_faces() -> None:
    points, faces = grid(12)
    coarse = decimate(points, faces, 60)
    # 44 vertices of the border span 42 faces, if nothing else is left.
    assert 42 <= len(coarse.faces) <= 60
    normals = face_normals(points, coarse.faces)
    torch.testing.assert_close(normals, torch.tensor([0.0, 0.0, 1.0]).expand_as(normals))
    assert float(face_areas(points, coarse.faces).sum()) == pytest.approx(121.0)
    before, after = (
        {tuple(sorted(edge)) for edge in boundary_edges(each).tolist()}
        for each in (faces, coarse.faces)
    )
    assert after == before


def test_a_fold_stays_where_it_is() -> None:
    """Flat parts are free, the crease between them is not."""
    height = 2.0 * (torch.arange(15.0) - 7.0).abs().expand(15, 15)
    points, faces = grid(15, height)
    coarse = decimate(points, faces, 150)
    assert len(coarse.faces) <= 150
    normals = face_normals(points, coarse.faces)
    slopes = torch.full((len(coarse.faces),), 2.0 / 5.0**0.5)
    torch.testing.assert_close(normals[:, 0].abs(), slopes)
    assert float(face_areas(points, coarse.faces).sum()) == pytest.approx(14 * 14 * 5**0.5)


def test_a_head_keeps_its_shape_and_topology_with_half_of_its_faces() -> None:
    head = load_head("procedural")
    points, faces = head.neutral, head.topology.faces
    coarse = decimate(points, faces, 14_000)
    assert len(coarse.faces) <= 14_000
    assert euler_characteristic(coarse.faces) == euler_characteristic(faces)
    near = closest_points(points, points, coarse.faces, num_neighbors=16)
    found = interpolate_on_faces(points, coarse.faces, near.face_index, near.barycentrics)
    distances = (found - points).norm(dim=1)
    assert float(distances.mean()) < 1.5e-4
    assert float(distances.max()) < 5e-3


def test_every_vertex_has_a_stand_in_that_is_left() -> None:
    head = FakeHead(rings=16, segments=24)
    faces = head.topology.faces
    coarse = decimate(head.neutral, faces, 300)
    left = coarse.faces.unique()
    assert torch.equal(coarse.stand_ins.unique(), left)
    assert torch.equal(coarse.stand_ins[left], left)
    moved = (head.neutral[coarse.stand_ins] - head.neutral).norm(dim=1)
    assert 0 < float(moved.max()) < 0.06


def test_closed_surfaces_stay_closed_however_few_faces_are_asked_for() -> None:
    head = FakeHead(rings=8, segments=12)
    coarse = decimate(head.neutral, head.topology.faces, 1)
    assert 4 <= len(coarse.faces) < 40
    assert len(boundary_edges(coarse.faces)) == 0
    assert euler_characteristic(coarse.faces) == 2
    assert torch.equal(coarse.faces, decimate(head.neutral, head.topology.faces, 1).faces)


def test_meshes_that_are_coarse_enough_stay_as_they_are() -> None:
    points, faces = grid(4)
    coarse = decimate(points, faces, len(faces))
    assert torch.equal(coarse.faces, faces)
    assert torch.equal(coarse.stand_ins, torch.arange(len(points)))


def test_no_faces_at_all_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="max_faces must be positive, got 0"):
        decimate(*grid(3), 0)


def test_a_decimated_mesh_keeps_what_its_vertices_had() -> None:
    """A ball whose colours and normals are functions of the place."""
    ball = isosurface((0.5 - grid_points(24, 1.4).norm(dim=1)).view(24, 24, 24), 0.0, 1.4)
    ball = TriangleMesh(ball.vertices, ball.faces, colors=0.5 + 0.5 * ball.vertices)
    coarse = decimated_mesh(ball, 400)
    assert len(coarse.faces) <= 400 < len(ball.faces)
    assert torch.equal(coarse.faces.unique(), torch.arange(len(coarse.vertices)))
    assert coarse.colors is not None
    assert torch.equal(coarse.colors, 0.5 + 0.5 * coarse.vertices)
    assert float((coarse.vertices.norm(dim=1) - 0.5).abs().max()) < 0.01
    volumes = [
        float(torch.linalg.det(mesh.vertices[mesh.faces]).sum() / 6.0) for mesh in (ball, coarse)
    ]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.05)
    textured = TriangleMesh(
        ball.vertices, ball.faces, uv=torch.zeros(1, 2), uv_faces=0 * ball.faces
    )
    with pytest.raises(ValueError, match="mesh must have no texture coordinates"):
        decimated_mesh(textured, 400)

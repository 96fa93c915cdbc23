from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tolerances import assert_close
from vultus.geometry import meshes as M
from vultus.geometry.mesh_sampling import closest_points, interpolate_on_faces, sample_surface

TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).double()


def octahedron(levels: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere of radius 1 after some subdivisions."""
    axes = torch.eye(3, dtype=torch.float64)
    vertices = torch.cat([axes, -axes])
    faces = [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    triangles = torch.tensor(faces)
    for _ in range(levels):
        vertices, triangles = M.subdivide(vertices, triangles)
        vertices = vertices / vertices.norm(dim=1, keepdim=True)
    return vertices, triangles


def random_mesh(seed: int = 0, levels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vertices, faces = octahedron(levels)
    noise = torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
    return vertices + 0.05 * noise, faces


def test_normals_of_a_tetrahedron_point_outside() -> None:
    normals = M.face_normals(CORNERS, TETRAHEDRON)
    expected = torch.tensor(
        [[0, 0, -1], [0, -1, 0], [3**-0.5] * 3, [-1, 0, 0]], dtype=torch.float64
    )
    assert_close(normals, expected)
    assert_close(M.face_areas(CORNERS, TETRAHEDRON)[2], torch.tensor(0.75).double().sqrt())


def test_vertex_normals_of_a_sphere_are_its_directions() -> None:
    vertices, faces = octahedron(4)
    normals = M.vertex_normals(vertices, faces)
    assert float((normals * vertices).sum(-1).min()) > math.cos(0.03)


def test_area_vectors_of_a_closed_mesh_cancel_and_fill_its_volume() -> None:
    vertices, faces = random_mesh()
    vectors = M.face_normals(vertices, faces) * M.face_areas(vertices, faces)[:, None]
    assert_close(vectors.sum(0), torch.zeros(3).double())
    volume = (vertices[faces].mean(1) * vectors).sum() / 3
    assert float(volume) == pytest.approx(4 / 3 * math.pi, rel=0.15)


def test_normals_and_areas_have_right_gradients() -> None:
    vertices, faces = random_mesh(levels=1)
    leaf = vertices.requires_grad_()
    for function in (M.face_normals, M.vertex_normals, M.face_areas):
        assert torch.autograd.gradcheck(lambda v, f=function: f(v, faces), leaf)


def test_faces_without_area_have_zero_normals_and_finite_gradients() -> None:
    vertices = torch.zeros(4, 3, requires_grad=True)
    normals = M.vertex_normals(vertices, TETRAHEDRON)
    assert torch.equal(normals, torch.zeros(4, 3))
    normals.sum().backward()
    assert vertices.grad is not None
    assert vertices.grad.isfinite().all()


def test_batches_of_vertices_give_batches_of_normals() -> None:
    batch = torch.stack([random_mesh(seed)[0] for seed in range(3)])
    faces = octahedron(2)[1]
    assert_close(M.vertex_normals(batch, faces)[1], M.vertex_normals(batch[1], faces))


def test_a_closed_mesh_has_eulers_number_of_edges_and_no_boundary() -> None:
    vertices, faces = octahedron(3)
    assert len(vertices) - len(M.unique_edges(faces)) + len(faces) == 2
    assert M.boundary_edges(faces).shape == (0, 2)
    assert sorted(M.boundary_edges(faces[1:]).flatten().unique().tolist()) == sorted(
        faces[0].tolist()
    )


def test_uniform_laplacian_is_degree_minus_adjacency() -> None:
    laplacian = M.uniform_laplacian(TETRAHEDRON, 4).to_dense()
    assert_close(laplacian, 4 * torch.eye(4) - 1)


def test_cotangent_laplacian_is_zero_on_linear_functions_of_a_plane() -> None:
    generator = torch.Generator().manual_seed(0)
    inner = torch.rand(2, generator=generator, dtype=torch.float64) * 0.5 + 0.25
    square = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]).double()
    vertices = torch.cat([torch.cat([square, inner[None]]), torch.zeros(5, 1).double()], dim=1)
    faces = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    laplacian = M.cotangent_laplacian(vertices, faces).to_dense()
    assert_close((laplacian @ vertices)[4], torch.zeros(3).double())
    assert_close(laplacian, laplacian.T)
    assert_close(laplacian.sum(1), torch.zeros(5).double())


def test_cotangent_laplacian_measures_the_dirichlet_energy() -> None:
    # On the unit sphere the energy of x is the integral of |grad x|^2 = 8 pi / 3.
    vertices, faces = octahedron(5)
    x = vertices[:, :1]
    energy = x.T @ (M.cotangent_laplacian(vertices, faces) @ x)
    assert float(energy) == pytest.approx(8 * math.pi / 3, rel=2e-3)


def test_cotangent_laplacian_times_positions_is_the_gradient_of_area() -> None:
    vertices, faces = random_mesh()
    leaf = vertices.clone().requires_grad_()
    M.face_areas(leaf, faces).sum().backward()
    assert leaf.grad is not None
    assert_close(M.cotangent_laplacian(vertices, faces) @ vertices, leaf.grad)


def test_parts_are_told_apart_and_the_largest_is_kept_whole() -> None:
    small, large = octahedron(0), octahedron(1)
    vertices = torch.cat([small[0], large[0] + 5, torch.zeros(1, 3).double()]).float()
    faces = torch.cat([small[1], large[1] + len(small[0])])
    labels = M.face_components(faces, len(vertices))
    assert labels.tolist() == [0] * 8 + [1] * 32
    assert len(M.vertex_components(faces, len(vertices)).unique()) == 3
    mesh = M.TriangleMesh(vertices, faces, colors=vertices / 10, uv=vertices[:, :2], uv_faces=faces)
    kept = M.largest_component(mesh)
    assert torch.equal(kept.vertices, vertices[6:-1])
    assert torch.equal(kept.faces, large[1])
    assert kept.colors is not None
    assert kept.uv is not None
    assert kept.uv_faces is not None
    assert torch.equal(kept.colors, kept.vertices / 10)
    assert torch.equal(kept.uv[kept.uv_faces], kept.vertices[kept.faces][..., :2])


def test_an_empty_mesh_has_no_largest_part() -> None:
    with pytest.raises(ValueError, match="must have faces"):
        M.largest_component(M.TriangleMesh(torch.zeros(3, 3), torch.zeros(0, 3).long()))


def test_parts_are_kept_by_size_and_the_small_ones_dropped() -> None:
    parts = [octahedron(level) for level in (1, 0, 1, 0)]
    vertices = torch.cat([v + 5 * i for i, (v, _) in enumerate(parts)]).float()
    starts = torch.tensor([0, *(len(v) for v, _ in parts)]).cumsum(0).tolist()
    faces = torch.cat([f + start for start, (_, f) in zip(starts, parts, strict=False)])
    mesh = M.TriangleMesh(vertices, faces)

    def places(count: int, min_faces: int = 1) -> list[int]:
        kept = M.largest_components(mesh, count, min_faces).vertices
        return sorted({round(float(x) / 5) for x in kept.mean(dim=1)})

    assert places(1) == [0]
    assert places(2) == [0, 2]
    assert places(3) == [0, 1, 2]
    assert places(9) == [0, 1, 2, 3]
    assert places(9, min_faces=9) == [0, 2]
    with pytest.raises(ValueError, match="a part of 33 faces, its largest has 32"):
        M.largest_components(mesh, 1, 33)
    with pytest.raises(ValueError, match="count must be positive, got 0"):
        M.largest_components(mesh, 0)


def test_subdivision_keeps_surface_orientation_and_corners() -> None:
    vertices, faces = random_mesh()
    fine, fine_faces = M.subdivide(vertices, faces)
    assert torch.equal(fine[: len(vertices)], vertices)
    assert len(fine) == len(vertices) + len(M.unique_edges(faces))
    areas = M.face_areas(fine, fine_faces).reshape(-1, 4)
    assert_close(areas, (M.face_areas(vertices, faces)[:, None] / 4).expand(-1, 4))
    normals = M.face_normals(fine, fine_faces).reshape(-1, 4, 3)
    assert_close(normals, M.face_normals(vertices, faces)[:, None].expand(-1, 4, -1))
    assert M.boundary_edges(fine_faces).shape == (0, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"faces": torch.tensor([[0, 1, 4]])}, r"faces must lie in \[0, 4\), got 0 to 4"),
        ({"faces": torch.tensor([[0, 1, -1]])}, "got -1 to 1"),
        ({"uv": torch.zeros(4, 2)}, "uv and uv_faces must be given together"),
    ],
)
def test_meshes_that_cannot_be_are_rejected(fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        M.TriangleMesh(**{"vertices": torch.zeros(4, 3), "faces": TETRAHEDRON, **fields})


def test_samples_lie_on_their_faces_and_are_spread_by_area() -> None:
    vertices, faces = random_mesh()
    drawn = sample_surface(vertices, faces, 40_000, torch.Generator().manual_seed(1))
    assert bool((drawn.barycentrics >= 0).all())
    assert_close(drawn.barycentrics.sum(1), torch.ones(40_000).double())
    assert_close(
        drawn.points, interpolate_on_faces(vertices, faces, drawn.face_index, drawn.barycentrics)
    )
    areas = M.face_areas(vertices, faces)
    expected = 40_000 * areas / areas.sum()
    counts = torch.bincount(drawn.face_index, minlength=len(faces))
    chi_squared = float(((counts - expected).square() / expected).sum())
    assert chi_squared < len(faces) + 5 * math.sqrt(2 * len(faces))
    # Uniform in the triangle: mean 1/3 and variance 1/18 of each barycentric.
    assert_close(drawn.barycentrics.mean(0), torch.full((3,), 1 / 3).double(), **rough("1/sqrt(n)"))
    assert_close(drawn.barycentrics.var(0), torch.full((3,), 1 / 18).double(), **rough("1/sqrt(n)"))


def rough(reason: str) -> dict:
    return {"looser": 1e8, "reason": reason}


def test_a_mesh_without_area_has_no_samples() -> None:
    with pytest.raises(ValueError, match="must have an area"):
        sample_surface(torch.zeros(4, 3), TETRAHEDRON, 5)


def test_closest_points_are_as_close_as_the_best_of_many_samples() -> None:
    vertices, faces = random_mesh()
    generator = torch.Generator().manual_seed(2)
    points = 1.5 * torch.randn(60, 3, generator=generator, dtype=torch.float64)
    found = closest_points(points, vertices, faces)
    distance = (found.points - points).norm(dim=1)
    samples = sample_surface(vertices, faces, 30_000, generator).points
    sampled = torch.cdist(points, samples).min(dim=1).values
    assert bool((distance <= sampled + 1e-12).all())
    assert bool((distance >= sampled - 0.05).all())
    assert bool((found.barycentrics >= -1e-12).all())


def test_points_on_the_surface_are_their_own_closest_points() -> None:
    vertices, faces = random_mesh()
    samples = sample_surface(vertices, faces, 500, torch.Generator().manual_seed(3))
    assert_close(closest_points(samples.points, vertices, faces).points, samples.points)


def test_faces_around_the_nearest_vertices_hold_the_closest_point_of_an_even_mesh() -> None:
    rows = torch.arange(12.0, dtype=torch.float64) / 12
    x, y = torch.meshgrid(rows, rows, indexing="ij")
    vertices = torch.stack([x, y, 0.1 * torch.sin(6 * x) * torch.cos(5 * y)], dim=-1).reshape(-1, 3)
    corner = torch.arange(144).view(12, 12)
    a, b, c, d = (
        q.flatten() for q in (corner[:-1, :-1], corner[1:, :-1], corner[:-1, 1:], corner[1:, 1:])
    )
    faces = torch.cat([torch.stack([a, b, c], dim=1), torch.stack([b, d, c], dim=1)])
    generator = torch.Generator().manual_seed(5)
    points = torch.rand(300, 3, generator=generator, dtype=torch.float64)
    points[:, 2] *= 0.2
    exact = closest_points(points, vertices, faces)
    quick = closest_points(points, vertices, faces, num_neighbors=8)
    assert_close(quick.points, exact.points)
    # A vertex of no face is nobody's neighbour.
    loose = torch.cat([points[:1], vertices])
    found = closest_points(points[:1], loose, faces + 1, num_neighbors=1)
    assert bool((found.points[0] - points[0]).norm() > 1e-3)
    assert_close(closest_points(points[:0], vertices, faces, num_neighbors=3).points, points[:0])


def test_a_search_around_no_vertex_is_refused() -> None:
    with pytest.raises(ValueError, match="num_neighbors must be at least 1, got 0"):
        closest_points(CORNERS, CORNERS, torch.tensor([[0, 1, 2]]), num_neighbors=0)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.2, 0.2, 1.0), (0.2, 0.2, 0)),  # above the inside
        ((-1.0, -1.0, 0.5), (0, 0, 0)),  # beyond a corner
        ((0.5, -1.0, 0.0), (0.5, 0, 0)),  # beyond an edge
        ((1.0, 1.0, 0.0), (0.5, 0.5, 0)),  # beyond the long edge
        ((3.0, -1.0, 0.0), (1, 0, 0)),
    ],
)
def test_closest_point_of_one_triangle(point, expected) -> None:
    face = torch.tensor([[0, 1, 2]])
    found = closest_points(torch.tensor([point]).double(), CORNERS, face)
    assert_close(found.points[0], torch.tensor(expected).double())


def test_closest_point_of_a_needle_lies_on_its_segment() -> None:
    needle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    found = closest_points(torch.tensor([[1.5, 1, 0]]), needle, torch.tensor([[0, 1, 2]]))
    assert np.allclose(found.points.numpy(), [[1.5, 0, 0]])

"""Packets of rays against brute force, closed forms and bad input."""

import math

import pytest
import torch

from triton_support import triton_device
from vultus.kernels.ray_mesh import (
    Backend,
    Bvh,
    any_hit,
    first_hit,
    morton_order,
    pack_visibility,
    vertex_visibility,
    visibility_words,
)

SQUARE = torch.tensor([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]])
SQUARE_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def triangle_soup(num_faces: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(num_faces, 1, 3, generator=generator)
    corners = centers + 0.3 * torch.randn(num_faces, 3, 3, generator=generator)
    return corners.reshape(-1, 3), torch.arange(3 * num_faces).reshape(-1, 3)


def random_rays(num_rays: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    origins = 2.0 * torch.randn(num_rays, 3, generator=generator)
    return origins, torch.randn(num_rays, 3, generator=generator)


def agreement_with_brute_force(bvh: Bvh, origins: torch.Tensor, directions: torch.Tensor) -> None:
    """Compare with float64; rays within 1e-4 of an edge may differ and must be few."""
    hits = first_hit(bvh, origins, directions)
    expected = first_hit(bvh, origins.double(), directions.double(), backend="ref")
    same = hits.face == expected.face
    assert same.float().mean() > 0.998
    hit = same & (hits.face >= 0)
    assert hit.float().mean() > 0.2
    assert bool((hits.distance[same & ~hit] == torch.inf).all())
    assert bool((hits.barycentrics[~hit & same] == 0).all())
    points = (bvh.vertices[bvh.faces[hits.face[hit]]] * hits.barycentrics[hit][..., None]).sum(1)
    along = origins[hit] + hits.distance[hit, None] * directions[hit]
    torch.testing.assert_close(points, along, atol=2e-4, rtol=0)
    # Grazing rays lose digits in proportion to the inverse of the determinant.
    error = (hits.distance[hit] - expected.distance[hit]).abs()
    assert error.median() < 1e-6
    assert error.max() < 1e-3


@pytest.mark.parametrize("num_faces", [1, 3, 300])
def test_packets_find_the_hits_of_brute_force(num_faces: int) -> None:
    vertices, faces = triangle_soup(num_faces, seed=num_faces)
    origins, _ = random_rays(1003, seed=1)
    targets = vertices.reshape(-1, 3, 3).mean(dim=1)[torch.arange(1003) % num_faces]
    agreement_with_brute_force(Bvh.build(vertices, faces), origins, targets - origins)


def test_refit_equals_a_new_tree_and_leaves_the_old_one_alone() -> None:
    vertices, faces = triangle_soup(200, seed=5)
    origins, directions = random_rays(777, seed=6)
    bvh = Bvh.build(vertices, faces)
    before = first_hit(bvh, origins, directions)
    moved = vertices + 0.4 * torch.sin(3.0 * vertices.flip(1))
    refitted = first_hit(bvh.refit(moved), origins, directions)
    rebuilt = first_hit(Bvh.build(moved, faces), origins, directions)
    assert torch.equal(refitted.face, rebuilt.face)
    assert torch.equal(refitted.distance, rebuilt.distance)
    assert not torch.equal(refitted.face, before.face)
    assert torch.equal(first_hit(bvh, origins, directions).face, before.face)


def test_the_result_does_not_depend_on_order_threads_or_claims_of_order() -> None:
    bvh = Bvh.build(*triangle_soup(100, seed=2))
    origins, directions = random_rays(500, seed=3)
    hits = first_hit(bvh, origins, directions, num_threads=1)
    permutation = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    for is_sorted, threads in ((True, 1), (False, 2), (True, 2)):
        other = first_hit(
            bvh,
            origins[permutation],
            directions[permutation],
            is_sorted=is_sorted,
            num_threads=threads,
        )
        assert torch.equal(other.face, hits.face[permutation])
        assert torch.equal(other.distance, hits.distance[permutation])
        assert torch.equal(other.barycentrics, hits.barycentrics[permutation])


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_any_hit_agrees_with_first_hit_inside_the_interval(backend) -> None:
    bvh = Bvh.build(*triangle_soup(60, seed=8))
    origins, directions = random_rays(400, seed=9)
    nearest = first_hit(bvh, origins, directions, backend=backend)
    assert torch.equal(any_hit(bvh, origins, directions, backend=backend), nearest.face >= 0)
    bounded = any_hit(bvh, origins, directions, t_max=0.5, backend=backend)
    assert torch.equal(bounded, nearest.distance < 0.5)
    later = first_hit(bvh, origins, directions, t_min=0.5, backend=backend)
    assert bool((later.distance >= 0.5).all())
    beyond = nearest.distance >= 0.5
    assert torch.equal(later.face[beyond], nearest.face[beyond])


@pytest.mark.parametrize("backend", ["ref", "cpu"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rays_along_the_axes_hit_flat_squares(backend, axis: int) -> None:
    """Two components of the direction are zero, and the boxes have no thickness."""
    bvh = Bvh.build(SQUARE.roll(axis + 1, dims=1), SQUARE_FACES)
    direction = torch.zeros(3)
    direction[axis] = -1.0
    inside = torch.tensor([[0.5, 0.25], [-0.3, 0.9], [0.0, 0.4], [-1.0, 0.5], [0.25, 0.25]])
    outside = torch.tensor([[1.5, 0.0], [0.0, -1.001]])
    plane = torch.cat([inside, outside])
    origins = torch.cat([plane, torch.full((7, 1), 2.0)], dim=1).roll(axis + 1, dims=1)
    hits = first_hit(bvh, origins, direction.expand(7, 3), backend=backend)
    assert (hits.face >= 0).tolist() == [True] * 5 + [False] * 2
    torch.testing.assert_close(hits.distance[:5], torch.full((5,), 2.0))


def test_directions_need_not_be_unit() -> None:
    bvh = Bvh.build(SQUARE, SQUARE_FACES)
    hits = first_hit(bvh, torch.tensor([[0.1, 0.2, 3.0]]), torch.tensor([[0.0, 0.0, -4.0]]))
    assert hits.distance.item() == pytest.approx(0.75)


def test_no_ray_slips_through_a_closed_surface() -> None:
    """Rays at shared corners and edges of an octahedron that is split into 8 x 4^4 faces."""
    vertices, faces = subdivided_octahedron(4)
    bvh = Bvh.build(vertices, faces)
    edges = 0.5 * (vertices[faces[:, 0]] + vertices[faces[:, 1]])
    targets = torch.cat([vertices, edges])
    origin = torch.tensor([0.31, -0.2, 0.15])
    assert bool(any_hit(bvh, origin.expand_as(targets), targets - origin).all())


def subdivided_octahedron(levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.eye(3)
    signs = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
    corners = torch.stack(
        [torch.stack([x * axis[0], y * axis[1], z * axis[2]][:: x * y * z]) for x, y, z in signs]
    )
    for _ in range(levels):
        a, b, c = corners.unbind(dim=1)
        ab, bc, ca = (torch.nn.functional.normalize(p, dim=1) for p in (a + b, b + c, c + a))
        corners = torch.cat(
            [torch.stack(f, dim=1) for f in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
    vertices, index = torch.unique(corners.reshape(-1, 3), dim=0, return_inverse=True)
    return vertices, index.reshape(-1, 3)


def test_degenerate_faces_are_never_hit_and_hide_nothing() -> None:
    extra = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.5, 1.0], [1.0, 1.0, 1.0]])
    faces = torch.cat([torch.tensor([[4, 5, 6], [4, 4, 4], [4, 5, 4]]), SQUARE_FACES])
    bvh = Bvh.build(torch.cat([SQUARE, extra]), faces)
    origins = torch.tensor([[0.25, 0.25, 2.0], [0.0, 0.0, 2.0], [0.5, 0.5, 2.0]])
    hits = first_hit(bvh, origins, torch.tensor([[0.0, 0.0, -1.0]]).expand(3, 3))
    torch.testing.assert_close(hits.distance, torch.full((3,), 2.0))


def test_every_ray_misses_an_empty_mesh() -> None:
    bvh = Bvh.build(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    origins, directions = random_rays(20, seed=0)
    hits = first_hit(bvh, origins, directions)
    assert bool((hits.face == -1).all())
    assert bool(torch.isinf(hits.distance).all())
    assert not bool(any_hit(bvh, origins, directions, backend="ref").any())
    visible = vertex_visibility(bvh, origins, None, directions, 0.0)
    assert bool((visible == 1).all())


def test_many_coinciding_triangles_still_build() -> None:
    vertices = SQUARE[:3].repeat(100, 1)
    bvh = Bvh.build(vertices, torch.arange(300).reshape(-1, 3))
    hits = first_hit(bvh, torch.tensor([[0.5, -0.5, 1.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    assert hits.distance.item() == 1.0


def test_no_rays_give_no_hits() -> None:
    bvh = Bvh.build(SQUARE, SQUARE_FACES)
    empty = torch.zeros(0, 3)
    assert first_hit(bvh, empty, empty).face.shape == (0,)
    assert vertex_visibility(bvh, empty, None, torch.eye(3), 0.0).shape == (0, 3)


@pytest.mark.parametrize("use_normals", [True, False])
def test_baked_visibility_equals_brute_force(use_normals: bool) -> None:
    vertices, faces = triangle_soup(80, seed=4)
    bvh = Bvh.build(vertices, faces)
    generator = torch.Generator().manual_seed(1)
    points = 2.0 * torch.randn(75, 3, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(75, 3, generator=generator), dim=1)
    lights = torch.randn(40, 4, generator=generator)
    lights[:, 3] = (torch.arange(40) % 2).float()
    arguments = (points, normals if use_normals else None, lights, 1e-3)
    visible = vertex_visibility(bvh, *arguments)
    assert 0.1 < visible.float().mean() < 0.95
    expected = vertex_visibility(bvh, *arguments, backend="ref")
    assert (visible != expected).float().mean() < 2e-3


@pytest.mark.parametrize("backend", ["cpu", "ref"])
def test_points_that_are_not_wanted_see_nothing(backend: Backend) -> None:
    vertices, faces = triangle_soup(80, seed=4)
    bvh = Bvh.build(vertices, faces)
    points, normals = random_rays(60, seed=2)
    lights, _ = random_rays(7, seed=3)
    is_wanted = torch.arange(60) % 3 == 0
    everything = vertex_visibility(bvh, points, normals, lights, 1e-3, backend=backend)
    assert 0.1 < float(everything[is_wanted].float().mean()) < 0.95
    visible = vertex_visibility(
        bvh, points, normals, lights, 1e-3, is_wanted=is_wanted, backend=backend
    )
    assert torch.equal(visible, everything * is_wanted[:, None])
    none = is_wanted & ~is_wanted
    assert not vertex_visibility(bvh, points, None, lights, 0.0, is_wanted=none).any()


@pytest.mark.parametrize("backend", ["cpu", "ref"])
@pytest.mark.parametrize("use_normals", [True, False])
def test_words_are_packed_visibility_of_the_rows_that_are_looked_at(
    backend: Backend, use_normals: bool
) -> None:
    vertices, faces = triangle_soup(80, seed=4)
    bvh = Bvh.build(vertices, faces)
    points, normals = random_rays(60, seed=2)
    lights, _ = random_rays(40, seed=3)
    along = normals if use_normals else None
    visible = vertex_visibility(bvh, points, along, lights, 1e-3, backend=backend)
    assert 0.1 < float(visible.float().mean()) < 0.95
    words = visibility_words(bvh, points, along, lights, 1e-3, backend=backend)
    assert torch.equal(words, pack_visibility(visible))
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(1))[:25]
    some = visibility_words(bvh, points, along, lights, 1e-3, rows=rows, backend=backend)
    is_looked_at = torch.zeros(60, 1, dtype=torch.int32).index_fill(0, rows, 1)
    assert torch.equal(some, words * is_looked_at)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
@pytest.mark.parametrize("backend", ["cpu", pytest.param("gpu", marks=pytest.mark.triton)])
def test_rows_may_be_of_any_integer_type(backend: Backend, dtype: torch.dtype) -> None:
    device = triton_device() if backend == "gpu" else torch.device("cpu")
    vertices, faces = triangle_soup(12, seed=4)
    bvh = Bvh.build(vertices.to(device), faces.to(device))
    points, lights = (x.to(device) for x in random_rays(5, seed=2))
    every = visibility_words(bvh, points, None, lights, 1e-3, backend=backend)
    rows = torch.tensor([4, 0, 1], dtype=dtype, device=device)
    some = visibility_words(bvh, points, None, lights, 1e-3, rows=rows, backend=backend)
    wanted = torch.zeros_like(every).index_copy(0, rows.long(), every[rows.long()])
    assert torch.equal(some, wanted)
    assert bool(wanted[[4, 1]].any())


@pytest.mark.parametrize("row", [-1, 5])
def test_rows_that_do_not_exist_are_refused(row: int) -> None:
    bvh, points = Bvh.build(SQUARE, SQUARE_FACES), torch.zeros(5, 3)
    rows = torch.tensor([2, row])
    with pytest.raises(ValueError, match=r"rows must lie in \[0, 5\), got"):
        visibility_words(bvh, points, None, torch.ones(2, 3), 0.0, rows=rows)


def test_words_of_lights_without_a_direction_are_refused() -> None:
    bvh, point = Bvh.build(SQUARE, SQUARE_FACES), torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"lights must not have the direction \(0, 0, 0\)"):
        visibility_words(bvh, point, None, torch.zeros(2, 3), 0.0)


def test_a_light_at_a_position_is_not_hidden_by_what_lies_behind_it() -> None:
    bvh = Bvh.build(SQUARE, SQUARE_FACES)
    points = torch.tensor([[0.2, 0.1, 1.0]])
    lights = torch.tensor([[0.2, 0.1, 0.5, 1.0], [0.2, 0.1, -0.5, 1.0], [0.0, 0.0, -1.0, 0.0]])
    assert vertex_visibility(bvh, points, None, lights, 0.0).tolist() == [[1, 0, 0]]


def test_lights_below_the_horizon_are_hidden() -> None:
    bvh = Bvh.build(SQUARE + 10.0, SQUARE_FACES)
    points, normals = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.0]])
    lights = torch.tensor([[0.3, -0.01, 0.0], [0.3, 0.01, 0.0]])
    assert vertex_visibility(bvh, points, normals, lights, 1e-3).tolist() == [[0, 1]]
    assert vertex_visibility(bvh, points, None, lights, 1e-3).tolist() == [[1, 1]]


def test_morton_order_is_a_permutation_that_keeps_neighbours_together() -> None:
    points = torch.rand(4096, 3, generator=torch.Generator().manual_seed(0))
    order = morton_order(points)
    assert torch.equal(order.sort().values, torch.arange(4096))
    steps = points[order].diff(dim=0).norm(dim=1).mean()
    # A regular grid of 16^3 points has a spacing of 1/16; random order steps by 0.66.
    assert steps < 2.0 / 16
    assert torch.equal(morton_order(torch.zeros(5, 3)), torch.arange(5))


def test_float64_reference_keeps_its_precision() -> None:
    bvh = Bvh.build(SQUARE.double(), SQUARE_FACES)
    origin = torch.tensor([[0.1, 0.2, 1.0 / 3.0]], dtype=torch.float64)
    down = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    distance = first_hit(bvh, origin, down, backend="ref").distance
    assert distance.dtype == torch.float64
    assert distance.item() == pytest.approx(1 / 3, abs=1e-15)


def test_bad_meshes_are_refused() -> None:
    broken = SQUARE.clone()
    broken[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"vertices must be finite, got 1 .* row 2"):
        Bvh.build(broken, SQUARE_FACES)
    bvh = Bvh.build(SQUARE, SQUARE_FACES)
    with pytest.raises(ValueError, match="vertices must be finite"):
        bvh.refit(broken)
    assert bvh.refit(broken, check_values=False).vertices is broken
    with pytest.raises(ValueError, match="must keep the shape"):
        bvh.refit(SQUARE[:3])
    with pytest.raises(ValueError, match="faces must index the 4 vertices"):
        Bvh.build(SQUARE, SQUARE_FACES + 1)


def test_bad_rays_are_refused() -> None:
    bvh = Bvh.build(SQUARE, SQUARE_FACES)
    good = torch.ones(2, 3)
    bad = torch.tensor([[1.0, 0.0, 0.0], [0.0, math.inf, 0.0]])
    with pytest.raises(ValueError, match="origins must be finite, got row 1"):
        first_hit(bvh, bad, good)
    with pytest.raises(ValueError, match="directions must not be zero, got row 1"):
        any_hit(bvh, good, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    huge = torch.full((2, 3), 3e38)  # Their sum is infinite, they are not.
    assert not any_hit(bvh, huge, good).any()
    assert first_hit(bvh, bad, good, check_values=False).face.shape == (2,)
    with pytest.raises(ValueError, match="w = 0 or w = 1"):
        vertex_visibility(bvh, good, None, torch.tensor([[0.0, 1.0, 0.0, 0.5]]), 0.0)
    with pytest.raises(ValueError, match=r"direction \(0, 0, 0\)"):
        vertex_visibility(bvh, good, None, torch.zeros(1, 3), 0.0)

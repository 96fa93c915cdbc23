"""Rays in Triton against brute force; on a GPU, or a few rays in Triton's interpreter."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from triton_support import compile_launch, is_interpreting, triton_device
from vultus.kernels.ray_mesh import (
    Backend,
    Bvh,
    any_hit,
    first_hit,
    pack_visibility,
    vertex_visibility,
    visibility_words,
)

triton_test = pytest.mark.triton


@pytest.fixture
def device() -> torch.device:
    return triton_device()


def bumpy_sphere(rings: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Closed surface of 2 (rings - 1) sectors quads and two caps, with sectors = 2 rings."""
    sectors = 2 * rings
    polar = math.pi * (torch.arange(1, rings).double() / rings)
    azimuth = 2 * math.pi * torch.arange(sectors).double() / sectors
    sine, ring = polar.sin()[:, None], polar.cos()[:, None].expand(-1, sectors)
    grid = torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), ring], dim=-1).reshape(-1, 3)
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    vertices = torch.cat([grid, poles])
    vertices = vertices * (1 + 0.2 * torch.sin(5 * vertices[:, :1]))
    index = torch.arange(len(grid)).view(rings - 1, sectors)
    a, b = index[:-1], index[:-1].roll(-1, dims=1)
    c, d = index[1:], index[1:].roll(-1, dims=1)
    quads = torch.stack([a, c, d, a, d, b], dim=-1).reshape(-1, 3)
    top = torch.stack([torch.full_like(index[0], len(grid)), index[0], index[0].roll(-1)], dim=1)
    bottom = torch.stack([top[:, 0] + 1, index[-1].roll(-1), index[-1]], dim=1)
    return vertices.float().to(device), torch.cat([quads, top, bottom]).to(device)


def rays_around(num: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """From outside and inside, most of them towards the mesh."""
    generator = torch.Generator().manual_seed(seed)
    origins = 1.5 * torch.randn(num, 3, generator=generator)
    targets = 0.7 * torch.randn(num, 3, generator=generator)
    return origins.to(device), (targets - origins).to(device)


def exact_hits(vertices: Tensor, faces: Tensor, origins: Tensor, directions: Tensor, *interval):
    bvh = Bvh.build(vertices.double().cpu(), faces.cpu())
    rays = origins.double().cpu(), directions.double().cpu()
    return first_hit(bvh, *rays, *interval, backend="ref")


@triton_test
@pytest.mark.parametrize("rings", [2, 7])
def test_lanes_find_the_hits_of_brute_force(device, rings):
    """The larger mesh has several chunks, some of which lie inside one node."""
    vertices, faces = bumpy_sphere(rings, device)
    origins, directions = rays_around(70, rings, device)
    hits = first_hit(Bvh.build(vertices, faces), origins, directions, backend="gpu")
    expected = exact_hits(vertices, faces, origins, directions)
    assert torch.equal(hits.face.cpu(), expected.face)
    found = expected.face >= 0
    assert 0.3 < found.float().mean() < 1
    assert bool((hits.distance.cpu()[~found] == torch.inf).all())
    for name in ("distance", "barycentrics"):
        actual, wanted = getattr(hits, name).cpu().double(), getattr(expected, name)
        torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-4)


@triton_test
def test_gpu_any_hit_and_intervals_agree_with_brute_force(device):
    vertices, faces = bumpy_sphere(4, device)
    origins, directions = rays_around(40, 3, device)
    bvh = Bvh.build(vertices, faces)
    for interval in ((0.0, torch.inf), (0.0, 0.8), (0.8, torch.inf)):
        expected = exact_hits(vertices, faces, origins, directions, *interval).face >= 0
        actual = any_hit(bvh, origins, directions, *interval, backend="gpu")
        assert torch.equal(actual.cpu(), expected)
    later = first_hit(bvh, origins, directions, t_min=0.8, backend="gpu")
    assert torch.equal(later.face.cpu(), exact_hits(vertices, faces, origins, directions, 0.8).face)


@triton_test
def test_boxes_refitted_on_the_gpu_are_those_of_the_cpu(device):
    """Up to the rounding of corners that are sums of a corner and an edge."""
    vertices, faces = bumpy_sphere(8, device)
    moved = vertices + 0.3 * torch.sin(3 * vertices.flip(1))
    bvh = Bvh.build(vertices, faces).refit(moved)
    nodes = bvh.gpu_tree.nodes.cpu()
    expected = torch.from_numpy(bvh.tree.boxes)
    assert len(expected) > 100
    torch.testing.assert_close(nodes[:, :6], expected, atol=3e-7, rtol=0)
    links = nodes[:, 6:].view(torch.int32)
    assert torch.equal(links[:, 0], torch.from_numpy(bvh.topology.skip))
    assert torch.equal(links[:, 1], torch.from_numpy(bvh.topology.leaf))


@triton_test
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gpu_rays_along_the_axes_hit_flat_squares(device, axis):
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    bvh = Bvh.build(corners.roll(axis + 1, dims=1).to(device), faces.to(device))
    direction = torch.zeros(3)
    direction[axis] = -1.0
    plane = torch.tensor([[0.5, 0.25], [-0.3, 0.9], [0.0, 0.4], [-1.0, 0.5], [1.5, 0], [0, -1.001]])
    origins = torch.cat([plane, torch.full((6, 1), 2.0)], dim=1).roll(axis + 1, dims=1)
    rays = origins.to(device), direction.expand(6, 3).to(device)
    hits = first_hit(bvh, *rays, backend="gpu")
    assert (hits.face >= 0).tolist() == [True] * 4 + [False] * 2
    torch.testing.assert_close(hits.distance[:4].cpu(), torch.full((4,), 2.0))


def bake(bvh: Bvh, points: Tensor, normals: Tensor | None, lights: Tensor, backend: Backend):
    along = None if normals is None else normals.to(points)
    return vertex_visibility(bvh, points, along, lights.to(points), 1e-3, backend=backend)


@triton_test
@pytest.mark.parametrize("use_normals", [True, False])
def test_gpu_visibility_equals_brute_force(device, use_normals):
    vertices, faces = bumpy_sphere(4, device)
    generator = torch.Generator().manual_seed(1)
    points = 1.2 * torch.randn(37, 3, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(37, 3, generator=generator), dim=1)
    lights = torch.randn(3, 4, generator=generator)
    lights[:, 3] = torch.tensor([0.0, 1.0, 0.0])
    seen_along = normals if use_normals else None
    exact = Bvh.build(vertices.double().cpu(), faces.cpu())
    expected = bake(exact, points.double(), seen_along, lights, "ref")
    visible = bake(Bvh.build(vertices, faces), points.to(device), seen_along, lights, "gpu")
    assert 0.1 < expected.float().mean() < 0.95
    assert torch.equal(visible.cpu(), expected)


@triton_test
def test_points_that_are_not_wanted_see_nothing_on_the_gpu(device):
    vertices, faces = bumpy_sphere(4, device)
    bvh = Bvh.build(vertices, faces)
    generator = torch.Generator().manual_seed(2)
    points = 1.2 * torch.randn(70, 3, generator=generator).to(device)
    lights = torch.randn(3, 3, generator=generator).to(device)
    is_wanted = (torch.arange(70, device=device) % 3 == 0) & (points[:, 0] > -0.5)
    # What is not wanted may hold anything.
    points[~is_wanted] = torch.nan
    visible = vertex_visibility(
        bvh, points, None, lights, 0.0, is_wanted=is_wanted, check_values=False, backend="gpu"
    )
    everything = vertex_visibility(bvh, points.nan_to_num(), None, lights, 0.0, backend="gpu")
    assert 0.1 < float(everything[is_wanted].float().mean()) < 0.95
    assert torch.equal(visible, everything * is_wanted[:, None])


@triton_test
def test_gpu_words_are_packed_visibility_of_the_rows_that_are_looked_at(device):
    vertices, faces = bumpy_sphere(4, device)
    generator = torch.Generator().manual_seed(1)
    points = 1.2 * torch.randn(20, 3, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator), dim=1)
    # Two bytes, the second of which is not full.
    lights = torch.randn(9, 3, generator=generator)
    exact = Bvh.build(vertices.double().cpu(), faces.cpu())
    visible = bake(exact, points.double(), normals, lights, "ref")
    assert 0.1 < visible.float().mean() < 0.95
    expected = pack_visibility(visible)
    bvh = Bvh.build(vertices, faces)
    rays = (points.to(device), normals.to(device), lights.to(device), 1e-3)
    assert torch.equal(visibility_words(bvh, *rays, backend="gpu").cpu(), expected)
    rows = torch.tensor([19, 3, 4, 0])
    some = visibility_words(bvh, *rays, rows=rows.to(device), backend="gpu")
    is_looked_at = torch.zeros(20, 1, dtype=torch.int32).index_fill(0, rows, 1)
    assert torch.equal(some.cpu(), expected * is_looked_at)


@triton_test
def test_gpu_rays_miss_degenerate_faces_and_empty_meshes(device):
    line = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.5, 1.0], [1.0, 1.0, 1.0]], device=device)
    faces = torch.tensor([[0, 1, 2], [0, 0, 0]], device=device)
    origins = torch.tensor([[0.25, 0.25, 2.0], [0.0, 0.0, 2.0]], device=device)
    down = torch.tensor([[0.0, 0.0, -1.0]], device=device).expand(2, 3)
    for mesh in (Bvh.build(line, faces), Bvh.build(line, faces[:0])):
        hits = first_hit(mesh, origins, down, backend="gpu")
        assert hits.face.tolist() == [-1, -1]
        assert bool((hits.barycentrics == 0).all())
        assert not bool(any_hit(mesh, origins, down, backend="gpu").any())
    none = torch.zeros(0, 3, device=device)
    assert first_hit(mesh, none, none, backend="gpu").face.shape == (0,)
    assert vertex_visibility(mesh, none, None, down, 0.0, backend="gpu").shape == (0, 2)


def test_gpu_rays_must_be_on_a_gpu():
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("the interpreter runs on the CPU")
    bvh = Bvh.build(*bumpy_sphere(3, torch.device("cpu")))
    with pytest.raises(ValueError, match=r"needs the mesh and the rays on one GPU, got cpu"):
        first_hit(bvh, torch.zeros(1, 3), torch.ones(1, 3), backend="gpu")


@pytest.mark.gpu
def test_a_captured_graph_refits_and_traces_new_shapes(device):
    vertices, faces = bumpy_sphere(20, device)
    origins, directions = rays_around(3000, 1, device)
    bvh = Bvh.build(vertices, faces)
    first_hit(bvh.refit(vertices), origins, directions)
    shape = vertices.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = first_hit(bvh.refit(shape), origins, directions)
    shape.mul_(1.3)
    graph.replay()
    expected = first_hit(Bvh.build(shape, faces), origins, directions)
    assert float((replayed.face == expected.face).float().mean()) > 0.999


@pytest.mark.parametrize("capability", [80, 90])
def test_ray_kernels_compile_without_spilling(capability):
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.triton_runtime import recorded_launches

    device = torch.device("cpu")
    origins, directions = rays_around(100, 1, device)
    with recorded_launches() as launches:
        bvh = Bvh.build(*bumpy_sphere(8, device))
        first_hit(bvh, origins, directions, backend="gpu")
        any_hit(bvh, origins, directions, backend="gpu")
        for normals, is_wanted in (
            (None, None),
            (directions, None),
            (directions, origins[:, 0] > 0),
        ):
            vertex_visibility(
                bvh, origins, normals, directions, 1e-3, is_wanted=is_wanted, backend="gpu"
            )
        rows = torch.arange(50)
        for normals, some in ((None, None), (directions, rows)):
            visibility_words(bvh, origins, normals, directions, 1e-3, rows=some, backend="gpu")
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names[:2] == ["place_triangles", "bound_nodes"]
    assert names[2:] == ["trace_rays"] * 2 + ["bake_visibility"] * 3 + ["bake_words"] * 2
    for launch in launches:
        kernel = compile_launch(launch, capability)
        assert kernel.stack == 0
        if launch.kernel.fn.__name__ in ("trace_rays", "bake_visibility", "bake_words"):
            assert "ld.global.v4" in kernel.ptx, "nodes must be read as vectors"
            assert "st.shared" not in kernel.ptx, "a lane must keep what it has read"

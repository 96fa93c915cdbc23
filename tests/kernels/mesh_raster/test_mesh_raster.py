"""Rasterization of meshes against rays, areas and finite differences; all backends alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mesh_scenes import front_camera, icosphere, polygon, triangle_soup
from tolerances import assert_close
from triton_support import compile_launch, is_interpreting, triton_device
from vultus.geometry.cameras import Camera, camera_centers, pixel_directions, project_points
from vultus.geometry.meshes import subdivide
from vultus.kernels.mesh_raster import (
    Backend,
    Fragments,
    antialias,
    face_neighbors,
    interpolate,
    rasterize_mesh,
)
from vultus.kernels.ray_mesh import Bvh, first_hit

FAST = ["cpu", pytest.param("gpu", marks=pytest.mark.triton)]


@pytest.fixture(params=FAST)
def backend(request) -> Backend:
    return request.param


def place(backend: Backend) -> Tensor:
    """A float32 tensor where the backend runs."""
    return torch.zeros(0, device=triton_device() if backend == "gpu" else "cpu")


def camera_like(camera: Camera, like: Tensor) -> Camera:
    return replace(
        camera,
        world_to_camera=camera.world_to_camera.to(like),
        intrinsics=camera.intrinsics.to(like),
    )


def coverage(vertices: Tensor, faces: Tensor, camera: Camera) -> Tensor:
    """Antialiased silhouette [b 1 h w]."""
    fragments = rasterize_mesh(vertices, faces, camera)
    inside = fragments.is_covered.to(vertices)
    return antialias(inside, fragments, faces, face_neighbors(faces))


def screen_area(vertices: Tensor, camera: Camera) -> Tensor:
    """Area in pixels of a polygon whose corners are the vertices in order."""
    (pixels,) = project_points(vertices, camera)[0]
    following = pixels.roll(-1, dims=0)
    return 0.5 * (pixels[:, 0] * following[:, 1] - pixels[:, 1] * following[:, 0]).sum().abs()


QUADRILATERAL = [(-0.81, -0.52), (0.63, -0.7), (0.9, 0.44), (-0.37, 0.83)]


# ---- visibility ----------------------------------------------------------------------------------


def test_pixels_see_what_rays_hit() -> None:
    vertices, faces = triangle_soup(60, seed=3)
    camera = front_camera()
    fragments = rasterize_mesh(vertices, faces, camera)
    rotation = camera.camera_to_world[0, :3, :3]
    directions = (pixel_directions(camera)[0] @ rotation.T).reshape(-1, 3)
    origins = camera_centers(camera).expand_as(directions)
    hits = first_hit(Bvh.build(vertices[0], faces), origins, directions, backend="ref")
    assert torch.equal(fragments.face_index.flatten().long(), hits.face.long())
    assert 0.2 < (hits.face >= 0).double().mean() < 0.95
    # Directions have z = 1, so that distances along them are depths.
    assert_close(fragments.depth.flatten(), hits.distance)
    assert_close(fragments.barycentrics[0].flatten(1).T, hits.barycentrics, looser=10,
                 reason="grazing triangles")  # fmt: skip


def test_interpolated_positions_project_to_the_pixel_centers() -> None:
    vertices, faces = triangle_soup(40, seed=4, batch=2, size=0.5)
    camera = Camera.stack([front_camera(), front_camera(focal=45.0)])
    fragments = rasterize_mesh(vertices, faces, camera)
    points = interpolate(vertices, faces, fragments)
    pixels, depth = project_points(points.flatten(2).mT, camera)
    is_seen = fragments.is_covered.flatten()
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(40.0), indexing="ij")
    centers = torch.stack([x, y], dim=-1).double().flatten(0, 1).repeat(2, 1) + 0.5
    assert_close(pixels.flatten(0, 1)[is_seen], centers[is_seen], looser=100, reason="slivers")
    assert_close(depth.flatten()[is_seen], fragments.depth.flatten()[is_seen])
    assert bool((points.movedim(1, -1).flatten(0, 2)[~is_seen] == 0).all())
    assert bool(fragments.depth.flatten()[~is_seen].isinf().all())


@pytest.mark.parametrize("size", [0.02, 0.3, 3.0])
def test_backends_see_the_same_faces(backend, size) -> None:
    like = place(backend)
    vertices, faces = triangle_soup(25, seed=5, batch=2, size=size)
    camera = Camera.stack([front_camera(23, 14), front_camera(23, 14, focal=20.0)])
    expected = rasterize_mesh(vertices, faces, camera)
    actual = rasterize_mesh(
        vertices.to(like), faces.to(like.device), camera_like(camera, like), backend=backend
    )
    same = actual.face_index.cpu() == expected.face_index
    # Pixel centres on an edge may go to either side.
    assert same.double().mean() > 0.995
    assert bool((expected.face_index >= 0).any())
    for name in ("barycentrics", "depth"):
        a, b = getattr(actual, name).cpu().double(), getattr(expected, name)
        is_same = same[:, None].expand_as(b) & b.isfinite()
        torch.testing.assert_close(a[is_same], b[is_same], rtol=2e-3, atol=2e-3)


def test_backends_find_the_same_silhouettes(backend) -> None:
    like = place(backend)
    vertices, faces = icosphere(2)
    # A small sphere before a large one: contours against the background and within the outline.
    both = torch.cat([vertices, 0.4 * vertices + torch.tensor([0.31, 0.13, 1.2])])[None]
    faces = torch.cat([faces, faces + len(vertices)])
    camera = front_camera(24, 20, focal=30.0)
    neighbors = face_neighbors(faces)
    image = torch.rand(1, 2, 20, 24, generator=torch.Generator().manual_seed(0))
    expected = rasterize_mesh(both, faces, camera)
    actual = rasterize_mesh(
        both.to(like), faces.to(like.device), camera_like(camera, like), backend=backend
    )
    assert torch.equal(actual.face_index.cpu(), expected.face_index)
    smooth = antialias(
        image.to(like), actual, faces.to(like.device), neighbors.to(like.device), backend=backend
    )
    reference = antialias(image.double(), expected, faces, neighbors)
    torch.testing.assert_close(smooth.cpu().double(), reference, rtol=0, atol=2e-5)
    assert (reference - image).abs().amax(dim=1).gt(0).sum() > 40


def test_images_do_not_depend_on_the_number_of_threads() -> None:
    vertices, faces = triangle_soup(300, seed=8)
    camera = camera_like(front_camera(90, 70), torch.zeros(0))
    before = torch.get_num_threads()
    images = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            images.append(coverage(vertices.float(), faces, camera))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_faces_of_a_plane_leave_no_gap(dtype) -> None:
    """Many corners and edges lie exactly at pixel centres."""
    grid = torch.arange(9.0, dtype=dtype)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    vertices = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(1, -1, 3)
    corner = (9 * torch.arange(8)[:, None] + torch.arange(8)).flatten()
    faces = torch.cat(
        [torch.stack([corner, corner + 1, corner + 10], 1),
         torch.stack([corner, corner + 10, corner + 9], 1)]
    )  # fmt: skip
    intrinsics = torch.eye(3, dtype=dtype)[None]
    camera = Camera(torch.eye(4, dtype=dtype)[None], intrinsics, 8, 8)
    assert bool(rasterize_mesh(vertices, faces, camera).is_covered.all())


def test_the_first_of_faces_at_one_depth_is_seen(backend) -> None:
    like = place(backend)
    vertices, faces = polygon(QUADRILATERAL)
    camera = camera_like(front_camera(), like)
    twice = torch.cat([faces, faces]).to(like.device)
    fragments = rasterize_mesh(vertices.to(like), twice, camera, backend=backend)
    assert fragments.face_index.unique().tolist() == [-1, 0, 1]


def test_faces_that_reach_the_near_plane_are_left_out(backend) -> None:
    like = place(backend)
    camera = camera_like(front_camera(), like)
    vertices, faces = polygon(QUADRILATERAL)
    vertices = torch.cat([vertices, vertices + torch.tensor([0.0, 0.0, 1.0])], dim=1).to(like)
    vertices[0, 4, 2] = 4.5
    both = torch.cat([faces, faces + 4]).to(like.device)
    fragments = rasterize_mesh(vertices, both, camera, backend=backend)
    assert set(fragments.face_index.unique().tolist()) <= {-1, 0, 1}
    seen = rasterize_mesh(vertices[:, :4], both[:2], camera, backend=backend)
    assert torch.equal(fragments.face_index, seen.face_index)


def test_a_mesh_behind_the_camera_gives_an_empty_image_with_gradients() -> None:
    vertices, faces = polygon(QUADRILATERAL)
    behind = (vertices + torch.tensor([0.0, 0.0, 5.0])).requires_grad_()
    fragments = rasterize_mesh(behind, faces, front_camera())
    assert not bool(fragments.is_covered.any())
    (interpolate(behind, faces, fragments).sum() + fragments.barycentrics.sum()).backward()
    assert behind.grad is not None
    assert not bool(behind.grad.any())


# ---- antialiasing --------------------------------------------------------------------------------


def test_coverage_of_a_polygon_sums_to_its_area() -> None:
    """Rows and columns are trapezoids: only the corners leave a rest."""
    vertices, faces = polygon(QUADRILATERAL)
    camera = front_camera(400, 320, focal=600.0)
    area = float(screen_area(vertices, camera))
    hard = float(rasterize_mesh(vertices, faces, camera).is_covered.sum())
    smooth = float(coverage(vertices, faces, camera).sum())
    assert abs(smooth - area) < 2.0
    assert abs(smooth - area) < 0.5 * abs(hard - area) + 1.0
    assert 3e4 < area


def test_gradients_of_coverage_are_those_of_the_area() -> None:
    vertices, faces = polygon(QUADRILATERAL)
    camera = front_camera(400, 320, focal=600.0)
    mine, exact = vertices.clone().requires_grad_(), vertices.clone().requires_grad_()
    coverage(mine, faces, camera).sum().backward()
    screen_area(exact, camera).backward()
    assert mine.grad is not None
    assert exact.grad is not None
    error = (mine.grad - exact.grad).norm(dim=-1) / exact.grad.norm(dim=-1)
    assert float(error.max()) < 0.02


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_coverage_does_not_depend_on_how_fine_the_mesh_is(levels) -> None:
    """At the finest level a triangle is a fifth of a pixel across."""
    vertices, faces = polygon(QUADRILATERAL)
    camera = front_camera(36, 28, focal=40.0)
    expected = coverage(vertices, faces, camera)
    fine = vertices
    for _ in range(levels):
        fine, faces = subdivide(fine, faces)
    assert_close(coverage(fine, faces, camera), expected)


@pytest.mark.parametrize("half_width", [1e-3, 0.05, 0.2, 0.4])
def test_a_speck_within_a_pixel_never_takes_more_than_there_is(backend, half_width) -> None:
    """All four neighbours claim a part of the pixel whose centre it covers."""
    like = place(backend)
    size = 2.0 * half_width
    vertices = torch.tensor(
        [[0.0, 0.0, 1.0], [size, 0.0, 1.0], [size, size, 1.0], [0.0, size, 1.0]]
    )
    vertices[:, :2] += 2.5 - half_width
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    camera = camera_like(Camera(torch.eye(4)[None], torch.eye(3)[None], 5, 5), like)
    positions, faces = vertices[None].to(like).requires_grad_(), faces.to(like.device)
    fragments = rasterize_mesh(positions, faces, camera, backend=backend)
    assert fragments.is_covered.sum() == 1
    image = torch.where(fragments.is_covered, 2.0, 0.0).to(like)
    neighbors = face_neighbors(faces.cpu()).to(like.device)
    smooth = antialias(image, fragments, faces, neighbors, backend=backend)
    assert 0.0 <= float(smooth.detach().min())
    assert float(smooth.detach().max()) <= 2.0
    smooth.sum().backward()
    assert positions.grad is not None
    assert bool(positions.grad.isfinite().all())


def test_a_sphere_grows_by_its_outline() -> None:
    """The outline is where the surface turns away; d area / d radius is known."""
    vertices, faces = icosphere(5)
    camera = camera_like(front_camera(160, 160, focal=200.0), torch.zeros(0))
    radius = torch.ones((), requires_grad=True)
    area = coverage((radius * vertices.float())[None], faces, camera).sum()
    (growth,) = torch.autograd.grad(area, radius)
    # Tangents from distance d touch at sin = r / d, on the screen at f tan.
    r = torch.ones((), requires_grad=True)
    exact = torch.pi * 200.0**2 * r**2 / (16.0 - r**2)
    (exact_growth,) = torch.autograd.grad(exact, r)
    assert area.item() == pytest.approx(exact.item(), rel=5e-3)
    assert growth.item() == pytest.approx(exact_growth.item(), rel=0.02)


def test_a_shape_that_moves_covers_as_much() -> None:
    vertices, faces = icosphere(3)
    shift = torch.zeros(3, requires_grad=True)
    camera = camera_like(front_camera(120, 100, focal=150.0), torch.zeros(0))
    area = coverage((vertices.float() + shift)[None], faces, camera).sum()
    (gradient,) = torch.autograd.grad(area, shift)
    # Sideways; towards the camera it grows.
    assert float(gradient[:2].abs().max()) < 0.02 * float(gradient[2])


def test_gradients_agree_with_finite_differences() -> None:
    vertices, faces = icosphere(1)
    vertices = 0.9 * vertices + torch.tensor([0.03, -0.02, 0.1])
    camera = front_camera(12, 10, focal=16.0)
    generator = torch.Generator().manual_seed(2)
    colors = torch.rand(1, len(vertices), 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(1, 2, 10, 12, generator=generator, dtype=torch.float64)
    neighbors = face_neighbors(faces)

    def picture(positions: Tensor, attributes: Tensor, matrix: Tensor) -> Tensor:
        view = replace(camera, world_to_camera=matrix)
        fragments = rasterize_mesh(positions, faces, view)
        drawn = interpolate(attributes, faces, fragments)
        return (antialias(drawn, fragments, faces, neighbors) * weights).sum()

    inputs = [vertices[None], colors, camera.world_to_camera]
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(picture, inputs, eps=1e-7, atol=1e-5)


def test_creases_within_a_surface_are_left_alone() -> None:
    vertices, faces = icosphere(2)
    fragments = rasterize_mesh(vertices[None], faces, front_camera(40, 40, focal=50.0))
    image = torch.rand(1, 1, 40, 40, dtype=torch.float64)
    change = antialias(image, fragments, faces, face_neighbors(faces)) - image
    inner = fragments.is_covered.double()
    inner = -torch.nn.functional.max_pool2d(-inner, 3, stride=1, padding=1)
    assert bool((change[inner > 0] == 0).all())
    assert bool((change != 0).any())


def test_outlines_find_a_sphere_again() -> None:
    vertices, faces = icosphere(2)
    vertices = vertices.float()
    camera = camera_like(front_camera(48, 48, focal=70.0), torch.zeros(0))
    true_shift, true_scale = torch.tensor([0.12, -0.2, 0.0]), 1.15
    target = coverage((true_scale * vertices + true_shift)[None], faces, camera)
    shift = torch.zeros(3, requires_grad=True)
    scale = torch.ones((), requires_grad=True)
    optimizer = torch.optim.Adam([shift, scale], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        moved = scale * vertices + shift * torch.tensor([1.0, 1.0, 0.0])
        (coverage(moved[None], faces, camera) - target).square().sum().backward()
        optimizer.step()
    assert float((shift - true_shift).detach().abs().max()) < 0.01
    assert scale.item() == pytest.approx(true_scale, abs=0.01)


# ---- neighbours, errors, compilation -------------------------------------------------------------


def test_neighbors_share_the_edge_that_names_them() -> None:
    _, faces = icosphere(2)
    neighbors = face_neighbors(faces)
    assert bool((neighbors >= 0).all())
    for k in range(3):
        mine = faces[:, [k, (k + 1) % 3]]
        other = faces[neighbors[:, k].long()]
        assert bool((mine[:, :, None] == other[:, None]).any(dim=2).all())
        assert bool(
            (neighbors[neighbors[:, k].long()] == torch.arange(len(faces))[:, None]).any(1).all()
        )


def test_edges_of_one_or_three_faces_have_no_neighbor() -> None:
    fin = torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]])
    assert face_neighbors(fin).tolist() == [[-1, -1, -1]] * 3
    pair = torch.tensor([[0, 1, 2], [2, 1, 3]])
    assert face_neighbors(pair).tolist() == [[-1, 1, -1], [0, -1, -1]]


def test_bad_inputs_are_named() -> None:
    vertices, faces = polygon(QUADRILATERAL)
    camera = front_camera()
    with pytest.raises(ValueError, match="one set per camera, 1, got 2"):
        rasterize_mesh(vertices.repeat(2, 1, 1), faces, camera)
    with pytest.raises(ValueError, match="near must be positive, got 0"):
        rasterize_mesh(vertices, faces, camera, near=0.0)
    with pytest.raises(ValueError, match="faces must name vertices, 0 to 3, got 0 to 4"):
        rasterize_mesh(vertices, faces + (faces == 3), camera)
    with pytest.raises(ValueError, match="faces must not be empty"):
        rasterize_mesh(vertices, faces[:0], camera)
    with pytest.raises(TypeError, match="float32 on the CPU"):
        rasterize_mesh(vertices, faces, camera, backend="cpu")
    fragments = rasterize_mesh(vertices, faces, camera)
    with pytest.raises(ValueError, match="image must have frames and size"):
        antialias(vertices.new_zeros(1, 1, 8, 8), fragments, faces, face_neighbors(faces))


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spilling(capability) -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    from vultus.kernels.mesh_raster import gpu
    from vultus.kernels.triton_runtime import recorded_launches

    screen, faces = torch.rand(2, 100, 3), torch.randint(100, (50, 3))
    with recorded_launches() as launches:
        face_index = gpu.visible_faces(screen, faces, (32, 40), 0.01)
        gpu.silhouette_edges(face_index, torch.rand(2, 32, 40), screen, faces, faces.int())
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["draw_faces", "find_edges"]
    for launch in launches:
        assert compile_launch(launch, capability).stack == 0, launch.kernel.fn.__name__


def test_the_gpu_is_not_replaced_where_there_is_none() -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("the interpreter takes tensors on the CPU")
    vertices, faces = polygon(QUADRILATERAL)
    camera = camera_like(front_camera(), torch.zeros(0))
    with pytest.raises(TypeError, match="vertices must be on a GPU for backend gpu, got cpu"):
        rasterize_mesh(vertices.float(), faces, camera, backend="gpu")


def test_fragments_say_where_a_face_is_seen() -> None:
    vertices, faces = polygon(QUADRILATERAL)
    fragments = rasterize_mesh(vertices, faces, front_camera())
    assert isinstance(fragments, Fragments)
    assert torch.equal(fragments.is_covered[:, 0], fragments.depth[:, 0].isfinite())

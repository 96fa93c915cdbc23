"""Depth maps of an analytic sphere: their normals, and the surface fused from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tolerances import assert_close
from vultus.geometry.camera_paths import dome, orbit
from vultus.geometry.cameras import Camera, camera_centers, pixel_directions
from vultus.geometry.depth import depth_to_normals, depth_to_points
from vultus.geometry.meshes import boundary_edges, face_normals
from vultus.geometry.tsdf import TsdfVolume

RADIUS = 0.1
CENTER = torch.tensor([0.02, -0.01, 0.03])
LENS = (torch.tensor([[150.0, 0, 64], [0, 150, 64], [0, 0, 1]]), 128, 128)
LOW, HIGH = CENTER - 1.3 * RADIUS, CENTER + 1.3 * RADIUS


def sphere_depth(camera: Camera) -> torch.Tensor:
    """Depth of the sphere, 0 beside it."""
    directions = pixel_directions(camera) @ camera.camera_to_world[:, None, :3, :3].mT
    start = (camera_centers(camera) - CENTER)[:, None, None]
    a, b = directions.square().sum(-1), (directions * start).sum(-1)
    root = b.square() - a * (start.square().sum(-1) - RADIUS**2)
    return torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / a, 0.0)[:, None]


def all_around() -> Camera:
    return dome(CENTER, 0.4, 4, 7, *LENS, sweep=2 * math.pi, pitch_range=(-1.2, 1.2))


def test_points_of_a_depth_map_lie_on_the_surface() -> None:
    camera = orbit(CENTER, 0.4, 3, 2.0, *LENS)
    depth = sphere_depth(camera)
    points = depth_to_points(depth, camera)[depth[:, 0] > 0]
    assert_close((points - CENTER).norm(dim=-1), torch.full((len(points),), RADIUS))


def test_normals_of_a_depth_map_are_those_of_the_surface() -> None:
    camera = orbit(CENTER, 0.4, 3, 2.0, *LENS)
    depth = sphere_depth(camera)
    truth = (depth_to_points(depth, camera) - CENTER) / RADIUS
    normals = depth_to_normals(depth, camera).permute(0, 2, 3, 1)
    # Away from the outline, where central differences of a 128-pixel sphere are good.
    towards = torch.nn.functional.normalize(camera_centers(camera) - CENTER, dim=-1)
    is_inner = (truth * towards[:, None, None]).sum(-1) > 0.5
    cosine = (normals * truth).sum(-1)[is_inner & (depth[:, 0] > 0)]
    assert len(cosine) > 1000
    assert float(cosine.min()) > math.cos(0.02)
    assert float(depth_to_normals(depth, camera)[..., 0, :].abs().max()) == 0.0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (4, 1), (2, 2), (3, 3)])
def test_images_that_are_almost_all_border_keep_their_size(height: int, width: int) -> None:
    camera = Camera(torch.eye(4)[None], torch.eye(3)[None], width, height)
    normals = depth_to_normals(torch.ones(1, 1, height, width), camera)
    assert normals.shape == (1, 3, height, width)
    inner = normals[..., 1:-1, 1:-1]
    assert float(normals.square().sum()) == pytest.approx(inner.numel() / 3)


def test_gradients_of_depth_normals_are_right() -> None:
    intrinsics = torch.tensor([[[4.0, 0, 2.5], [0, 4, 2], [0, 0, 1]]]).double()
    camera = Camera(torch.eye(4).double()[None], intrinsics, 5, 4)
    generator = torch.Generator().manual_seed(0)
    depth = (1 + torch.rand(1, 1, 4, 5, generator=generator).double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: depth_to_normals(d, camera), depth)


@pytest.mark.parametrize("resolution", [40, 64])
def test_a_fused_sphere_is_closed_and_off_by_less_than_a_voxel(resolution: int) -> None:
    cameras = all_around()
    depth = sphere_depth(cameras)
    volume = TsdfVolume.cover(LOW, HIGH, resolution)
    for i in range(len(cameras)):
        volume.integrate(depth[i], None, cameras[i])
    mesh = volume.extract()
    offsets = (mesh.vertices - CENTER).norm(dim=1) - RADIUS
    assert float(offsets.abs().max()) < volume.voxel_size
    assert float(offsets.abs().mean()) < 0.25 * volume.voxel_size
    assert boundary_edges(mesh.faces).shape == (0, 2)
    outward = mesh.vertices[mesh.faces].mean(1) - CENTER
    assert bool(((face_normals(mesh.vertices, mesh.faces) * outward).sum(-1) > 0).all())
    assert mesh.normals is not None
    cosine = (mesh.normals * (mesh.vertices - CENTER)).sum(-1) / RADIUS
    assert float(cosine.mean()) > 0.99


def test_only_what_was_seen_is_extracted() -> None:
    cameras = orbit(CENTER, 0.4, 3, 0.5, *LENS)
    depth = sphere_depth(cameras)
    depth[..., :50] = 0.0
    volume = TsdfVolume.cover(LOW, HIGH, 48)
    for i in range(3):
        volume.integrate(depth[i], None, cameras[i])
    mesh = volume.extract(only_largest=False)
    assert float((mesh.vertices[:, 2] - CENTER[2]).min()) > -0.5 * RADIUS
    # Middles of triangles lie inside one cell; all of its corners must have been seen.
    middles = mesh.vertices[mesh.faces].mean(1).numpy()
    cells = np.floor((middles - volume.origin) / volume.voxel_size).astype(int)
    for corner in np.ndindex(2, 2, 2):
        assert bool((volume.weights[tuple((cells + corner).T)] > 0).all())


def test_colors_of_views_end_on_the_vertices_that_they_see() -> None:
    cameras = orbit(CENTER, 0.4, 2, 2 * math.pi, *LENS)  # from the front and from behind
    depth = sphere_depth(cameras)
    volume = TsdfVolume.cover(LOW, HIGH, 40)
    shades = torch.tensor([[1.0, 0.2, 0.0], [0.0, 0.2, 1.0]])
    for i in range(2):
        volume.integrate(depth[i], shades[i, :, None, None].expand(3, 128, 128), cameras[i])
    mesh = volume.extract()
    assert mesh.colors is not None
    z = mesh.vertices[:, 2] - CENTER[2]
    assert_close(mesh.colors[z > 0.06], shades[0].expand(int((z > 0.06).sum()), 3))
    assert_close(mesh.colors[z < -0.06], shades[1].expand(int((z < -0.06).sum()), 3))


def test_heavier_views_count_more() -> None:
    camera = orbit(CENTER, 0.4, 1, 1.0, *LENS)
    depth = sphere_depth(camera)[0]
    near, far = (torch.where(depth > 0, depth + shift, 0.0) for shift in (-0.004, 0.004))
    volume = TsdfVolume.cover(LOW, HIGH, 64)
    volume.integrate(near, None, camera, weight=3.0)
    volume.integrate(far, None, camera, weight=1.0)
    mesh = volume.extract()
    middle = mesh.vertices[(mesh.vertices - CENTER)[:, :2].norm(dim=1) < 0.01]
    front = float(middle[:, 2].mean() - CENTER[2]) - RADIUS
    assert front == pytest.approx(0.002, abs=5e-4)


def test_depth_beyond_the_truncation_is_ignored() -> None:
    camera = orbit(CENTER, 0.4, 1, 1.0, *LENS)
    volume = TsdfVolume.cover(LOW, HIGH, 16)
    volume.integrate(sphere_depth(camera)[0], None, camera, depth_truncation=0.2)
    with pytest.raises(ValueError, match="no surface was seen"):
        volume.extract()


def test_volumes_and_views_that_cannot_be_are_rejected() -> None:
    with pytest.raises(ValueError, match="resolution must be at least 2"):
        TsdfVolume.cover(LOW, HIGH, 1)
    with pytest.raises(ValueError, match="high above low"):
        TsdfVolume.cover(HIGH, LOW, 16)
    with pytest.raises(ValueError, match="at most"):
        TsdfVolume(LOW, (2000, 2000, 2000), 0.1)
    volume = TsdfVolume.cover(LOW, HIGH, 8)
    camera = orbit(CENTER, 0.4, 2, 1.0, *LENS)
    with pytest.raises(ValueError, match="one camera, got 2"):
        volume.integrate(torch.ones(1, 128, 128), None, camera)
    with pytest.raises(ValueError, match=r"depth must have the camera's size \(128, 128\)"):
        volume.integrate(torch.ones(1, 64, 128), None, camera[0])

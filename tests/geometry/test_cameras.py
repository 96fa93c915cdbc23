from __future__ import annotations

import math

import jaxtyping
import pytest
import torch

from tolerances import assert_close
from vultus.geometry.cameras import (
    Camera,
    camera_centers,
    check_rigid,
    fov_to_focal,
    look_at,
    opencv_to_opengl,
    opengl_to_opencv,
    pixel_directions,
    project_points,
    ray_distance_to_depth,
)

INTRINSICS = torch.tensor([[[50.0, 0, 20], [0, 60, 10], [0, 0, 1]]])


def camera(eye=(0.3, 0.2, 2.0)) -> Camera:
    return Camera(look_at(torch.tensor([eye]), torch.zeros(3)), INTRINSICS, 40, 24)


def test_camera_to_world_inverts_world_to_camera() -> None:
    product = camera().camera_to_world @ camera().world_to_camera
    assert_close(product, torch.eye(4)[None])


def test_look_at_uses_opencv_axes() -> None:
    rotation = camera((0.0, 0.0, 2.0)).world_to_camera[0, :3, :3]
    assert_close(rotation, torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    assert_close(camera_centers(camera()), torch.tensor([[0.3, 0.2, 2.0]]))


def test_look_at_follows_another_up() -> None:
    matrix = look_at(torch.tensor([[0.0, 0, 2]]), torch.zeros(3), torch.tensor([1.0, 0, 0]))
    assert_close(matrix[0, 1, :3], torch.tensor([-1.0, 0, 0]))  # image down is -x


def test_pixel_centres_project_back_to_themselves() -> None:
    rays = pixel_directions(camera())
    camera_to_world = camera().camera_to_world
    points = 1.7 * rays.reshape(1, -1, 3) @ camera_to_world[:, :3, :3].mT
    pixels, depth = project_points(points + camera_centers(camera())[:, None], camera())
    columns, rows = torch.meshgrid(torch.arange(40.0), torch.arange(24.0), indexing="xy")
    expected = torch.stack([columns, rows], dim=-1).reshape(1, -1, 2) + 0.5
    assert_close(pixels, expected, looser=2, reason="pixels are of order 40")
    assert_close(depth, torch.full_like(depth, 1.7))


def test_points_behind_the_camera_have_negative_depth() -> None:
    _, depth = project_points(torch.tensor([[[0.6, 0.4, 4.0]]]), camera())
    assert float(depth) < 0


def test_opengl_axes_flip_and_flip_back() -> None:
    matrix = camera().camera_to_world
    flipped = opencv_to_opengl(matrix)
    assert_close(flipped[..., 0], matrix[..., 0])
    assert_close(flipped[..., 1:3], -matrix[..., 1:3])
    assert torch.equal(opengl_to_opencv(flipped), matrix)


def test_resizing_moves_pixels_with_the_image() -> None:
    points = torch.tensor([[[0.1, -0.2, 0.3]]])
    before, _ = project_points(points, camera())
    after, _ = project_points(points, camera().resized(80, 12))
    assert_close(after, before * torch.tensor([2.0, 0.5]))


def test_ray_distances_become_depth() -> None:
    distance = torch.full((1, 1, 24, 40), 3.0)
    depth = ray_distance_to_depth(distance, camera())
    points = pixel_directions(camera()) * depth[:, 0, :, :, None]
    assert_close(points.norm(dim=-1), distance[:, 0])


def test_field_of_view_becomes_focal_length() -> None:
    assert fov_to_focal(math.pi / 2, 100) == pytest.approx(50.0)


def test_selecting_and_stacking_cameras() -> None:
    both = Camera.stack([camera((0.0, 0, 1)), camera((0.0, 0, 2))])
    assert len(both) == 2
    assert_close(camera_centers(both[-1]), torch.tensor([[0.0, 0, 2]]))
    assert len(both[0:1]) == 1
    with pytest.raises(ValueError, match="one image size"):
        Camera.stack([camera(), camera().resized(8, 8)])


def test_cameras_that_cannot_be_are_rejected() -> None:
    with pytest.raises(ValueError, match="must be positive, got 0 x 24"):
        Camera(torch.eye(4)[None], INTRINSICS, 0, 24)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="intrinsics"):
        Camera(torch.eye(4).expand(2, 4, 4), INTRINSICS, 40, 24)
    with pytest.raises(ValueError, match="differ from target"):
        look_at(torch.zeros(1, 3), torch.zeros(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.mul_(torch.nan), "pose must be finite"),
        (lambda m: m[3].fill_(1), "pose must have the last row"),
        (lambda m: m[:3, :3].mul_(2), "not a rotation"),
        (lambda m: m[0].mul_(-1), "not a rotation"),
    ],
)
def test_matrices_that_are_not_rigid_are_rejected(change, message: str) -> None:
    matrix = torch.eye(4)
    check_rigid(matrix, "pose")
    change(matrix)
    with pytest.raises(ValueError, match=message):
        check_rigid(matrix, "pose")

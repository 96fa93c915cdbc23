"""Driving vectors hold what moves the face; cameras follow the skull."""

from __future__ import annotations

import pytest
import torch

from fakes import FakeHead
from vultus.geometry.cameras import Camera, camera_centers, look_at, project_points
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose
from vultus.heads.expression_track import ExpressionTrack
from vultus.methods.gaussianhead.driving import (
    DrivingScale,
    driving_sizes,
    driving_vectors,
    head_camera,
    head_to_world,
    view_vectors,
)

FIELDS = ("expression_coeffs", "jaw_pose", "eye_pose")


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_fields_are_joined_in_order_and_missing_ones_left_out() -> None:
    pose = HeadPose(expression_coeffs=random(5, 7), eye_pose=random(5, 6))
    sizes = driving_sizes(pose, FIELDS)
    assert sizes == {"expression_coeffs": 7, "eye_pose": 6}
    vectors = driving_vectors(pose, sizes)
    assert torch.equal(vectors, torch.cat([random(5, 7), random(5, 6)], dim=1))


def test_a_field_that_a_pose_lacks_counts_as_zero_and_a_shared_row_as_all_rows() -> None:
    sizes = {"expression_coeffs": 7, "jaw_pose": 3}
    vectors = driving_vectors(HeadPose(jaw_pose=random(4, 3)), sizes)
    assert not vectors[:, :7].any()
    shared = HeadPose(jaw_pose=random(4, 3), expression_coeffs=random(1, 7))
    assert torch.equal(driving_vectors(shared, sizes)[:, :7], random(1, 7).expand(4, -1))


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="expression_coeffs must have 7 numbers as in training"):
        driving_vectors(HeadPose(expression_coeffs=random(2, 5)), {"expression_coeffs": 7})
    with pytest.raises(ValueError, match="must have a pose with expression_coeffs or jaw_pose"):
        driving_sizes(HeadPose(translation=random(2, 3)), FIELDS)


def test_scaled_fields_have_mean_zero_and_small_numbers_stay_small() -> None:
    sizes = {"expression_coeffs": 2, "jaw_pose": 3}
    vectors = torch.cat([random(400, 2) * torch.tensor([2.0, 0.01]) + 5, torch.ones(400, 3)], dim=1)
    scale = DrivingScale.of(vectors, sizes)
    scaled = scale(vectors)
    assert scaled.mean(dim=0).abs().max() < 1e-5
    assert float(scaled[:, 0].std()) == pytest.approx(1, abs=0.01)
    assert float(scaled[:, 1].std()) < 0.01, "noise must not be amplified"
    assert not scale(vectors + 3)[:, 2:].any(), "what never moved says nothing"


def test_pictures_do_not_change_when_head_and_camera_move_together() -> None:
    head = FakeHead()
    pose = HeadPose(global_rotation=random(3, 3), translation=random(3, 3))
    motions = head_to_world(head, pose)
    rotations = axis_angle_to_matrix(random(3, 3))
    torch.testing.assert_close(motions[:, :3, :3], rotations, atol=1e-5, rtol=0)
    up = torch.tensor([0.0, 1.0, 0.0]).expand(3, 3)
    world = look_at(torch.tensor([0.0, 0.1, 1.5]).expand(3, 3), torch.zeros(3, 3), up)
    intrinsics = torch.tensor([[80.0, 0, 30], [0, 80, 30], [0, 0, 1]]).expand(3, 3, 3)
    camera = Camera(world, intrinsics, 60, 60)
    center, scale = torch.tensor([0.02, -0.01, 0.03]), torch.tensor(4.0)
    seen = head_camera(camera, motions, center, scale)
    rest = head.neutral
    pixels, depth = project_points(head.vertices(pose), camera)
    scene = (scale * (rest - center)).expand(3, -1, -1)
    again, scaled_depth = project_points(scene, seen)
    torch.testing.assert_close(again, pixels, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(scaled_depth / scale, depth, atol=1e-4, rtol=1e-4)
    assert camera_centers(seen).shape == (3, 3)


def test_heads_without_mesh_and_poses_without_place_stay_at_rest() -> None:
    track = ExpressionTrack(4)
    still = head_to_world(track, HeadPose(expression_coeffs=random(3, 4)))
    assert torch.equal(still, torch.eye(4).expand(3, 4, 4))
    assert torch.equal(head_to_world(FakeHead(), HeadPose()), torch.eye(4)[None])


def test_views_tell_where_the_head_is_before_the_camera_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(4)
    motions = torch.eye(4).repeat(5, 1, 1)
    motions[:, :3, :3] = axis_angle_to_matrix(torch.randn(5, 3, generator=generator))
    motions[:, :3, 3] = torch.randn(5, 3, generator=generator)
    camera = Camera(
        look_at(torch.tensor([[0.0, 0.1, 2.0]]), torch.zeros(3)), torch.eye(3)[None], 8, 8
    )
    center, scale = torch.tensor([0.1, 0.0, -0.2]), torch.tensor(3.0)
    still = Camera(camera.world_to_camera.repeat(5, 1, 1), camera.intrinsics.repeat(5, 1, 1), 8, 8)
    seen = view_vectors(head_camera(still, motions, center, scale))
    moving = Camera(still.world_to_camera @ motions, still.intrinsics, 8, 8)
    resting = torch.eye(4).repeat(5, 1, 1)
    torch.testing.assert_close(view_vectors(head_camera(moving, resting, center, scale)), seen)
    assert float((seen[1:] - seen[:-1]).abs().amax(dim=1).min()) > 0.1
    place = (still.world_to_camera @ motions @ torch.cat([center, torch.ones(1)]))[:, :3]
    torch.testing.assert_close(seen[:, 9:], scale * place)

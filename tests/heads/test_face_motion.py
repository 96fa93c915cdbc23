from __future__ import annotations

import pytest
import torch

from fakes import FakeHead
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose
from vultus.heads.face_motion import face_coeff_names, face_coeffs, skull_to_world
from vultus.heads.procedural import ProceduralHead, default_identity
from vultus.heads.tracked import TrackedMesh


def random_pose(batch: int, generator: torch.Generator) -> HeadPose:
    def noise(size: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(batch, size, generator=generator)

    return HeadPose(
        identity_coeffs=torch.tensor([[0.7]]),
        expression_coeffs=noise(2, 1.0),
        global_rotation=noise(3, 0.8),
        translation=noise(3, 0.3),
    )


def test_the_motion_of_a_rigid_head_is_its_rotation_and_translation() -> None:
    pose = random_pose(40, torch.Generator().manual_seed(0))
    motion = skull_to_world(FakeHead(), pose)
    expected = axis_angle_to_matrix(pose.global_rotation)
    torch.testing.assert_close(motion[:, :3, :3], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(motion[:, :3, 3], pose.translation, atol=1e-6, rtol=0)
    assert torch.equal(motion[:, 3], torch.tensor([0.0, 0, 0, 1]).expand(40, 4))


def test_the_skull_of_a_jointed_head_is_carried_exactly_whatever_the_face_does() -> None:
    head, generator = ProceduralHead(), torch.Generator().manual_seed(1)
    count = len(head.expression_names)
    pose = HeadPose(
        identity_coeffs=default_identity(),
        expression_coeffs=torch.rand(3, count, generator=generator),
        global_rotation=0.4 * torch.randn(3, 3, generator=generator),
        neck_pose=0.3 * torch.randn(3, 3, generator=generator),
        jaw_pose=torch.tensor([[0.2, 0.0, 0.0]]),
        translation=0.1 * torch.randn(3, 3, generator=generator),
    )
    motion = skull_to_world(head, pose)
    still = HeadPose(identity_coeffs=default_identity())
    scalp = head.topology.regions["scalp"]
    rest = head.vertices(still)[0, scalp]
    moved = pose.replace(expression_coeffs=None, jaw_pose=None)
    posed = head.vertices(moved)[:, scalp]
    carried = rest @ motion[:, :3, :3].transpose(1, 2) + motion[:, None, :3, 3]
    torch.testing.assert_close(carried, posed, atol=1e-6, rtol=0)


def test_one_shared_pose_gives_one_motion() -> None:
    pose = HeadPose(global_rotation=torch.tensor([[0.0, 0.5, 0.0]]))
    assert skull_to_world(FakeHead(), pose).shape == (1, 4, 4)
    pose = pose.replace(expression_coeffs=torch.zeros(20, 2))
    motion = skull_to_world(FakeHead(), pose)
    assert motion.shape == (20, 4, 4)
    torch.testing.assert_close(motion, motion[:1].expand(20, 4, 4))


def test_everything_that_moves_the_face_is_in_the_vector() -> None:
    head = ProceduralHead()
    count = len(head.expression_names)
    pose = HeadPose(
        expression_coeffs=torch.rand(4, count),
        jaw_pose=torch.rand(1, 3),
        global_rotation=torch.rand(4, 3),
    )
    vectors, names = face_coeffs(head, pose), face_coeff_names(head)
    assert vectors.shape == (4, count + 9)
    assert names == (
        *head.expression_names,
        *(f"jaw_pose_{i}" for i in range(3)),
        *(f"eye_pose_{i}" for i in range(6)),
    )
    assert torch.equal(vectors[:, :count], pose.expression_coeffs)
    assert torch.equal(vectors[:, count : count + 3], pose.jaw_pose.expand(4, 3))
    assert not vectors[:, count + 3 :].any()


def test_a_head_that_can_only_be_replayed_has_no_face_coefficients() -> None:
    fake = FakeHead()
    head = TrackedMesh(fake.neutral, fake.topology.faces)
    with pytest.raises(ValueError, match="'tracked' has no expressions"):
        face_coeffs(head, HeadPose())

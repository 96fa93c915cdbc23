from __future__ import annotations

import pytest
import torch

from fakes import FakeHead
from studio_flame import StandInFlame
from tolerances import assert_close
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose
from vultus.heads.retargeting import (
    MotionSpace,
    neutral_row,
    rebase,
    rebased_fields,
    retarget,
)

FLAME = MotionSpace.of(StandInFlame("2023"))


def random(*shape: int, seed: int = 0, scale: float = 0.5) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flame_motion(frames: int = 5, expressions: int = 100) -> HeadPose:
    return HeadPose(
        identity_coeffs=random(1, 300, seed=9),
        expression_coeffs=random(frames, expressions),
        global_rotation=random(frames, 3, seed=1),
        neck_pose=random(frames, 3, seed=2),
        jaw_pose=random(frames, 3, seed=3),
        eye_pose=random(frames, 6, seed=4),
        translation=random(frames, 3, seed=5),
    )


def test_the_shape_stays_and_the_motion_is_taken_over() -> None:
    head = StandInFlame("2023")
    subject = HeadPose(
        identity_coeffs=random(1, 300, seed=7),
        expression_coeffs=random(2, 100),
        static_offset=random(1, head.neutral.shape[0], 3),
    )
    motion = flame_motion()
    found = retarget(motion, FLAME, head, subject)
    assert found.notes == ()
    assert torch.equal(found.pose.identity_coeffs, subject.identity_coeffs)
    assert torch.equal(found.pose.static_offset, subject.static_offset)
    for name in ("expression_coeffs", "global_rotation", "jaw_pose", "eye_pose", "translation"):
        assert torch.equal(getattr(found.pose, name), getattr(motion, name))


def test_two_subjects_of_one_model_differ_by_their_shape_alone() -> None:
    head = FakeHead()
    motion = HeadPose(identity_coeffs=torch.tensor([[-1.0]]), expression_coeffs=random(4, 2))
    subject = HeadPose(identity_coeffs=torch.tensor([[2.0]]))
    played = retarget(motion, MotionSpace.of(head), head, subject).pose
    driver, avatar = head.vertices(motion), head.vertices(played)
    rest = HeadPose(identity_coeffs=torch.tensor([[-1.0]])), subject
    driver_rest, avatar_rest = (head.vertices(pose) for pose in rest)
    assert_close(avatar - avatar_rest, driver - driver_rest)
    assert float((avatar_rest - driver_rest).abs().max()) > 0.02


def test_other_rigs_are_driven_by_the_names_of_expressions() -> None:
    space = MotionSpace("arkit", "1", ("mouthSmileLeft", "tongueOut", "jawOpen", "cheekPuff"))
    weights = torch.tensor([[0.2, 0.9, 0.7, 0.0]])
    motion = HeadPose(expression_coeffs=weights, neck_pose=torch.ones(1, 3))
    found = retarget(motion, space, FakeHead(), HeadPose())
    assert_close(found.pose.expression_coeffs, torch.tensor([[0.7, 0.2]]))
    assert found.notes == (
        "head 'fake' has no shape for tongueOut",
        "head 'fake' has no neck_pose",
    )


def test_heads_without_a_common_expression_are_refused() -> None:
    space = MotionSpace("other", "1", ("a", "b"))
    with pytest.raises(ValueError, match=r"head 'fake' shares no expression with .* 'other'"):
        retarget(HeadPose(expression_coeffs=torch.ones(1, 2)), space, FakeHead(), HeadPose())


def test_another_release_of_flame_is_played_with_a_note() -> None:
    head = StandInFlame("2023")
    space = MotionSpace("flame", "2020", tuple(f"expression_{i}" for i in range(50)))
    motion = flame_motion(expressions=50)
    found = retarget(motion, space, head, HeadPose(identity_coeffs=random(1, 300)))
    assert "mean only nearly the same on 2023" in found.notes[0]
    assert_close(found.pose.expression_coeffs[:, 2:50], motion.expression_coeffs[:, 2:])
    assert float(found.pose.expression_coeffs[:, 50:].abs().max()) == 0.0


ALL_FIELDS = rebased_fields("motion")


def test_the_neutral_of_the_driver_becomes_that_of_the_avatar() -> None:
    motion, own = flame_motion(), flame_motion(1).map(lambda t: -0.7 * t)
    found = rebase(motion, motion[3], own, ALL_FIELDS)
    for name in ALL_FIELDS:
        assert_close(getattr(found, name)[3:4], getattr(own, name), looser=10, reason="two turns")


def test_a_driver_with_the_same_neutral_is_played_as_it_is() -> None:
    motion = flame_motion()
    found = rebase(motion, motion[2], motion[2], ALL_FIELDS)
    for name in ALL_FIELDS:
        assert_close(getattr(found, name), getattr(motion, name), looser=10, reason="two turns")


def test_rotations_away_from_the_neutral_are_the_same_for_both() -> None:
    motion, own = flame_motion(), flame_motion(1).map(lambda t: 0.3 * t)
    found = rebase(motion, motion[0], own, ALL_FIELDS)
    for eye in (slice(0, 3), slice(3, 6)):
        turn, start, played, rest = (
            axis_angle_to_matrix(pose.eye_pose[:, eye]) for pose in (motion, motion[0], found, own)
        )
        assert_close(turn @ start.mT, played @ rest.mT, looser=10, reason="two turns")


def test_only_the_chosen_fields_are_rebased() -> None:
    motion, own = flame_motion(), flame_motion(1)
    found = rebase(motion, motion[0], own, rebased_fields("expression"))
    assert not torch.equal(found.jaw_pose, motion.jaw_pose)
    assert torch.equal(found.neck_pose, motion.neck_pose)
    assert rebased_fields("none") == ()
    assert rebase(motion, motion[0], own, ()).tensors().keys() == motion.tensors().keys()
    with pytest.raises(ValueError, match="own_neutral must have one frame, got 5"):
        rebase(motion, motion[0], motion, ALL_FIELDS)


def test_fields_that_the_neutral_lacks_count_as_zero() -> None:
    motion = HeadPose(expression_coeffs=torch.tensor([[1.0, 2.0]]), translation=torch.ones(1, 3))
    found = rebase(motion, HeadPose(), HeadPose(), ("expression_coeffs", "jaw_pose"))
    assert torch.equal(found.expression_coeffs, motion.expression_coeffs)
    assert found.jaw_pose is None


def test_the_neutral_moment_is_the_most_usual_one() -> None:
    expression = torch.tensor([[0.9, 0.0], [0.1, 0.1], [0.1, 0.1], [0.1, 0.12], [0.0, 0.9]])
    turned = torch.tensor([[0.0, 0, 0], [0, 3, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    pose = HeadPose(expression_coeffs=expression, global_rotation=turned)
    assert neutral_row(pose) == 2
    assert neutral_row(HeadPose(translation=torch.zeros(4, 3))) == 0

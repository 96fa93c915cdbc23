"""Single expressions: found by name or number, alone in the face, on a head that stays."""

from __future__ import annotations

import pytest
import torch

from fakes import FakeHead
from tolerances import assert_close
from vultus.heads.base import HeadPose, ParameterSpec
from vultus.heads.one_hot import find_expressions, one_hot_poses
from vultus.heads.registry import load_head


def test_expressions_are_found_by_name_by_number_and_all_at_once() -> None:
    head = FakeHead()
    assert find_expressions(head, ["mouthSmile_L", "0", "all"]) == [1, 0, 0, 1]


@pytest.mark.parametrize("name", ["smirk", "2", "-1", ""])
def test_unknown_expressions_are_refused_by_name(name) -> None:
    with pytest.raises(ValueError, match=r"must be all, 0 to 1 or one of jawOpen, mouthSmile_L"):
        find_expressions(FakeHead(), [name])


def test_expressions_that_move_nothing_of_an_avatar_are_refused() -> None:
    assert find_expressions(FakeHead(), ["all", "mouthSmile_L"], [1]) == [1, 1]
    for name in ("jawOpen", "0"):
        with pytest.raises(ValueError, match=r"expression jawOpen \(0\) moves nothing"):
            find_expressions(FakeHead(), [name], [1])


def test_heads_without_expressions_are_refused() -> None:
    head = FakeHead()
    head.parameters_spec = (ParameterSpec("translation", 3),)
    with pytest.raises(ValueError, match="head 'fake' has no expressions"):
        find_expressions(head, ["all"])


def test_one_expression_moves_what_it_moves_and_the_head_keeps_its_place() -> None:
    head = FakeHead()
    place = HeadPose(
        identity_coeffs=torch.tensor([[0.5]]),
        expression_coeffs=torch.tensor([[0.3, 0.9]]),
        global_rotation=torch.tensor([[0.0, 0.4, 0.0]]),
        translation=torch.tensor([[0.1, 0.0, 0.0]]),
    )
    poses = one_hot_poses(head, place, torch.tensor([1, 0]), torch.tensor([0.0, 2.0]))
    still = head.vertices(place.replace(expression_coeffs=None))[0]
    rest, opened = head.vertices(poses)
    assert_close(rest, still)
    below = head.neutral[:, 1] < 0
    assert_close(opened[~below], still[~below])
    assert_close((still - opened)[below][:, 1], torch.full((int(below.sum()),), 0.02))


def test_jaw_and_eyes_of_a_moment_are_at_rest() -> None:
    head = load_head("procedural")
    place = HeadPose(
        expression_coeffs=torch.rand(1, 52),
        jaw_pose=torch.tensor([[0.3, 0.0, 0.0]]),
        eye_pose=0.2 * torch.ones(1, 6),
        neck_pose=torch.tensor([[0.0, 0.3, 0.0]]),
    )
    made = one_hot_poses(head, place, torch.tensor([3]), torch.tensor([0.0]))
    assert_close(head.vertices(made), head.vertices(HeadPose(neck_pose=place.neck_pose)))


def test_place_must_be_one_frame() -> None:
    place = HeadPose(translation=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="place must be one frame, got 2"):
        one_hot_poses(FakeHead(), place, torch.tensor([0]), torch.tensor([1.0]))

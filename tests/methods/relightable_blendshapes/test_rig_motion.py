"""What expressions of a head move of an avatar."""

from __future__ import annotations

import torch

from vultus.heads.base import HeadPose
from vultus.heads.registry import load_head
from vultus.methods.relightable_blendshapes.rig_motion import moving_expressions


def test_expressions_without_blendshapes_move_gaussians_where_they_turn_joints() -> None:
    head = load_head("procedural")
    names = list(head.expression_names)
    place = HeadPose(
        expression_coeffs=torch.rand(1, len(names)), neck_pose=torch.tensor([[0.0, 0.3, 0.0]])
    )
    moving = [names[column] for column in moving_expressions(head, place, 2)]
    assert moving[:2] == names[:2]
    turning = [name for name in names if name == "jawOpen" or name.startswith("eyeLook")]
    assert sorted(moving[2:]) == sorted(set(turning) - set(names[:2]))
    assert moving_expressions(head, place, None) == list(range(len(names)))

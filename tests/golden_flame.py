"""The small FLAME-like head of the golden file ``gaussian_blendshapes``, and its frames."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vultus.geometry.rotations import matrix_to_axis_angle, rotation_6d_to_matrix
from vultus.heads.base import HeadPose
from vultus.heads.flame import FlameData, FlameHead
from vultus.heads.regions import FLAME_MASKS

__all__ = ["NUM_BLENDED", "flame_head", "head_pose"]

NUM_BLENDED = 50
"""Expressions with blendshapes, of 100."""
_NUM_IDENTITY, _NUM_EXPRESSION = 300, 100


def flame_head(golden: Mapping[str, Tensor]) -> FlameHead:
    shapes = golden["flame.shapedirs"].permute(2, 0, 1).contiguous()
    faces = golden["flame.faces"].long()
    data = FlameData(
        template=golden["flame.v_template"],
        identity_basis=shapes[:_NUM_IDENTITY],
        expression_basis=shapes[_NUM_IDENTITY:],
        pose_basis=golden["flame.posedirs"].permute(2, 0, 1).contiguous(),
        joint_regressor=golden["flame.J_regressor"],
        skinning_weights=golden["flame.weights"],
        faces=faces,
        uv=torch.zeros(1, 2),
        uv_faces=torch.zeros_like(faces),
        masks={name: torch.zeros(0, dtype=torch.int64) for name in FLAME_MASKS},
        version="2020",
    )
    return FlameHead(data, _NUM_IDENTITY, _NUM_EXPRESSION, teeth="none")


def head_pose(golden: Mapping[str, Tensor], frame: int) -> HeadPose:
    """The tracker's rotations list rows where ours list columns."""
    rotations = torch.cat([golden[f"frame{frame}.in.{n}"] for n in ("jaw", "eyes")], dim=1)
    matrices = rotation_6d_to_matrix(rotations.reshape(3, 6)).mT
    jaw, left, right = matrix_to_axis_angle(matrices)
    return HeadPose(
        identity_coeffs=golden[f"frame{frame}.in.shape"],
        expression_coeffs=golden[f"frame{frame}.in.exp"],
        jaw_pose=jaw[None],
        eye_pose=torch.cat([left, right])[None],
    )

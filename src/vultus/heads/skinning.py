"""Linear blend skinning on a joint tree, and the five joints that all rigged heads share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose
from vultus.kernels import joint_skinning
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.joint_skinning import PosedJoints

__all__ = [
    "HEAD_JOINTS",
    "HEAD_JOINT_PARENTS",
    "head_joint_angles",
    "linear_blend_skinning",
    "pose_joints",
    "translate_transforms",
]

HEAD_JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
"""The joints of FLAME, which the other rigged heads follow."""
HEAD_JOINT_PARENTS = (-1, 0, 1, 1, 1)


def head_joint_angles(pose: HeadPose, like: Tensor) -> Float[Tensor, "b 5 3"]:
    """Collect a pose's axis-angle fields in the order of ``HEAD_JOINTS``.

    Args:
        pose: Fields that are ``None`` count as zero rotations.
        like: Gives dtype and device.
    """
    batch = len(pose)

    def field(value: Tensor | None, size: int) -> Tensor:
        if value is None:
            return like.new_zeros(batch, size)
        return value.to(like).expand(batch, size)

    axis_angles = torch.cat(
        [
            field(pose.global_rotation, 3),
            field(pose.neck_pose, 3),
            field(pose.jaw_pose, 3),
            field(pose.eye_pose, 6),
        ],
        dim=1,
    )
    return axis_angles.reshape(batch, len(HEAD_JOINTS), 3)


def pose_joints(
    axis_angles: Float[Tensor, "b j 3"],
    joints: Float[Tensor, "b j 3"],
    parents: Sequence[int],
) -> PosedJoints:
    """Turn joints about their rest positions, each with all that hangs on it.

    Args:
        axis_angles: Rotation of each joint in its parent's frame.
        joints: Rest positions.
        parents: ``parents[i] < i``; the root's parent is -1.

    Raises:
        ValueError: If a parent does not come before its child.
    """
    if len(parents) != joints.shape[1] or any(p >= i for i, p in enumerate(parents)):
        raise ValueError(f"parents must precede {joints.shape[1]} joints, got {tuple(parents)}")
    if are_for_kernels(joints):
        return joint_skinning.pose_joints(axis_angles, joints, parents)
    rotations = axis_angle_to_matrix(axis_angles)
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    features = (rotations[:, 1:] - identity).flatten(start_dim=1)
    return PosedJoints(_transforms(rotations, joints, parents), features)


def linear_blend_skinning(
    vertices: Float[Tensor, "b v 3"],
    transforms: Float[Tensor, "b j 3 4"],
    weights: Float[Tensor, "v j"],
    translation: Float[Tensor, "#b 3"] | None = None,
) -> Float[Tensor, "b v 3"]:
    """Move each vertex by the weighted mean of its joints' transforms, then all by a translation.

    Args:
        vertices: Rest positions, shapes and correctives already added.
        transforms: From ``pose_joints``.
        weights: Rows sum to 1.
        translation: ``None`` means zero.
    """
    if translation is not None:
        translation = translation.to(vertices).expand(len(vertices), 3)
    # The kernels take weights for constants.
    if are_for_kernels(vertices) and not weights.requires_grad:
        return joint_skinning.skin_vertices(vertices, transforms, weights, translation)
    # Coordinates come first: on a CPU that is up to twice as fast as a small product per vertex.
    blended = transforms.permute(0, 2, 3, 1) @ weights.T
    x, y, z = vertices.unbind(-1)
    posed = (
        blended[:, :, 0] * x[:, None]
        + blended[:, :, 1] * y[:, None]
        + blended[:, :, 2] * z[:, None]
        + blended[:, :, 3]
    ).transpose(1, 2)
    return posed if translation is None else posed + translation[:, None]


def translate_transforms(
    transforms: Float[Tensor, "b j 3 4"], translation: Float[Tensor, "#b 3"] | None
) -> Float[Tensor, "b j 3 4"]:
    """Let every transform be followed by a translation; ``None`` means zero."""
    if translation is None:
        return transforms
    moved = transforms[..., 3:] + translation.to(transforms)[:, None, :, None]
    return torch.cat([transforms[..., :3], moved], dim=-1)


def _transforms(
    rotations: Float[Tensor, "b j 3 3"], joints: Float[Tensor, "b j 3"], parents: Sequence[int]
) -> Float[Tensor, "b j 3 4"]:
    """Compose local joint rotations into rest-to-posed transforms."""
    turned: list[Tensor] = []
    moved: list[Tensor] = []
    for index, parent in enumerate(parents):
        rotation, joint = rotations[:, index], joints[:, index]
        # x -> R (x - joint) + joint, followed by the parent's transform.
        offset = joint - _rotate(rotation, joint)
        if parent >= 0:
            offset = _rotate(turned[parent], offset) + moved[parent]
            rotation = turned[parent] @ rotation
        turned.append(rotation)
        moved.append(offset)
    return torch.cat([torch.stack(turned, 1), torch.stack(moved, 1)[..., None]], dim=-1)


def _rotate(
    matrices: Float[Tensor, "*b 3 3"], vectors: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3"]:
    return (matrices @ vectors[..., None])[..., 0]

"""Linear blend skinning on a joint tree, and the five joints that all rigged heads share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose
from vultus.kernels import joint_skinning
from vultus.kernels.joint_skinning import PosedJoints

__all__ = [
    "HEAD_JOINTS",
    "HEAD_JOINT_PARENTS",
    "head_joint_angles",
    "head_joint_rotations",
    "joint_transforms",
    "linear_blend_skinning",
    "pose_joints",
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


def head_joint_rotations(pose: HeadPose, like: Tensor) -> Float[Tensor, "b 5 3 3"]:
    """Collect a pose's rotations; see ``head_joint_angles``."""
    return axis_angle_to_matrix(head_joint_angles(pose, like))


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
    if _is_fused(joints):
        _check_parents(parents, joints)
        return joint_skinning.pose_joints(axis_angles, joints, parents)
    rotations = axis_angle_to_matrix(axis_angles)
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    features = (rotations[:, 1:] - identity).flatten(start_dim=1)
    return PosedJoints(joint_transforms(rotations, joints, parents)[:, :, :3], features)


def joint_transforms(
    joint_rotations: Float[Tensor, "b j 3 3"],
    joints: Float[Tensor, "b j 3"],
    parents: Sequence[int],
) -> Float[Tensor, "b j 4 4"]:
    """Compose local joint rotations into rest-to-posed transforms.

    Every joint turns about its rest position and carries its children along. The result maps a
    point of the rest pose to where it goes if it is attached to that joint alone.

    Args:
        joint_rotations: Rotation of each joint in its parent's frame.
        joints: Rest positions.
        parents: ``parents[i] < i``; the root's parent is -1.

    Raises:
        ValueError: If a parent does not come before its child.
    """
    _check_parents(parents, joints)
    rotations: list[Tensor] = []
    translations: list[Tensor] = []
    for index, parent in enumerate(parents):
        rotation, joint = joint_rotations[:, index], joints[:, index]
        # x -> R (x - joint) + joint, followed by the parent's transform.
        offset = joint - _rotate(rotation, joint)
        if parent >= 0:
            offset = _rotate(rotations[parent], offset) + translations[parent]
            rotation = rotations[parent] @ rotation
        rotations.append(rotation)
        translations.append(offset)
    upper = torch.cat([torch.stack(rotations, 1), torch.stack(translations, 1)[..., None]], dim=-1)
    last_row = torch.eye(4, dtype=upper.dtype, device=upper.device)[3]
    last_row = last_row.expand(*upper.shape[:2], 1, 4)
    return torch.cat([upper, last_row], dim=2)


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
    batch, num_joints = transforms.shape[:2]
    if translation is not None:
        translation = translation.to(vertices)
    # The kernels take weights for constants.
    if _is_fused(vertices) and not weights.requires_grad:
        if translation is not None:
            translation = translation.expand(batch, 3)
        return joint_skinning.skin_vertices(vertices, transforms, weights, translation)
    blended = weights @ transforms.reshape(batch, num_joints, 12)
    blended = blended.reshape(batch, -1, 3, 4)
    posed = _rotate(blended[..., :3], vertices) + blended[..., 3]
    return posed if translation is None else posed + translation[:, None]


def _is_fused(tensor: Tensor) -> bool:
    """Whether the kernels of ``kernels.joint_skinning`` take over; they compute in float32."""
    return tensor.is_cuda and tensor.dtype == torch.float32


def _check_parents(parents: Sequence[int], joints: Float[Tensor, "b j 3"]) -> None:
    if len(parents) != joints.shape[1] or any(p >= i for i, p in enumerate(parents)):
        raise ValueError(f"parents must precede {joints.shape[1]} joints, got {tuple(parents)}")


def _rotate(
    matrices: Float[Tensor, "*b 3 3"], vectors: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 3"]:
    return (matrices @ vectors[..., None])[..., 0]

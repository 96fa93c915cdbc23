"""What a head does to Gaussians: expressions, joints, and the subject's meshes (spec 3.1, 3.3).

Any head serves whose joints can carry points and which has expressions. Some heads turn joints by
expression, too: the mesh of an expression is therefore taken before its joints turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.geometry.rigid_fit import fit_rigid
from vultus.heads.base import HeadModel, HeadPose, JointedHead, head_on_device
from vultus.heads.one_hot import one_hot_poses
from vultus.methods.relightable_blendshapes.consistency import BACK_OF_HEAD_FACES
from vultus.methods.relightable_blendshapes.posing import NUM_EYELIDS, FrameMotion

__all__ = [
    "RigMotion",
    "SubjectMeshes",
    "back_of_head",
    "moving_expressions",
    "shape_subject",
    "still_pose",
]

_FRAMES_AT_ONCE = 64
_LEAST_MOTION = 1e-6


@dataclass(frozen=True)
class SubjectMeshes:
    """One subject, at rest and with single expressions."""

    neutral: Float[Tensor, "v 3"]
    expressed: Float[Tensor, "k v 3"]
    """Each expression at weight 1, before joints turn."""


class RigMotion:
    """Turns poses of a head into motions of Gaussians."""

    def __init__(
        self,
        head: HeadModel,
        pose: HeadPose,
        num_expressions: int | None,
        *,
        fits_skull: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Look at the head and the subject; on another device than the CPU, a copy is posed.

        Args:
            head: With joints and expressions.
            pose: Of the capture; its first moment is the subject's shape.
            num_expressions: How many expressions blend Gaussians, at most; ``None``: all.
            fits_skull: Add one more transform: the rigid motion of the back of FLAME's head.
            device: Where motions are made.

        Raises:
            ValueError: If the head lacks joints or expressions, or the part that is fitted.
        """
        self._jointed = _check_jointed(head)
        self._head = _check_jointed(head_on_device(head, device))
        self.num_expressions = _num_expressions(head, num_expressions)
        self._still = still_pose(pose).to(device)
        self._skull = back_of_head(head).to(device) if fits_skull else None

    @property
    def head(self) -> JointedHead:
        """The head that was given, on the CPU."""
        return self._jointed

    def motion(self, pose: HeadPose) -> FrameMotion:
        """Motion of any frames of this head, whose pose lies on the device."""
        with torch.no_grad():
            return FrameMotion.cat([self._part(part) for part in _parts(pose)])

    def _part(self, pose: HeadPose) -> FrameMotion:
        joints = self._head.joint_motion(pose)
        transforms, batch = joints.transforms, joints.transforms.shape[0]
        expression = pose.expression_coeffs
        if expression is None:
            expression = transforms.new_zeros(1, self.num_expressions)
        expression = expression[:, : self.num_expressions].to(transforms)
        if self._skull is not None:
            fitted = self._skull_motion(pose, self._skull)
            transforms = torch.cat([transforms, fitted[:, None]], dim=1)
        return FrameMotion(
            expression.expand(batch, -1),
            transforms,
            joints.features,
            transforms.new_zeros(batch, NUM_EYELIDS),
        )

    def _skull_motion(self, pose: HeadPose, vertices: Int[Tensor, " n"]) -> Float[Tensor, "b 3 4"]:
        """Rigid motion from rest to posed that fits some vertices best."""
        rest = self._head.vertices(self._still)[0, vertices]
        rotation, translation = fit_rigid(rest, self._head.vertices(pose)[:, vertices])
        return torch.cat([rotation, translation[..., None]], dim=-1)


def shape_subject(head: JointedHead, pose: HeadPose, num_expressions: int | None) -> SubjectMeshes:
    """Shape the subject of a capture, and pose every expression alone.

    Args:
        head: On the CPU.
        pose: Of the capture; its first moment is the subject's shape.
        num_expressions: How many expressions, at most; ``None``: all.
    """
    still = still_pose(pose)
    size = len(head.expression_names)
    with torch.no_grad():
        neutral = head.vertices(still)[0]
        rows = torch.eye(size)[: _num_expressions(head, num_expressions)]
        single = still.replace(expression_coeffs=rows)
        expressed = torch.cat([_unposed(head, part) for part in _parts(single)])
    return SubjectMeshes(neutral, expressed)


def still_pose(pose: HeadPose) -> HeadPose:
    """The subject of a capture, at rest."""
    first = pose[0]
    return HeadPose(identity_coeffs=first.identity_coeffs, static_offset=first.static_offset)


def back_of_head(head: HeadModel) -> Int[Tensor, " n"]:
    """Vertices of FLAME's back of the head, as often as the published faces name them.

    Raises:
        ValueError: If the head is not FLAME.
    """
    if not _has_flame_faces(head):
        raise ValueError(
            f"model.official_quirks needs FLAME, whose back of the head is listed, got "
            f"{head.name!r}"
        )
    return head.topology.faces[list(BACK_OF_HEAD_FACES)].flatten()


def _has_flame_faces(head: HeadModel) -> bool:
    return head.name == "flame" and head.topology.faces.shape[0] > max(BACK_OF_HEAD_FACES)


@torch.no_grad()
def moving_expressions(head: HeadModel, place: HeadPose, num_expressions: int | None) -> list[int]:
    """Columns of the expressions that move Gaussians: by blendshapes, or by turning joints.

    Args:
        head: With joints and expressions.
        place: One frame, which says whose head it is.
        num_expressions: How many have blendshapes, at most; ``None``: all.
    """
    jointed = _check_jointed(head)
    count, size = _num_expressions(head, num_expressions), len(head.expression_names)
    poses = one_hot_poses(head, place, torch.arange(size), torch.ones(size))
    transforms = jointed.joint_motion(poses).transforms
    still = jointed.joint_motion(poses.replace(expression_coeffs=None)).transforms
    turns = (transforms - still).abs().flatten(start_dim=1).amax(dim=1) > _LEAST_MOTION
    return (turns | (torch.arange(size) < count)).nonzero()[:, 0].tolist()


def _check_jointed(head: HeadModel) -> JointedHead:
    if not isinstance(head, JointedHead):
        raise ValueError(
            f"head must have joints that carry Gaussians (procedural, ict, flame), got "
            f"{head.name!r}"
        )
    return head


def _num_expressions(head: HeadModel, limit: int | None) -> int:
    available = len(head.expression_names)
    if available == 0:
        raise ValueError(f"head must have expressions, got {head.name!r} without any")
    return available if limit is None else min(limit, available)


def _unposed(head: JointedHead, pose: HeadPose) -> Float[Tensor, "b v 3"]:
    """Meshes before joints turn, which is what skinning them undoes."""
    meshes, transforms = head.vertices(pose), head.joint_motion(pose).transforms
    # Few expressions turn joints.
    for row in (transforms != torch.eye(3, 4)).flatten(start_dim=1).any(dim=1).nonzero()[:, 0]:
        blended = head.skinning_weights @ transforms[row].flatten(start_dim=1)
        blended = blended.unflatten(-1, (3, 4))
        meshes[row] = torch.linalg.solve(blended[..., :3], meshes[row] - blended[..., 3])
    return meshes


def _parts(pose: HeadPose) -> list[HeadPose]:
    return [pose[i : i + _FRAMES_AT_ONCE] for i in range(0, len(pose), _FRAMES_AT_ONCE)]

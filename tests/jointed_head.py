"""A sphere with one joint, plain or with bumps that a capture shows and its rig does not know."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fakes import FakeHead
from vultus.data.readers import read_sequence
from vultus.data.sequence import HeadSequence
from vultus.data.studio.capture import film
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.subject import Subject, plain_appearance
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose, JointMotion

__all__ = ["JointedHead", "film_bumpy_head"]

_STUDIO = StudioConfig(
    frames=5, cameras=4, size=48, texture_size=128, samples=2, num_lights=32, test_share=0.2,
    arc=3.0,
)  # fmt: skip


class JointedHead(FakeHead):
    """``FakeHead`` that says what its joint does."""

    @property
    def pose_basis(self) -> Tensor:
        return self.neutral.new_zeros(0, *self.neutral.shape)

    def joint_motion(self, pose: HeadPose) -> JointMotion:
        batch = len(pose)
        transforms = torch.eye(3, 4, device=self.neutral.device).repeat(batch, 1, 1, 1)
        if pose.global_rotation is not None:
            transforms[:, 0, :, :3] = axis_angle_to_matrix(pose.global_rotation)
        if pose.translation is not None:
            transforms[:, 0, :, 3] = pose.translation
        joints, features = transforms.new_zeros(1, 1, 3), transforms.new_zeros(batch, 0)
        return JointMotion(joints, transforms, features)


def film_bumpy_head(out: Path, height: float = 0.008) -> HeadSequence:
    """Film a sphere with smooth bumps; the sequence's head has none."""
    bumpy, plain = JointedHead(12, 18), JointedHead(12, 18)
    x, y, z = (bumpy.neutral / bumpy.neutral.norm(dim=1, keepdim=True)).unbind(dim=1)
    bumps = torch.sin(4.0 * x + 1.0) * torch.cos(3.0 * y) + z
    bumpy.points = bumpy.points * (1.0 + height / 0.1 * bumps[:, None])
    film(_STUDIO, out, subject=Subject(bumpy, torch.zeros(1, 1), plain_appearance(bumpy, 0, 64)))
    return read_sequence(out, head=plain)

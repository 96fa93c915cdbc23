"""What drives the avatar, and where its head is: vectors and rigid motions from poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.face_motion import skull_to_world

__all__ = [
    "VIEW_SIZES",
    "DrivingScale",
    "driving_sizes",
    "driving_vectors",
    "head_camera",
    "head_to_world",
    "view_vectors",
]

VIEW_SIZES = {"rotation": 9, "translation": 3}
"""Fields of ``view_vectors``."""

_PLACEMENT = ("global_rotation", "neck_pose", "translation")
_MIN_DEVIATION = 1e-6


@dataclass(frozen=True)
class DrivingScale:
    """An affine map of driving vectors."""

    center: Float[Tensor, " e"]
    factor: Float[Tensor, " e"]

    @staticmethod
    def identity(size: int) -> DrivingScale:
        """Leave vectors as they are."""
        return DrivingScale(torch.zeros(size), torch.ones(size))

    @staticmethod
    def of(vectors: Float[Tensor, "t e"], sizes: Mapping[str, int]) -> DrivingScale:
        """Bring every field to mean zero and mean square one over a track.

        Numbers that vary more than their field does in the mean are divided by their own deviation,
        the others by that of the field, so that what hardly moves stays small. Fields that never
        change become zero, whatever they are later.
        """
        center = vectors.mean(dim=0)
        variances = (vectors - center).square().mean(dim=0)
        factors = []
        for variance in variances.split(list(sizes.values())):
            deviation = torch.maximum(variance, variance.mean()).sqrt()
            factors.append(torch.where(deviation > _MIN_DEVIATION, 1.0 / deviation, 0.0))
        return DrivingScale(center, torch.cat(factors))

    def __call__(self, vectors: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """Map vectors on the same device."""
        return (vectors - self.center) * self.factor

    def to(self, device: torch.device | str) -> DrivingScale:
        """Move the tensors."""
        return DrivingScale(self.center.to(device), self.factor.to(device))


def driving_sizes(pose: HeadPose, fields: Sequence[str]) -> dict[str, int]:
    """Lengths of the fields that a capture has.

    Raises:
        ValueError: If it has none.
    """
    given = pose.tensors()
    sizes = {name: given[name].shape[1] for name in fields if name in given}
    if not sizes:
        raise ValueError(
            f"the capture must have a pose with {' or '.join(fields)}, it has "
            f"{', '.join(given) or 'nothing'}"
        )
    return sizes


def driving_vectors(pose: HeadPose, sizes: Mapping[str, int]) -> Float[Tensor, "b e"]:
    """Join fields of poses; a field that is not set is zero.

    Raises:
        ValueError: If a field has another length than in training.
    """
    batch, given = len(pose), pose.tensors()
    parts = []
    for name, size in sizes.items():
        part = given.get(name, torch.zeros(1, size))
        if part.shape[1] != size:
            raise ValueError(
                f"{name} must have {size} numbers as in training, got {part.shape[1]}: "
                "retarget the motion first"
            )
        parts.append(part.float().expand(batch, -1))
    return torch.cat(parts, dim=1)


def head_to_world(head: HeadModel, pose: HeadPose) -> Float[Tensor, "b 4 4"]:
    """Rigid motions of the skull, from its place at rest.

    Heads without a mesh and poses without placement stay at rest.
    """
    is_placed = any(name in _PLACEMENT for name in pose.tensors())
    if not is_placed or head.neutral.shape[0] == 0:
        return torch.eye(4).repeat(len(pose), 1, 1)
    return skull_to_world(head, pose).float()


def head_camera(
    camera: Camera,
    motions: Float[Tensor, "b 4 4"],
    center: Float[Tensor, " 3"],
    scale: Float[Tensor, ""],
) -> Camera:
    """See a moving head from the frame in which it rests, in scene units.

    A scene point x is the point x / scale + center of the head at rest.

    Args:
        camera: One per frame, in the world.
        motions: ``head_to_world``.
        center: Origin of the scene, metres.
        scale: Scene units per metre.
    """
    relative = camera.world_to_camera @ motions
    rotation, translation = relative[:, :3, :3], relative[:, :3, 3]
    translation = scale * (translation + rotation @ center)
    matrix = torch.cat([rotation, translation[:, :, None]], dim=2)
    matrix = torch.cat([matrix, relative[:, 3:]], dim=1)
    return Camera(matrix, camera.intrinsics, camera.width, camera.height)


def view_vectors(camera: Camera) -> Float[Tensor, "b 12"]:
    """Say where a head that rests is before cameras: rotation, row by row, and translation.

    Entries of the matrix need no angles, which the network could not use better.
    """
    matrices = camera.world_to_camera
    return torch.cat([matrices[:, :3, :3].flatten(1), matrices[:, :3, 3]], dim=1)

"""What drives the avatar, and where its head is: vectors and rigid motions from poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose

__all__ = ["driving_sizes", "driving_vectors", "head_camera", "head_to_world"]

_PLACEMENT = ("global_rotation", "neck_pose", "translation")
_SHAPE = ("identity_coeffs", "static_offset")
_CHUNK = 64
"""Poses whose meshes are in memory at once."""


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


@torch.no_grad()
def head_to_world(head: HeadModel, pose: HeadPose) -> Float[Tensor, "b 4 4"]:
    """Rigid motions of the skull, from its place at rest.

    The eyeballs without gaze stand for the skull; heads without any move as a whole. Poses without
    placement stay at rest, and need no mesh.
    """
    given = pose.tensors()
    placed = {name: given[name] for name in _PLACEMENT if name in given}
    if not placed:
        return torch.eye(4).repeat(len(pose), 1, 1)
    shape = {name: given[name][:1] for name in _SHAPE if name in given}
    regions = head.topology.regions
    chosen = regions["left_eyeball"] | regions["right_eyeball"]
    if not bool(chosen.any()):
        chosen = torch.ones_like(chosen)
    rest = head.vertices(HeadPose(**shape))[0, chosen].double()
    total = len(pose)
    rows = HeadPose(**{n: t.expand(total, -1) for n, t in placed.items()})
    motions = []
    for start in range(0, total, _CHUNK):
        part = rows[start : start + _CHUNK]
        moved = head.vertices(part.replace(**shape))[:, chosen].double()
        motions.append(_rigid_motion(rest, moved))
    return torch.cat(motions).float()


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


def _rigid_motion(rest: Tensor, moved: Tensor) -> Tensor:
    """Least squares (Kabsch), for b clouds of corresponding points."""
    center, centers = rest.mean(dim=0), moved.mean(dim=1)
    covariance = (moved - centers[:, None]).transpose(1, 2) @ (rest - center)
    left, _, right = torch.linalg.svd(covariance)
    # The nearest rotation, never a reflection.
    flip = torch.linalg.det(left @ right).sign()
    left = torch.cat([left[:, :, :2], left[:, :, 2:] * flip[:, None, None]], dim=2)
    motion = torch.eye(4, dtype=rest.dtype).repeat(moved.shape[0], 1, 1)
    motion[:, :3, :3] = left @ right
    motion[:, :3, 3] = centers - motion[:, :3, :3] @ center
    return motion

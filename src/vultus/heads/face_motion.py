"""Split the motion of a rig into how the skull moves and what the face does on it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.geometry.rigid_fit import fit_rigid
from vultus.heads.base import HeadModel, HeadPose

__all__ = ["face_coeff_names", "face_coeffs", "skull_to_world"]

_FACE_FIELDS = ("expression_coeffs", "jaw_pose", "eye_pose")
"""What moves the face relative to the skull."""
_SKULL_FIELDS = (
    "identity_coeffs",
    "global_rotation",
    "neck_pose",
    "translation",
    "static_offset",
)
_SUBJECT_FIELDS = ("identity_coeffs", "static_offset")
_RIGID_WEIGHT = 0.999
"""From this weight on a vertex follows its joint alone."""
_MIN_VERTICES = 3
_POSED_AT_ONCE = 16


def face_coeffs(head: HeadModel, pose: HeadPose) -> Float[Tensor, "b e"]:
    """Put everything that moves the face into one vector per frame.

    These are expression coefficients, then jaw and eye rotations (axis-angle) where the head has
    them: what trackers of monocular videos call the expression.

    Raises:
        ValueError: If the head has none of them.
    """
    sizes = _face_sizes(head)
    parts = []
    for name, size in sizes.items():
        values = getattr(pose, name)
        values = torch.zeros(1, size) if values is None else values
        parts.append(values.expand(len(pose), -1))
    return torch.cat(parts, dim=1)


def face_coeff_names(head: HeadModel) -> tuple[str, ...]:
    """Name the columns of ``face_coeffs``.

    Raises:
        ValueError: If the head has no expressions and no joints in its face.
    """
    names: list[str] = []
    for field, size in _face_sizes(head).items():
        is_named = field == "expression_coeffs" and len(head.expression_names) == size
        names += head.expression_names if is_named else [f"{field}_{i}" for i in range(size)]
    return tuple(names)


def skull_to_world(head: HeadModel, pose: HeadPose) -> Float[Tensor, "b 4 4"]:
    """Find the rigid motion that takes the skull from rest to where it is in each frame.

    It is fitted to the vertices that follow the skull alone, so that any kind of rig will do; the
    face is left at rest. Identity and static offset are taken from the first frame.

    Raises:
        ValueError: If fewer than three vertices follow the skull.

    Reference: Kabsch, A solution for the best rotation to relate two sets of vectors, 1976.
    """
    is_rigid = _skull_vertices(head)
    moved = HeadPose(**{n: t for n, t in pose.tensors().items() if n in _SKULL_FIELDS})
    subject = {n: t[:1] for n, t in moved.tensors().items() if n in _SUBJECT_FIELDS}
    with torch.no_grad():
        rest = head.vertices(HeadPose(**subject))[0, is_rigid].double()
        motions = []
        for start in range(0, len(pose), _POSED_AT_ONCE):
            rows = torch.arange(start, min(start + _POSED_AT_ONCE, len(pose)))
            part = moved[rows] if len(moved) > 1 else moved
            posed = head.vertices(part)[:, is_rigid].double().expand(len(rows), -1, -1)
            rotation, translation = fit_rigid(rest, posed)
            motion = torch.eye(4, dtype=posed.dtype).repeat(len(rows), 1, 1)
            motion[:, :3, :3], motion[:, :3, 3] = rotation, translation
            motions.append(motion)
    return torch.cat(motions).to(head.neutral.dtype)


def _skull_vertices(head: HeadModel) -> Bool[Tensor, " v"]:
    joint = "neck" if "neck" in head.joint_names else "root"
    weights = head.skinning_weights[:, head.joint_names.index(joint)]
    is_rigid = weights >= _RIGID_WEIGHT
    count = int(is_rigid.sum())
    if count < _MIN_VERTICES:
        raise ValueError(f"head {head.name!r} has {count} vertices on its skull, 3 are needed")
    return is_rigid


def _face_sizes(head: HeadModel) -> dict[str, int]:
    given = {spec.name: spec.size for spec in head.parameters_spec}
    sizes = {name: given[name] for name in _FACE_FIELDS if name in given}
    if not sizes:
        raise ValueError(f"head {head.name!r} has no expressions and no jaw or eyes to turn")
    return sizes

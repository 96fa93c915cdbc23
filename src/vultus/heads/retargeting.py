"""Give the motion of one head to another that keeps its own shape (cross-reenactment).

Reference: spec of SurFhead section 7; GaussianAvatars, arXiv 2312.02069, section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.blendshapes import map_expressions

__all__ = [
    "PLACEMENT_FIELDS",
    "MotionSpace",
    "Rebase",
    "Retargeted",
    "neutral_row",
    "rebase",
    "rebased_fields",
    "retarget",
]

Rebase = Literal["none", "expression", "motion"]
"""What is played relative to a neutral moment: nothing, the face (expression and jaw), or every
parameter."""

_FACE_FIELDS = ("expression_coeffs", "jaw_pose")
_ROTATIONS = ("global_rotation", "neck_pose", "jaw_pose", "eye_pose")
_OFFSETS = ("static_offset", "vertex_offset")
PLACEMENT_FIELDS = ("global_rotation", "translation")
"""Where a head stands in its capture's world."""


@dataclass(frozen=True)
class MotionSpace:
    """What the numbers of a motion mean."""

    name: str
    """Head model, as ``HeadModel.name``."""
    version: str
    expression_names: tuple[str, ...]

    @staticmethod
    def of(head: HeadModel) -> MotionSpace:
        """The space of a head's own motions."""
        return MotionSpace(head.name, head.version, tuple(head.expression_names))


@dataclass(frozen=True)
class Retargeted:
    """A motion for another head."""

    pose: HeadPose
    notes: tuple[str, ...]
    """What could not be played, one line each."""


def retarget(
    motion: HeadPose, space: MotionSpace, head: HeadModel, subject: HeadPose
) -> Retargeted:
    """Play a motion on a head, keeping identity and static offset of the subject.

    Between heads of one model numbers are taken over; otherwise expressions go by name and joint
    rotations by field.

    Args:
        motion: Per-frame fields; its static ones are ignored.
        space: What its numbers mean.
        head: Who plays it.
        subject: Any pose of the subject; its static fields are kept.

    Raises:
        ValueError: If the motion has expressions and the head shares none of them.
    """
    fields: dict[str, Tensor] = {}
    notes: list[str] = []
    given = motion.tensors()
    for spec in head.parameters_spec:
        if spec.is_static:
            kept = getattr(subject, spec.name)
            if kept is not None:
                fields[spec.name] = kept[:1]
        elif spec.name == "expression_coeffs" and spec.name in given:
            fields[spec.name], lost = _expressions(given[spec.name], space, head)
            notes += lost
        elif spec.name in given and spec.name not in _OFFSETS:
            fields[spec.name] = given[spec.name]
    dynamic = {spec.name for spec in head.parameters_spec if not spec.is_static}
    for name, values in given.items():
        if name in _ROTATIONS and name not in dynamic and bool(values.any()):
            notes.append(f"head {head.name!r} has no {name}")
    return Retargeted(HeadPose(**fields), tuple(notes))


def rebase(
    motion: HeadPose, neutral: HeadPose, own_neutral: HeadPose, fields: Sequence[str]
) -> HeadPose:
    """Play a motion relative to another neutral: x becomes own + (x - neutral).

    Trackers explain part of a face's shape by expressions, so the neutral of one subject is a
    slight grimace on another. Rotations are composed: R becomes (R Nᵀ) O.

    Args:
        motion: b frames.
        neutral: The driver's neutral moment, one frame.
        own_neutral: That of the one who is driven; a field that is not set counts as zero.
        fields: Names of the fields to play so; the others stay. Those that the motion does not set
            are ignored.

    Raises:
        ValueError: If a neutral pose has more than one frame.
    """
    for name, pose in (("neutral", neutral), ("own_neutral", own_neutral)):
        if len(pose) != 1:
            raise ValueError(f"{name} must have one frame, got {len(pose)}")
    changed: dict[str, Tensor] = {}
    for name in fields:
        values = getattr(motion, name)
        if values is None:
            continue
        start, own = (_row(pose, name, values) for pose in (neutral, own_neutral))
        if name in _ROTATIONS:
            changed[name] = _turned(values, start, own)
        else:
            changed[name] = own + (values - start)
    return motion.replace(**changed)


def rebased_fields(choice: Rebase) -> tuple[str, ...]:
    """The fields that ``rebase`` plays relative to the neutral."""
    if choice == "none":
        return ()
    if choice == "expression":
        return _FACE_FIELDS
    return (*_FACE_FIELDS, "neck_pose", "eye_pose", *PLACEMENT_FIELDS)


def neutral_row(motion: HeadPose) -> int:
    """Find the moment nearest to the median of face, neck and global rotation.

    People mostly rest and look ahead. Radians count as much as expression coefficients.
    """
    fields = [getattr(motion, name) for name in (*_FACE_FIELDS, "neck_pose", "global_rotation")]
    given = [values.expand(len(motion), -1) for values in fields if values is not None]
    if not given:
        return 0
    rows = torch.cat(given, dim=1)
    return int((rows - rows.median(dim=0).values).square().sum(dim=1).argmin())


def _expressions(
    coeffs: Float[Tensor, "#b e"], space: MotionSpace, head: HeadModel
) -> tuple[Float[Tensor, "#b t"], list[str]]:
    notes = []
    if space.name == head.name and space.version != head.version:
        notes.append(
            f"expressions of {space.name} {space.version} mean only nearly the same on "
            f"{head.version}"
        )
    size = next(s.size for s in head.parameters_spec if s.name == "expression_coeffs")
    if space.name == head.name and space.expression_names == tuple(head.expression_names):
        if coeffs.shape[1] == size:
            return coeffs, notes
    if not space.expression_names:
        raise ValueError(
            f"head {head.name!r} {head.version} takes {size} expression coefficients, the motion "
            f"of {space.name!r} has {coeffs.shape[1]} without names that tell which is which"
        )
    mapped, unmapped = map_expressions(space.expression_names, coeffs, head.expression_names)
    if len(unmapped) == len(space.expression_names):
        raise ValueError(
            f"head {head.name!r} shares no expression with the motion of {space.name!r} "
            f"({space.expression_names[0]}, ...)"
        )
    played = set(unmapped)
    silent = coeffs.abs().amax(dim=0) == 0
    names = zip(space.expression_names, silent.tolist(), strict=True)
    lost = [name for name, is_silent in names if name in played and not is_silent]
    if lost:
        notes.append(f"head {head.name!r} has no shape for {', '.join(lost)}")
    return mapped, notes


def _row(pose: HeadPose, name: str, like: Tensor) -> Tensor:
    values = getattr(pose, name)
    return torch.zeros_like(like[:1]) if values is None else values[:1]


def _turned(values: Tensor, start: Tensor, own: Tensor) -> Tensor:
    """R startᵀ own for axis-angle vectors; eyes have two per row."""
    turn, first, other = (
        axis_angle_to_matrix(rows.reshape(rows.shape[0], -1, 3)) for rows in (values, start, own)
    )
    return matrix_to_axis_angle(turn @ first.mT @ other).reshape(values.shape)

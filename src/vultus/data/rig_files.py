"""Rig parameters on disk: one ``.npz`` per timestep, and the card that names the rig.

Two layouts: FLAME files as VHAP writes them, and ours for any other rig, whose keys are the field
names of ``HeadPose``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_path, read_json, write_json
from vultus.core.npz_io import finite_floats, read_npz
from vultus.heads.base import HeadModel, HeadPose, ParameterSpec
from vultus.heads.blendshapes import check_pose
from vultus.heads.flame import pad_offsets
from vultus.heads.registry import describe_head

__all__ = [
    "FLAME_KEYS",
    "RigCard",
    "assemble_track",
    "read_flame_row",
    "read_rig_row",
    "write_flame_row",
    "write_rig_row",
]

FLAME_KEYS = {
    "shape": "identity_coeffs",
    "expr": "expression_coeffs",
    "rotation": "global_rotation",
    "neck_pose": "neck_pose",
    "jaw_pose": "jaw_pose",
    "eyes_pose": "eye_pose",
    "translation": "translation",
    "static_offset": "static_offset",
}
"""Keys of VHAP's files and the fields they fill; ``dynamic_offset`` is never used."""
_MAX_TIMESTEPS = 1_000_000
"""A track has a row for each: nine hours of video; more are damage and fill the memory."""
_OFFSETS = ("static_offset", "vertex_offset")


@dataclass(frozen=True)
class RigCard:
    """``rig.json``: which head the parameters belong to, and the subject's identity."""

    description: Mapping[str, Any]
    """``describe_head`` of the model; ``options`` among it, so that hair and teeth match."""
    identity: tuple[float, ...]
    """Identity coefficients of the subject; empty if the model has none."""
    expression_names: tuple[str, ...]

    @staticmethod
    def describe(head: HeadModel, identity: Float[Tensor, "1 s"] | None) -> RigCard:
        """Card of one subject."""
        coeffs = () if identity is None else tuple(identity[0].tolist())
        return RigCard(describe_head(head), coeffs, tuple(head.expression_names))

    def save(self, path: Path) -> None:
        """Write the card."""
        facts = {"identity": self.identity, "expression_names": self.expression_names}
        write_json(path, {**self.description, **facts})

    @staticmethod
    def load(path: Path) -> RigCard:
        """Read the card.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If a field is missing or of another type.
        """
        data = read_json(path)
        try:
            identity = tuple(float(value) for value in data.pop("identity"))
            names = tuple(str(name) for name in data.pop("expression_names"))
            if not isinstance(data["name"], str):
                raise TypeError("name must be a text")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a rig card ({error!r})") from error
        return RigCard(data, identity, names)

    @property
    def static(self) -> HeadPose:
        """The subject's fields."""
        if not self.identity:
            return HeadPose()
        return HeadPose(identity_coeffs=torch.tensor([self.identity]))

    def check(self, head: HeadModel, path: Path) -> None:
        """Raise unless the head is the one that the parameters belong to.

        Raises:
            ValueError: Naming the card and what differs.
        """
        other = {**describe_head(head), "expression_names": tuple(head.expression_names)}
        mine = {**self.description, "expression_names": self.expression_names}
        for field, expected in mine.items():
            if other.get(field) != expected:
                raise ValueError(
                    f"{path}: {field} is {expected!r}, the head's is {other.get(field)!r}"
                )


def write_rig_row(path: Path, pose: HeadPose, spec: tuple[ParameterSpec, ...]) -> None:
    """Write the per-frame fields of a pose of one frame."""
    static = {parameter.name for parameter in spec if parameter.is_static}
    _save(path, {n: t for n, t in pose.tensors().items() if n not in static})


def read_rig_row(path: Path) -> HeadPose:
    """Read what ``write_rig_row`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a key is no field of ``HeadPose`` or a value is not finite.
    """
    arrays = read_npz(path)
    known = HeadPose.__dataclass_fields__
    for name in arrays:
        if name not in known:
            raise ValueError(f"{path}: {name!r} is not a rig parameter; known: {', '.join(known)}")
    return HeadPose(**{name: _as_row(path, name, array) for name, array in arrays.items()})


def write_flame_row(path: Path, pose: HeadPose) -> None:
    """Write a pose of one frame as VHAP does; fields that are not set are left out."""
    fields = pose.tensors()
    arrays = {key: fields[field] for key, field in FLAME_KEYS.items() if field in fields}
    if "shape" in arrays:
        arrays["shape"] = arrays["shape"][0]
    _save(path, arrays)


def read_flame_row(path: Path) -> HeadPose:
    """Read one FLAME file of VHAP.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a key is missing or a value is not finite.
    """
    arrays = read_npz(path)
    missing = [key for key in FLAME_KEYS if key not in arrays and key != "static_offset"]
    if missing:
        raise ValueError(f"{path}: {missing[0]!r} is missing")
    return HeadPose(
        **{
            field: _as_row(path, key, arrays[key], is_offset=field in _OFFSETS)
            for key, field in FLAME_KEYS.items()
            if key in arrays
        }
    )


def assemble_track(
    rows: Mapping[int, tuple[Path, HeadPose]], head: HeadModel, static: HeadPose | None = None
) -> HeadPose:
    """Stack rows of parameters by timestep; timesteps without a row stay zero.

    Static fields are taken from ``static``, else from the first row. A ``static_offset`` that was
    tracked without teeth is padded with zeros.

    Args:
        rows: File and one-frame pose by timestep.
        head: Model that they must fit.
        static: Fields that belong to the subject.

    Raises:
        ValueError: Naming the file if sizes do not fit the head, fields differ between files, or a
            timestep is beyond what can be meant.
    """
    if not rows:
        raise ValueError("rows must hold at least one timestep")
    last = max(rows)
    if last >= _MAX_TIMESTEPS:
        raise ValueError(f"{rows[last][0]}: timestep must be below {_MAX_TIMESTEPS}, got {last}")
    static_names = {spec.name for spec in head.parameters_spec if spec.is_static}
    first_path, first = rows[min(rows)]
    fields: dict[str, Tensor] = {}
    names = [name for name in first.tensors() if name not in static_names]
    for name in names:
        template = first.tensors()[name]
        fields[name] = template.new_zeros(last + 1, *template.shape[1:])
    for timestep, (path, row) in rows.items():
        check_pose(_padded(row, head), head.parameters_spec, str(path))
        given = [name for name in row.tensors() if name not in static_names]
        if given != names:
            raise ValueError(f"{path}: has the fields {given}, {first_path} has {names}")
        for name in names:
            fields[name][timestep] = row.tensors()[name][0]
    subject = _padded(first if static is None else static, head)
    check_pose(subject, head.parameters_spec, str(first_path))
    kept = {name: t for name, t in subject.tensors().items() if name in static_names}
    return HeadPose(**kept, **fields)


def _padded(pose: HeadPose, head: HeadModel) -> HeadPose:
    if pose.static_offset is None or pose.static_offset.shape[1] >= head.neutral.shape[0]:
        return pose
    return pose.replace(static_offset=pad_offsets(pose.static_offset, head.neutral.shape[0]))


def _save(path: Path, arrays: Mapping[str, Tensor]) -> None:
    plain = {name: t.detach().cpu().numpy().astype(np.float32) for name, t in arrays.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **plain)


def _as_row(path: Path, name: str, array: np.ndarray, is_offset: bool = False) -> Tensor:
    """One frame: [1 k], or [1 v 3] for offsets."""
    values = torch.from_numpy(finite_floats(array, f"{path}: {name}"))
    if is_offset or name in _OFFSETS:
        if values.numel() % 3:
            raise ValueError(f"{path}: {name} must have shape (1, v, 3), got {array.shape}")
        return values.reshape(1, -1, 3)
    return values.reshape(1, -1)

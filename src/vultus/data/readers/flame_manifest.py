"""FLAME parameters in the frames of a manifest, as FaceTalk and IMavatar write them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vultus.data.readers.manifest import Manifest
from vultus.heads.base import HeadPose

__all__ = ["finite_numbers", "read_flame_pose"]

_POSE_FIELDS = {"global_rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eye_pose": 6}
"""Parts of ``pose`` in their order; angles are radians."""


def read_flame_pose(manifest: Manifest, index: int) -> HeadPose:
    """Read ``pose`` (15 numbers) and ``expression`` of a frame.

    Raises:
        ValueError: If they are no finite numbers, or not 15.
    """
    frame = manifest.frames[index]
    where = manifest.where(index, "pose")
    pose = finite_numbers(where, frame.get("pose")).reshape(1, -1)
    total = sum(_POSE_FIELDS.values())
    if pose.shape[1] != total:
        raise ValueError(f"{where} must have {total} numbers, got {pose.shape[1]}")
    expression = finite_numbers(manifest.where(index, "expression"), frame.get("expression"))
    parts = dict(zip(_POSE_FIELDS, pose.split(list(_POSE_FIELDS.values()), dim=1), strict=True))
    return HeadPose(
        expression_coeffs=expression.reshape(1, -1), translation=torch.zeros(1, 3), **parts
    )


def finite_numbers(where: str, value: object, dtype: torch.dtype = torch.float32) -> Tensor:
    """Read a list of numbers, nested or not.

    Raises:
        ValueError: If it is something else or holds NaN or infinity.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a list of numbers, got {value!r}")
    try:
        numbers = torch.tensor(value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{where} must be a list of numbers") from None
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"{where} must be finite, it holds NaN or infinity")
    return numbers

"""FLAME parameters of many frames in one ``.npz``: fine-tuned tracks of official avatars, motions.

Keys are those of VHAP's files (``rig_files.FLAME_KEYS``) with one row per frame; ``shape`` and
``static_offset`` belong to the subject and are absent from motions.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_path
from vultus.core.npz_io import finite_floats, read_npz
from vultus.data.rig_files import FLAME_KEYS
from vultus.heads.base import HeadPose
from vultus.heads.flame import FlameVersion

__all__ = ["FLAME_SIZES", "flame_version_of", "read_flame_track", "write_flame_track"]

FLAME_SIZES: dict[FlameVersion, tuple[int, int]] = {"2020": (100, 50), "2023": (300, 100)}
"""Identity and expression coefficients that tell the releases apart in official files."""
_SUBJECT_KEYS = ("shape", "static_offset")
_WIDTHS = {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
_UNUSED_OFFSET = "dynamic_offset"


def read_flame_track(path: Path) -> HeadPose:
    """Read a track; ``dynamic_offset`` and unknown keys are ignored, as everywhere in this format.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a key of the motion is missing, numbers of frames differ, or a value is not a
            finite number; one line that names file and key.
    """
    arrays = read_npz(path, FLAME_KEYS)
    missing = [key for key in FLAME_KEYS if key not in arrays and key not in _SUBJECT_KEYS]
    if missing:
        raise ValueError(f"{path}: {missing[0]!r} is missing")
    fields = {FLAME_KEYS[key]: _tensor(path, key, array) for key, array in arrays.items()}
    frames = {key: len(fields[FLAME_KEYS[key]]) for key in arrays if key not in _SUBJECT_KEYS}
    num_frames = max(frames.values())
    for key, count in frames.items():
        if count != num_frames:
            raise ValueError(f"{path}: {key} must have {num_frames} frames, got {count}")
    return HeadPose(**fields)


def write_flame_track(path: Path, pose: HeadPose) -> None:
    """Write a track, compressed, with the zero ``dynamic_offset`` that official programs ask for.

    Raises:
        ValueError: If a field of the motion is not set.
        FileNotFoundError: If the folder does not exist.
    """
    fields, num_frames = pose.tensors(), len(pose)
    arrays: dict[str, np.ndarray] = {}
    for key, field in FLAME_KEYS.items():
        if field not in fields:
            if key in _SUBJECT_KEYS:
                continue
            raise ValueError(f"{path}: a FLAME track needs {field}")
        values = fields[field].detach().cpu().float()
        if key == "shape":
            values = values[0]
        elif key not in _SUBJECT_KEYS:
            values = values.expand(num_frames, *values.shape[1:])
        arrays[key] = values.numpy()
    if "static_offset" in arrays:
        shape = (num_frames, *arrays["static_offset"].shape[1:])
        arrays[_UNUSED_OFFSET] = np.broadcast_to(np.float32(0.0), shape)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def flame_version_of(pose: HeadPose) -> FlameVersion:
    """Tell the FLAME release by the numbers of coefficients.

    Raises:
        ValueError: If they are those of neither release.
    """
    found = tuple(
        0 if tensor is None else tensor.shape[1]
        for tensor in (pose.identity_coeffs, pose.expression_coeffs)
    )
    for version in get_args(FlameVersion):
        if FLAME_SIZES[version] == found:
            return version
    known = " or ".join(f"{s} + {e} (FLAME {v})" for v, (s, e) in FLAME_SIZES.items())
    raise ValueError(f"identity and expression must have {known} coefficients, got {found}")


def _tensor(path: Path, key: str, array: np.ndarray) -> Float[Tensor, "t ..."]:
    values = torch.from_numpy(finite_floats(array, f"{path}: {key}"))
    if key == "static_offset":
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[0] != 1 or values.shape[2] != 3:
            raise ValueError(f"{path}: {key} must have shape (1, v, 3), got {array.shape}")
        return values
    if key == "shape":
        values = values.reshape(1, -1)
    width = _WIDTHS.get(key)
    if values.ndim != 2 or values.shape[0] < 1 or width not in (None, values.shape[1]):
        wanted = "k" if width is None else width
        raise ValueError(f"{path}: {key} must have shape (t, {wanted}), got {array.shape}")
    return values

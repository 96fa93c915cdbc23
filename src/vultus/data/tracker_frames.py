"""``.frame`` files of metrical-tracker: FLAME parameters and the camera of one video frame.

The head stands in FLAME's frame, which is our world in metres; all rigid motion is in the camera.
Files are pickles and are read without being run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.torch_pickle import load_torch_file
from vultus.geometry.cameras import Camera, check_rigid
from vultus.geometry.rotations import matrix_to_axis_angle, rotation_6d_to_matrix
from vultus.heads.base import HeadPose

__all__ = ["FRAME_SUFFIX", "TrackerFrame", "read_tracker_frame", "rotation_rows_to_axis_angle"]

FRAME_SUFFIX = ".frame"
_MAX_SIDE = 2**15
"""Pixels; larger image sizes are damage."""
_MAX_NUMBERS = 4096
"""Of one array; FLAME has 300 shapes. A tensor of stride 0 has any size in a few bytes."""
_DEGENERATE = 1e-4


@dataclass(frozen=True)
class TrackerFrame:
    """What reconstruction needs of a file. Texture, light and step count are left out.

    So are ``flame.eyelids``: no head model here has shapes for them.
    """

    identity: Float[Tensor, "1 s"]
    pose: HeadPose
    """One row, without identity."""
    camera: Camera
    """One camera at the size of the image that was tracked."""


def read_tracker_frame(path: Path) -> TrackerFrame:
    """Read one file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no pickle of plain arrays, or a key is missing or wrong; one line that
            names the file and the key.
    """
    content = load_torch_file(path)
    flame, opencv = _part(path, content, "flame"), _part(path, content, "opencv")
    jaw, eyes = (_rotations(path, key, flame, count) for key, count in (("jaw", 1), ("eyes", 2)))
    pose = HeadPose(
        expression_coeffs=_numbers(path, "flame.exp", flame.get("exp"))[None],
        global_rotation=torch.zeros(1, 3),
        neck_pose=torch.zeros(1, 3),
        jaw_pose=jaw.reshape(1, 3),
        eye_pose=eyes.reshape(1, 6),
        translation=torch.zeros(1, 3),
    )
    identity = _numbers(path, "flame.shape", flame.get("shape"))[None]
    return TrackerFrame(identity, pose, _camera(path, opencv, content))


def rotation_rows_to_axis_angle(rotation_6d: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3"]:
    """Turn 6D rotations whose vectors are *rows* of the matrix, as PyTorch3D has them."""
    return matrix_to_axis_angle(rotation_6d_to_matrix(rotation_6d).mT)


def _camera(path: Path, opencv: Mapping[str, Any], content: Mapping[str, Any]) -> Camera:
    height, width = _numbers(path, "img_size", content.get("img_size"), 2).tolist()
    if not all(side.is_integer() and 0 < side <= _MAX_SIDE for side in (height, width)):
        raise ValueError(f"{path}: img_size must be height and width, got {height}, {width}")
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[:3, :3] = _numbers(path, "opencv.R", opencv.get("R"), 9).reshape(3, 3)
    world_to_camera[:3, 3] = _numbers(path, "opencv.t", opencv.get("t"), 3)
    check_rigid(world_to_camera, f"{path}: opencv.R and opencv.t")
    intrinsics = _numbers(path, "opencv.K", opencv.get("K"), 9).reshape(3, 3)
    is_below = torch.equal(intrinsics[2], torch.tensor([0.0, 0.0, 1.0]))
    is_skewed = float(intrinsics[0, 1]) != 0 or float(intrinsics[1, 0]) != 0
    if float(intrinsics.diagonal().min()) <= 0 or is_skewed or not is_below:
        raise ValueError(
            f"{path}: opencv.K must have positive focal lengths, no skew and the last row "
            f"(0, 0, 1), got {intrinsics.tolist()}"
        )
    return Camera(world_to_camera.float()[None], intrinsics[None], int(width), int(height))


def _rotations(path: Path, key: str, flame: Mapping[str, Any], count: int) -> Float[Tensor, "n 3"]:
    numbers = _numbers(path, f"flame.{key}", flame.get(key), 6 * count).reshape(count, 6)
    first, second = numbers.split(3, dim=1)
    # Two vectors that span no plane define no rotation.
    if float(torch.linalg.cross(first, second).norm(dim=1).min()) < _DEGENERATE:
        raise ValueError(f"{path}: flame.{key} must hold 6D rotations, got {numbers.tolist()}")
    return rotation_rows_to_axis_angle(numbers)


def _part(path: Path, content: Any, key: str) -> Mapping[str, Any]:
    part = content.get(key) if isinstance(content, dict) else None
    if not isinstance(part, dict):
        raise ValueError(f"{path}: must hold a dictionary with a dictionary {key!r}")
    return part


def _numbers(path: Path, name: str, value: Any, count: int | None = None) -> Float[Tensor, " n"]:
    """A flat array of finite numbers; the files have arrays with a leading 1."""
    is_array = isinstance(value, Tensor | np.ndarray)
    if not is_array and not isinstance(value, list | tuple):
        raise ValueError(f"{path}: {name} must be an array of numbers, got {type(value).__name__}")
    shape = tuple(value.shape) if is_array else (len(value),)
    size = math.prod(shape)
    if size > _MAX_NUMBERS:
        raise ValueError(f"{path}: {name} must have at most {_MAX_NUMBERS} numbers, got {shape}")
    array = _plain_array(value)
    if array is None or size == 0:
        raise ValueError(f"{path}: {name} must be an array of numbers, got {type(value).__name__}")
    if count is not None and size != count:
        raise ValueError(f"{path}: {name} must have {count} numbers, got shape {shape}")
    with np.errstate(over="ignore"):
        tensor = torch.from_numpy(array.astype(np.float32).reshape(-1))
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{path}: {name} must be finite, it holds NaN or infinity")
    return tensor


def _plain_array(value: Tensor | np.ndarray | list[Any] | tuple[Any, ...]) -> np.ndarray | None:
    """Turn what holds real numbers into an array; ``None`` if it holds something else.

    Whole numbers beyond float64 become infinite.
    """
    if isinstance(value, Tensor):
        # NumPy has no bfloat16.
        is_real = not value.is_complex() and value.dtype != torch.bool
        return value.double().numpy() if is_real else None
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "fiu" else None
    if not all(isinstance(item, int | float | np.integer | np.floating) for item in value):
        return None
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError:
        return np.array([math.inf])

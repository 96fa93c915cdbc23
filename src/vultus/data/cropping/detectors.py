"""What a crop must be told about a photograph: by files that other tools wrote, or by networks.

A detector is a function of a photograph; where it is made of a file it only looks at the name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import read_json
from vultus.core.image_io import read_mask

__all__ = [
    "Angles",
    "BoxDetector",
    "Detectors",
    "LandmarkDetector",
    "MatteDetector",
    "Photograph",
    "PoseDetector",
    "boxes_from_file",
    "landmarks_from_file",
    "mattes_from_folder",
    "poses_from_file",
]

Angles = tuple[float, float, float]
"""Roll, yaw and pitch in radians."""


@dataclass(frozen=True)
class Photograph:
    """A picture with the name that files know it by."""

    name: str
    """Path below the folder of the pictures, with forward slashes."""
    rgb: Float[Tensor, "3 h w"]


LandmarkDetector = Callable[[Photograph], Float[Tensor, "n 2"] | None]
"""68 or 106 points of the most prominent face, in pixels; ``None`` where there is no face."""
BoxDetector = Callable[[Photograph], Float[Tensor, " 4"] | None]
"""Left, top, right and bottom of the most prominent head, in pixels."""
PoseDetector = Callable[[Photograph], Angles | None]
"""Of the head that fills the picture: a crop has the name of its photograph."""
MatteDetector = Callable[[Photograph], Float[Tensor, "1 h w"] | None]
"""Coverage by the person, of the size of the picture."""


@dataclass(frozen=True)
class Detectors:
    """What is known about photographs; what is left out is unknown."""

    landmarks: LandmarkDetector | None = None
    box: BoxDetector | None = None
    pose: PoseDetector | None = None
    matte: MatteDetector | None = None
    sees_pixels: bool = False
    """Whether the pose detector looks at the picture, so that it can be asked about a flipped or
    turned one."""


def landmarks_from_file(path: Path) -> LandmarkDetector:
    """Read ``{"name.png": [[x, y], ...]}``; pixels, the first pixel's centre at 0.5."""
    table = _table(path)
    return lambda photo: _numbers(table, photo.name, path, (-1, 2))


def boxes_from_file(path: Path) -> BoxDetector:
    """Read ``{"name.png": [left, top, right, bottom]}``."""
    table = _table(path)
    return lambda photo: _numbers(table, photo.name, path, (4,))


def poses_from_file(path: Path) -> PoseDetector:
    """Read ``{"name.png": [yaw, roll, pitch]}`` in degrees, as WHENet counts them."""
    table = _table(path)

    def look_up(photo: Photograph) -> Angles | None:
        found = _numbers(table, photo.name, path, (3,))
        if found is None:
            return None
        yaw, roll, pitch = (math.radians(angle) for angle in found.tolist())
        return roll, yaw, pitch

    return look_up


def mattes_from_folder(path: Path) -> MatteDetector:
    """Read grey pictures of the photographs' names, PNG.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder of mattes")

    def look_up(photo: Photograph) -> Float[Tensor, "1 h w"] | None:
        file = (path / photo.name).with_suffix(".png")
        if not file.is_file():
            return None
        matte = read_mask(file)
        if matte.shape[1:] != photo.rgb.shape[1:]:
            raise ValueError(
                f"{file}: must have the size of its photograph, "
                f"{photo.rgb.shape[2]} x {photo.rgb.shape[1]}, "
                f"got {matte.shape[2]} x {matte.shape[1]}"
            )
        return matte

    return look_up


def _table(path: Path) -> Mapping[str, Any]:
    table = read_json(path)
    if not isinstance(table, dict):
        raise ValueError(f'{path}: must be {{"name.png": numbers, ...}}')
    return table


def _numbers(
    table: Mapping[str, Any], name: str, path: Path, shape: tuple[int, ...]
) -> Tensor | None:
    """Numbers of a picture in a given shape; -1 stands for any length."""
    if table.get(name) is None:
        return None
    try:
        found = torch.tensor(table[name], dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {name}: must be numbers: {error}") from error
    fits = found.ndim == len(shape) and all(
        want in (-1, size) for want, size in zip(shape, found.shape, strict=True)
    )
    if not fits or not bool(found.isfinite().all()):
        raise ValueError(
            f"{path}: {name}: must be finite numbers of shape {shape}, got {tuple(found.shape)}"
        )
    return found

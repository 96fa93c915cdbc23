"""``transforms*.json`` files: checked access to their frames, cameras and paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import read_json
from vultus.core.image_io import image_size
from vultus.data.readers.options import AUTOMATIC_RESOLUTION, ReaderOptions
from vultus.geometry.cameras import Camera, check_rigid, fov_to_focal, opengl_to_opencv

__all__ = ["SEMANTIC_FOLDER", "Manifest", "file_beside", "read_manifest", "resize"]

SEMANTIC_FOLDER = "semantic"
"""Folder of label maps beside ``images/``."""
_IMAGES = "images"
# Of 3D Gaussian splatting, for images without a chosen resolution.
_LARGEST_AUTOMATIC_WIDTH = 1600


@dataclass(frozen=True)
class Manifest:
    """One transforms file. Errors name it, the frame and the field."""

    path: Path
    shared: Mapping[str, Any]
    """The top level."""
    frames: tuple[Mapping[str, Any], ...]

    def where(self, index: int, key: str) -> str:
        """Name a field for a message."""
        return f"{self.path}: frames[{index}].{key}"

    def value(self, index: int, key: str) -> Any:
        """A field of a frame, or the one that all frames share, or ``None``."""
        return self.frames[index].get(key, self.shared.get(key))

    def number(self, index: int, key: str) -> float | None:
        """A finite number, or ``None`` if the field is absent.

        Raises:
            ValueError: If it is something else.
        """
        value = self.value(index, key)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise ValueError(f"{self.where(index, key)} must be a finite number, got {value!r}")
        return float(value)

    def count(self, index: int, key: str, default: int | None = None) -> int:
        """A whole number from 0.

        Raises:
            ValueError: If it is absent without a default, or something else.
        """
        value = self.frames[index].get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{self.where(index, key)} must be a whole number, got {value!r}")
        return value

    def file(self, index: int, key: str) -> Path | None:
        """A path relative to the manifest, or ``None`` if the field is absent.

        Raises:
            ValueError: If it is no text.
            FileNotFoundError: If there is no such file.
        """
        value = self.frames[index].get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise ValueError(f"{self.where(index, key)} must be a path, got {value!r}")
        path = self.path.parent / value
        if not path.is_file():
            raise FileNotFoundError(f"{self.where(index, key)}: {path} does not exist")
        return path

    def required_file(self, index: int, key: str) -> Path:
        """As ``file``, for a field that must be there.

        Raises:
            ValueError: If it is absent or no text.
            FileNotFoundError: If there is no such file.
        """
        path = self.file(index, key)
        if path is None:
            raise ValueError(f"{self.where(index, key)} is missing")
        return path

    def camera(self, index: int, image: Path, *, is_centered: bool = False) -> Camera:
        """The camera of a frame at the size of its files, from OpenGL camera-to-world.

        Args:
            index: Frame.
            image: Read for its size where ``w`` and ``h`` are absent.
            is_centered: Assume square pixels and a centred principal point, ignoring ``fl_y``,
                ``cx`` and ``cy``.

        Raises:
            ValueError: If the matrix is not rigid or there is no focal length.
        """
        given = self.number(index, "w"), self.number(index, "h")
        if given[0] is None or given[1] is None:
            width, height = image_size(image)
        else:
            width, height = int(given[0]), int(given[1])
        focal_x = None if is_centered else self.number(index, "fl_x")
        if focal_x is None:
            fov = self.number(index, "camera_angle_x")
            if fov is None or not 0 < fov < math.pi:
                raise ValueError(
                    f"{self.where(index, 'camera_angle_x')} must be in (0, pi) where fl_x is "
                    f"absent, got {fov}"
                )
            focal_x = fov_to_focal(fov, width)
        others = {"fl_y": focal_x, "cx": 0.5 * width, "cy": 0.5 * height}
        if not is_centered:
            others = {key: _default(self.number(index, key), v) for key, v in others.items()}
        if focal_x <= 0 or others["fl_y"] <= 0:
            raise ValueError(f"{self.where(index, 'fl_x')} and fl_y must be positive")
        intrinsics = torch.tensor(
            [[focal_x, 0.0, others["cx"]], [0.0, others["fl_y"], others["cy"]], [0.0, 0.0, 1.0]]
        )
        return Camera(self.world_to_camera(index), intrinsics[None], width, height)

    def world_to_camera(self, index: int) -> Float[Tensor, "1 4 4"]:
        """The inverse of ``transform_matrix`` (OpenGL camera-to-world), in our axes.

        Raises:
            ValueError: If the matrix is not rigid.
        """
        where = self.where(index, "transform_matrix")
        value = self.frames[index].get("transform_matrix")
        try:
            camera_to_world = torch.tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            camera_to_world = torch.empty(0)
        if camera_to_world.shape != (4, 4):
            raise ValueError(f"{where} must be a 4x4 matrix of numbers")
        check_rigid(camera_to_world, where)
        turned = opengl_to_opencv(camera_to_world)
        # Batched so that ``Camera`` can invert it: the inverse of a rigid matrix is the same
        # formula in both directions.
        inverse = Camera(turned[None], torch.eye(3, dtype=torch.float64)[None], 1, 1)
        return inverse.camera_to_world.float()


def read_manifest(path: Path) -> Manifest:
    """Read a transforms file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not JSON or has no list of frames.
    """
    data = read_json(path)
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{path}: must be an object with a list 'frames'")
    shared = {key: value for key, value in data.items() if key != "frames"}
    return Manifest(path, shared, tuple(frames))


def resize(camera: Camera, options: ReaderOptions) -> tuple[Camera, tuple[int, int] | None]:
    """Apply the resolution option: the camera to use and, if it differs, the size of the files.

    Raises:
        ValueError: If images would have to be enlarged.
    """
    choice = options.resolution
    if choice == AUTOMATIC_RESOLUTION:
        width = min(camera.width, _LARGEST_AUTOMATIC_WIDTH)
    else:
        width = round(camera.width / choice) if choice in (1, 2, 4, 8) else choice
    if width == camera.width:
        return camera, None
    if width > camera.width:
        raise ValueError(
            f"option resolution must not enlarge: images are {camera.width} wide, got {width}"
        )
    height = max(round(camera.height * width / camera.width), 1)
    return camera.resized(width, height), (camera.width, camera.height)


def file_beside(image: Path, folder: str, images: str = _IMAGES) -> Path | None:
    """The file of the same name in another folder beside that of the images, if it exists.

    Args:
        image: File; there is nothing beside it unless it lies in ``images``.
        folder: Name of the other folder.
        images: Name of the folder of images.

    Raises:
        FileNotFoundError: If the folder is there without the file.
    """
    if image.parent.name != images or not (image.parent.parent / folder).is_dir():
        return None
    path = image.parent.parent / folder / image.name
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, though {image} does")
    return path


def _default(value: float | None, fallback: float) -> float:
    return fallback if value is None else value

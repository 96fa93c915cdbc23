"""Light labels of image sets: which light each picture was taken in.

Beside ``labels``, a label file may have ``"sh": [[name, 9 or 27 numbers], ...]`` and
``"sh_frame": "camera"`` or ``"head"``; where no frame is stated it is the camera's, as in all
published sets. A light is real spherical harmonics of degree 2 for one or three channels,
coefficient by coefficient, with X to the right of the picture, Y into the scene and Z up. The
frame of the head is that of a frontal camera, whatever the picture's camera.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import write_text
from vultus.data.image_set import LABEL_FILE, ImageSet
from vultus.data.label_files import label_table, parse_label, read_label_file
from vultus.geometry.spherical_harmonics import light_sh_rotation, num_sh_terms

__all__ = [
    "FRAME_KEY",
    "HEAD_AXES",
    "LIGHT_TERMS",
    "RGB_LIGHT_FILE",
    "LightFrame",
    "camera_to_head_lights",
    "head_to_camera_lights",
    "label_axes",
    "mirror_lights",
    "read_head_lights",
    "stated_frame",
    "unlit_label_content",
    "write_light_labels",
]

LightFrame = Literal["camera", "head"]

LIGHT_TERMS = num_sh_terms(2)
"""Numbers of a light in one channel."""
RGB_LIGHT_FILE = "dataset_rgb_sh_2.json"
"""Has lights of three channels."""
FRAME_KEY = "sh_frame"
_DEGREE = 2
_DIGITS = 8
HEAD_AXES = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
"""X, Y and Z of a light in the world, by rows: right, into the scene, up of a frontal picture."""


def read_head_lights(image_set: ImageSet, channels: Literal[1, 3] = 1) -> Float[Tensor, "n l"]:
    """Read the light of every image of a set, in axes of the head.

    Args:
        image_set: Its cameras turn lights that are labelled in their axes.
        channels: Lights of 9 numbers in ``dataset.json``, or of 27 in ``RGB_LIGHT_FILE``.

    Raises:
        FileNotFoundError: If the set lacks that file.
        ValueError: If it has no light for an image, or one that is none; names file and image.
    """
    name = LABEL_FILE if channels == 1 else RGB_LIGHT_FILE
    archive = image_set.images
    where = f"{archive.path}: {name}"
    if name not in archive.names():
        raise FileNotFoundError(f"{where} is missing")
    content = read_label_file(archive.read(name), where)
    by_image = label_table(content, "sh", where)
    missing = next((image for image in image_set.names if image not in by_image), None)
    if missing is not None:
        raise ValueError(f"{where} has no light for the image {missing}")
    length = LIGHT_TERMS * channels
    lights = torch.stack(
        [
            parse_label(by_image[image], length, f"{where}: the light of {image}")
            for image in image_set.names
        ]
    )
    if not bool(lights.isfinite().all()):
        raise ValueError(f"{where} must have finite lights")
    if stated_frame(content, where) == "head":
        return lights
    return camera_to_head_lights(lights, image_set.labels)


def stated_frame(content: Mapping[str, Any], where: str) -> LightFrame:
    """The axes of the lights in a label file.

    Args:
        content: Of ``read_label_file``.
        where: Names the file.

    Raises:
        ValueError: If it states axes that there are not.
    """
    frame, known = content.get(FRAME_KEY, "camera"), get_args(LightFrame)
    if frame not in known:
        raise ValueError(f"{where}: {FRAME_KEY} must be one of {', '.join(known)}, got {frame!r}")
    return frame


def unlit_label_content(images: ImageSet, *, replace: bool) -> Mapping[str, Any]:
    """Read the label file of a set that gets lights.

    Args:
        images: The set.
        replace: Whether it may have lights already, of one channel or three.

    Raises:
        ValueError: If it has, or is no folder.
    """
    if not images.path.is_dir():
        raise ValueError(f"{images.path} must be a folder: label files are written into it")
    where = f"{images.path}: {LABEL_FILE}"
    content = read_label_file(images.images.read(LABEL_FILE), where)
    if replace:
        return content
    if "sh" in content:
        raise ValueError(f"{where} has lights already; --replace (replace=True) replaces them")
    if RGB_LIGHT_FILE in images.images.names():
        raise ValueError(
            f"{images.path}: {RGB_LIGHT_FILE} is there already; ask for its replacement"
        )
    return content


def write_light_labels(
    images: ImageSet,
    content: Mapping[str, Any],
    tables: Mapping[str, Float[Tensor, "n l"]],
    frame: LightFrame,
) -> tuple[Path, ...]:
    """Write lights into the label files of a set, in the order of ``tables``.

    They are all that the set has then: without lights of three channels among them, the file of
    earlier ones is removed.

    Args:
        images: The set.
        content: Of its label file, which keeps what else it holds.
        tables: File name -> lights in the order of the images.
        frame: Whose axes they have.
    """
    if RGB_LIGHT_FILE not in tables:
        (images.path / RGB_LIGHT_FILE).unlink(missing_ok=True)
    paths = []
    for name, lights in tables.items():
        rows = zip(images.names, lights.tolist(), strict=True)
        table = [[image, [float(f"{v:.{_DIGITS}g}") for v in row]] for image, row in rows]
        kept = content if name == LABEL_FILE else {"labels": content["labels"]}
        path = images.path / name
        write_text(path, json.dumps({**kept, "sh": table, FRAME_KEY: frame}))
        paths.append(path)
    return tuple(paths)


def camera_to_head_lights(
    lights: Float[Tensor, "n l"], labels: Float[Tensor, "n 25"]
) -> Float[Tensor, "n l"]:
    """Convert lights in axes of the cameras that saw them.

    What a generator learns belongs to the head: without this, light and pose are entangled.

    Args:
        lights: Of 9 or 27 numbers.
        labels: The cameras.
    """
    return _turned(lights, _camera_to_head(labels))


def head_to_camera_lights(
    lights: Float[Tensor, "n l"], labels: Float[Tensor, "n 25"]
) -> Float[Tensor, "n l"]:
    """Undo ``camera_to_head_lights``."""
    return _turned(lights, _camera_to_head(labels).mT)


def mirror_lights(lights: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
    """Lights of images that are flipped left to right, in either frame: X changes its sign."""
    signs = light_sh_rotation(torch.diag(torch.tensor([-1.0, 1.0, 1.0])), _DEGREE).diagonal()
    return lights * signs.round().to(lights).repeat_interleave(lights.shape[1] // LIGHT_TERMS)


def label_axes(labels: Float[Tensor, "n 25"]) -> Float[Tensor, "n 3 3"]:
    """X, Y and Z of the lights that cameras label, by rows, in the world; float64 on the CPU."""
    to_world = labels[:, :16].unflatten(1, (4, 4))[:, :3, :3].detach().to("cpu", torch.float64)
    right, down, forward = to_world.unbind(dim=2)
    return torch.stack([right, forward, -down], dim=1)


def _camera_to_head(labels: Float[Tensor, "n 25"]) -> Float[Tensor, "n 3 3"]:
    """Rotations from the axes of a camera's lights to those of the head's."""
    return torch.tensor(HEAD_AXES, dtype=torch.float64) @ label_axes(labels).mT


def _turned(
    lights: Float[Tensor, "n l"], rotations: Float[Tensor, "n 3 3"]
) -> Float[Tensor, "n l"]:
    matrices = light_sh_rotation(rotations, _DEGREE).to(lights)
    return (matrices @ lights.unflatten(1, (LIGHT_TERMS, -1))).flatten(1)

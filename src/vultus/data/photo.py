"""One photo of a head with its camera, as inversion takes it."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import read_json
from vultus.core.image_io import read_image, read_mask
from vultus.data.camera_labels import LABEL_DIM, check_label
from vultus.data.label_files import label_table, parse_label

__all__ = ["read_label", "square_mask", "square_photo"]

_NAMED = 3


def square_photo(path: Path, size: int) -> Float[Tensor, "1 3 s s"]:
    """Read a photo, cut its middle square out and resize it; values in [0, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image.
    """
    return _resized(_middle(read_image(path)), size)


def square_mask(path: Path, size: int, photo: Path) -> Float[Tensor, "1 1 s s"]:
    """Read a photo's mask likewise.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image, or not as large as the photo.
    """
    mask = read_mask(path)
    sides = read_image(photo).shape[-2:]
    if mask.shape[-2:] != sides:
        raise ValueError(
            f"{path}: the mask must be as large as the photo ({sides[1]} x {sides[0]}), got "
            f"{mask.shape[-1]} x {mask.shape[-2]}"
        )
    return _resized(_middle(mask), size)


def read_label(path: Path, photo: Path) -> Float[Tensor, "1 25"]:
    """Read the camera label of a photo.

    Args:
        path: JSON file: 25 numbers, or ``dataset.json`` of an image set, which lists the photo by
            its file name.
        photo: Which entry is meant.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no label of the photo, or one that breaks a rule.
    """
    data = read_json(path)
    values = data
    if isinstance(data, dict):
        entries = label_table(data, "labels", str(path))
        found = [value for name, value in entries.items() if Path(name).name == photo.name]
        if len(found) != 1:
            others = f"; it lists {', '.join([*entries][:_NAMED])}" if entries and not found else ""
            raise ValueError(
                f"{path} must hold one label for {photo.name}, got {len(found)}{others}"
            )
        values = found[0]
    label = parse_label(values, LABEL_DIM, f"{path}: the label")
    check_label(label, f"{path}: the label")
    return label[None]


def _middle(image: Float[Tensor, "c _ _"]) -> Float[Tensor, "c s s"]:
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def _resized(image: Float[Tensor, "c _ _"], size: int) -> Float[Tensor, "1 c s s"]:
    resize = torch.nn.functional.interpolate
    options = {"mode": "bicubic", "align_corners": False, "antialias": True}
    return resize(image[None], (size, size), **options).clamp(0.0, 1.0)

"""Light labels of image sets, as ``data.studio.collection`` and other tools write them.

Beside ``labels``, a label file may have ``"sh": [[name, 9 or 27 numbers], ...]`` and
``"sh_frame": "camera"`` or ``"head"``. Where no frame is stated it is the camera's, as in all
published sets.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.image_set import LABEL_FILE, ImageSet
from vultus.data.label_files import label_table, parse_label, read_label_file
from vultus.methods.gsheadrelight.config import LIGHT_TERMS
from vultus.methods.gsheadrelight.lights import (
    camera_to_head_light,
    labels_to_light,
    light_to_labels,
)

__all__ = ["RGB_LIGHT_FILE", "read_head_lights"]

RGB_LIGHT_FILE = "dataset_rgb_sh_2.json"
"""Has lights of three colours."""
_FRAMES = ("camera", "head")


def read_head_lights(
    image_set: ImageSet, light_channels: Literal[1, 3] = 1
) -> Float[Tensor, "n l"]:
    """Read the light of every image of a set, in axes of the head.

    Args:
        image_set: Its cameras turn lights that are labelled in their axes.
        light_channels: Lights of 9 numbers in ``dataset.json``, or of 27 in ``RGB_LIGHT_FILE``.

    Raises:
        FileNotFoundError: If the set lacks that file.
        ValueError: If it has no light for an image, or one that is none; names file and image.
    """
    name = LABEL_FILE if light_channels == 1 else RGB_LIGHT_FILE
    archive = image_set.images
    where = f"{archive.path}: {name}"
    if name not in archive.names():
        raise FileNotFoundError(f"{where} is missing")
    content = read_label_file(archive.read(name), where)
    by_image = label_table(content, "sh", where)
    missing = next((image for image in image_set.names if image not in by_image), None)
    if missing is not None:
        raise ValueError(f"{where} has no light for the image {missing}")
    length = LIGHT_TERMS * light_channels
    lights = torch.stack(
        [
            parse_label(by_image[image], length, f"{where}: the light of {image}")
            for image in image_set.names
        ]
    )
    if not bool(lights.isfinite().all()):
        raise ValueError(f"{where} must have finite lights")
    frame = content.get("sh_frame", "camera")
    if frame not in _FRAMES:
        raise ValueError(f"{where}: sh_frame must be one of {', '.join(_FRAMES)}, got {frame!r}")
    if frame == "head":
        return lights
    return light_to_labels(camera_to_head_light(labels_to_light(lights), image_set.labels))

"""Lights as estimators of others write them: a text file of numbers for each picture, or a table.

DPR (Deep Single Portrait Image Relighting) and programs that follow it write one number a line: 9
real spherical harmonics in axes of the picture, X to the right, Y into the scene, Z up, in units in
which a white matte surface shows its light's brightness. These are the axes and the scale of
``light_labels``, so that the numbers become labels as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.srgb import LUMINANCE
from vultus.data.image_archive import ImageArchive, open_archive
from vultus.data.image_set import LABEL_FILE, ImageSet, open_image_set
from vultus.data.label_files import label_table, parse_label, read_label_file
from vultus.data.light_labels import (
    FRAME_KEY,
    LIGHT_TERMS,
    RGB_LIGHT_FILE,
    LightFrame,
    stated_frame,
    unlit_label_content,
    write_light_labels,
)

__all__ = [
    "LightTexts",
    "parse_light_text",
    "plan_light_texts",
    "read_light_table",
    "read_light_texts",
]

_SUFFIX = ".txt"
_TABLE_SUFFIX = ".json"


def parse_light_text(text: str, where: str) -> Float[Tensor, " l"]:
    """Read the numbers of a light: 9, or 27, coefficient by coefficient.

    DPR's program takes the first 9 of any number; the lights that it comes with have no more. Here
    other counts are refused: 26 numbers are most likely 27 that were cut off.

    Raises:
        ValueError: If there are others, or something else; names ``where``.
    """
    try:
        numbers = torch.tensor([float(word) for word in text.split()])
    except ValueError as error:
        raise ValueError(f"{where} must hold the numbers of a light: {error}") from error
    if len(numbers) not in (LIGHT_TERMS, 3 * LIGHT_TERMS):
        raise ValueError(f"{where} must hold 9 or 27 numbers, got {len(numbers)}")
    if not bool(numbers.isfinite().all()):
        raise ValueError(f"{where} must hold finite numbers")
    return numbers


def read_light_texts(archive: ImageArchive, images: Sequence[str]) -> Float[Tensor, "n l"]:
    """Read the light of each image: of the text file of its name.

    Raises:
        ValueError: If an image has none, or one holds no light or another number of colours than
            the first; names it.
    """
    by_stem = {_stem(name): name for name in archive.names() if name.lower().endswith(_SUFFIX)}
    lights: list[Float[Tensor, " l"]] = []
    for image in images:
        name = by_stem.get(_stem(image))
        if name is None:
            raise ValueError(f"{archive.path}: has no {_SUFFIX} for the image {image}")
        where = f"{archive.path}: {name}"
        light = parse_light_text(archive.read(name).decode(errors="replace"), where)
        if lights and len(light) != len(lights[0]):
            raise ValueError(f"{where} must hold {len(lights[0])} numbers, got {len(light)}")
        lights.append(light)
    return torch.stack(lights)


def read_light_table(
    path: Path, images: Sequence[str]
) -> tuple[Float[Tensor, "n l"], LightFrame | None]:
    """Read the light of each image from the ``sh`` of a label file, and whose axes it states.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an image has no light, or one is none or of another number of colours than
            the first; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    content = read_label_file(path.read_bytes(), str(path))
    table = label_table(content, "sh", str(path))
    lights: list[Float[Tensor, " l"]] = []
    for image in images:
        if image not in table:
            raise ValueError(f"{path} has no light for the image {image}")
        where = f"{path}: the light of {image}"
        length = len(lights[0]) if lights else _length(table[image])
        lights.append(parse_label(table[image], length, where))
    if not bool(torch.stack(lights).isfinite().all()):
        raise ValueError(f"{path} must have finite lights")
    frame = stated_frame(content, str(path)) if FRAME_KEY in content else None
    return torch.stack(lights), frame


def _length(light: object) -> int:
    """27 of lights that can have no other number, 9 of all others, which are then checked."""
    if not isinstance(light, list):
        return LIGHT_TERMS
    count = sum(len(part) if isinstance(part, list) else 1 for part in light)
    return count if count == 3 * LIGHT_TERMS else LIGHT_TERMS


@dataclass(frozen=True)
class LightTexts:
    """A set and the lights of its images, which were checked."""

    images: ImageSet
    lights: Float[Tensor, "n l"]
    frame: LightFrame
    content: Mapping[str, Any]
    """Of the set's label file."""

    def write(self) -> tuple[Path, ...]:
        """Write lights of 9 numbers beside the cameras, and remove those of 27 that the set had.

        Lights of 27 numbers get a file of their own; beside the cameras stands their luminance.
        """
        tables = {LABEL_FILE: self.lights}
        if self.lights.shape[1] != LIGHT_TERMS:
            mono = self.lights.unflatten(1, (LIGHT_TERMS, 3)) @ torch.tensor(LUMINANCE)
            tables = {RGB_LIGHT_FILE: self.lights, LABEL_FILE: mono}
        return write_light_labels(self.images, self.content, tables, self.frame)


def plan_light_texts(
    source: Path, labels: Path, *, frame: LightFrame | None = None, replace: bool = False
) -> LightTexts:
    """Read and check all lights without writing anything.

    Args:
        source: Folder of an image set.
        labels: Folder or archive of text files under the names of the images, or a label file.
        frame: Whose axes the lights have; None for those that the label file states, else those of
            the cameras.
        replace: Replace lights that the set has, of 9 numbers and of 27.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If the set is no folder, has lights already, an image has no light, or the
            label file states other axes.
    """
    images = open_image_set(source, alpha="mask")
    content = unlit_label_content(images, replace=replace)
    stated = None
    if labels.suffix.lower() == _TABLE_SUFFIX:
        lights, stated = read_light_table(labels, images.names)
    else:
        lights = read_light_texts(open_archive(labels), images.names)
    if frame is not None and stated is not None and frame != stated:
        raise ValueError(f"frame must be {stated}, as {labels} states it, got {frame}")
    return LightTexts(images, lights, frame or stated or "camera", content)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()

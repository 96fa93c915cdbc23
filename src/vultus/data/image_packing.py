"""Pack images, masks, semantic maps and labels of any origin into a set for generators.

Everything is checked, and the set appears under its name only when it is complete. Names become
``00000/img00000000.png`` in the order of the sources; a copy of an image (repeated for rare views,
or flipped) has a number of its own. Label files beside ``dataset.json`` (``dataset_*.json``, as of
lights) are carried along.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vultus.core.files import atomic_directory
from vultus.core.image_io import decode_image, encode_image
from vultus.core.progress import Progress
from vultus.core.threads import map_in_threads
from vultus.data.archive_writing import ArchiveWriter, FolderWriter, ZipWriter
from vultus.data.camera_labels import label_angles, mirror_labels
from vultus.data.image_choice import yaw_repeats
from vultus.data.image_set import IMAGE_FOLDER, LABEL_FILE, MASK_FOLDER, PART_FOLDER
from vultus.data.labelled_images import LabelledImages, MatchRule, find_labelled_images
from vultus.data.light_labels import mirror_lights
from vultus.data.semantics import decode_parsing, mirrored_classes, resize_label_map

__all__ = ["PackConfig", "PackPlan", "plan_pack"]

_FILES_A_FOLDER = 1000
_VIEWS = (("front", 0, 45), ("sides", 45, 135), ("back", 135, 181))
_DIGITS = 8


@dataclass(frozen=True)
class PackConfig:
    """What is done to the images."""

    size: int | None = None
    """Side of the packed images, a power of two; smaller or larger ones are resampled (Lanczos).
    None keeps their size."""
    crop: bool = False
    """Take the middle square of images that are not square."""
    alpha: Literal["refuse", "drop", "keep"] = "refuse"
    """What to do about pictures with an alpha channel; GSHeadRelight trains on them."""
    match: MatchRule = "name"
    """Labels, masks and semantic maps belong to the images of the same path, or of the same name
    without folders and suffix (stem). The suffixes of masks and maps never count."""
    only_complete: bool = False
    """Leave out images without label, mask or map, and labels without image, in place of an
    error."""
    max_images: int | None = None
    """Take the first ones only."""
    yaw_group: float = 5.0
    """Width of a group of views for ``least_per_group``, in degrees of yaw."""
    least_per_group: int = 0
    """Repeat the images of rarer groups of views until they are as many, as EG3D's tool does. Our
    training repeats rare views itself and needs no copies."""
    mirror: bool = False
    """Add a flipped copy of every image, with flipped labels. Our training flips by itself."""
    archives: bool = True
    """Write img.zip, seg.zip and parts.zip in place of the folders img, seg and parts."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        if self.size is not None and (self.size < 1 or self.size.bit_count() != 1):
            raise ValueError(f"size must be a power of two, got {self.size}")
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images must be positive, got {self.max_images}")
        if not 0 < self.yaw_group <= 360:
            raise ValueError(f"yaw_group must be in (0, 360] degrees, got {self.yaw_group}")
        if self.least_per_group < 0:
            raise ValueError(f"least_per_group must not be negative, got {self.least_per_group}")


class _Entry(NamedTuple):
    """One packed image."""

    row: int
    """Of the source."""
    is_mirrored: bool


@dataclass(frozen=True)
class PackPlan:
    """A packing whose names and labels were checked."""

    source: LabelledImages
    out: Path
    config: PackConfig
    entries: tuple[_Entry, ...]

    def facts(self) -> dict[str, str]:
        """For a table."""
        source = self.source
        counts = torch.zeros(len(source.names), dtype=torch.int64)
        for entry in self.entries:
            counts[entry.row] += 1
        yaw = torch.rad2deg(label_angles(source.labels)[:, 0]).abs()
        views = (f"{int(counts[(yaw >= a) & (yaw < b)].sum())} {n}" for n, a, b in _VIEWS)
        lights = [file.name for file in source.files if file.lights is not None]
        return {
            "images": f"{len(source.names)}, {source.num_left_out} left out",
            "packed": f"{len(self.entries)}, with repetitions and flipped ones",
            "views": ", ".join(views),
            "masks": "none" if source.masks is None else str(source.masks.path),
            "semantic maps": "none" if source.parts is None else str(source.parts.path),
            "lights": ", ".join(lights) or "none",
        }

    def write(self) -> None:
        """Decode, check and write all images, then publish the set.

        Raises:
            ValueError: If an image, mask or map is damaged or has another size or number of
                channels; names the file. Nothing is left behind then.
        """
        with atomic_directory(self.out) as folder, ExitStack() as stack:
            writers = {
                name: stack.enter_context(closing(self._writer(folder, name)))
                for name in self._folders()
            }
            names = []
            encode = partial(self._encode, shape=self._image(self.entries[0]).shape)
            with Progress("packing", len(self.entries), "images") as progress:
                for files in map_in_threads(encode, self.entries):
                    index = len(names)
                    names.append(f"{index // _FILES_A_FOLDER:05d}/img{index:08d}.png")
                    for name, data in files.items():
                        writers[name].add(names[-1], data)
                    progress.advance()
            for file, content in self._label_contents(names):
                writers[IMAGE_FOLDER].add(file, content)
                if MASK_FOLDER in writers and file == LABEL_FILE:
                    writers[MASK_FOLDER].add(file, content)

    def _folders(self) -> list[str]:
        """Of what there is."""
        beside = ((MASK_FOLDER, self.source.masks), (PART_FOLDER, self.source.parts))
        return [IMAGE_FOLDER, *(name for name, archive in beside if archive is not None)]

    def _writer(self, folder: Path, name: str) -> ArchiveWriter:
        archives = self.config.archives
        return ZipWriter(folder / f"{name}.zip") if archives else FolderWriter(folder / name)

    def _encode(self, entry: _Entry, shape: torch.Size) -> dict[str, bytes]:
        """Image, mask and semantic map as files, by folder; all images must have one shape."""
        image, where = self._image(entry), self._place(entry)
        if image.shape != shape:
            raise ValueError(
                f"{where} must have the shape of the first image, {tuple(shape)}, "
                f"got {tuple(image.shape)}"
            )
        if image.shape[1].bit_count() != 1:
            raise ValueError(
                f"{where} must have a power of two as side, got {image.shape[1]}; give a size"
            )
        files = {IMAGE_FOLDER: encode_image(image, "image.png")}
        layers = ((MASK_FOLDER, "mask", self._mask), (PART_FOLDER, "semantic map", self._parts))
        for folder, what, read in layers:
            layer = read(entry)
            if layer is None:
                continue
            if layer.shape[1:] != image.shape[1:]:
                raise ValueError(
                    f"{where} must have a {what} of its size, {image.shape[1]}, got "
                    f"{layer.shape[1]}"
                )
            files[folder] = encode_image(layer, f"{folder}.png")
        return files

    def _place(self, entry: _Entry) -> str:
        return f"{self.source.images.path}: {self.source.names[entry.row]}"

    def _image(self, entry: _Entry) -> UInt8[Tensor, "c s s"]:
        where = self._place(entry)
        image = decode_image(self.source.images.read(self.source.names[entry.row]), where)
        if image.shape[0] in (1, 2):
            raise ValueError(f"{where} must be coloured, got {image.shape[0]} channels")
        if image.shape[0] == 4 and self.config.alpha == "refuse":
            raise ValueError(f"{where} has an alpha channel; say whether to drop or keep it")
        if self.config.alpha == "drop":
            image = image[:3]
        return self._fitted(image, where, entry.is_mirrored)

    def _mask(self, entry: _Entry) -> UInt8[Tensor, "1 s s"] | None:
        masks = self.source.masks
        if masks is None:
            return None
        name = self.source.mask_names[entry.row]
        where = f"{masks.path}: {name}"
        mask = decode_image(masks.read(name), where)
        if mask.shape[0] not in (1, 3) or not bool((mask == mask[:1]).all()):
            raise ValueError(f"{where} must be grey, got {mask.shape[0]} channels")
        return self._fitted(mask[:1], where, entry.is_mirrored)

    def _parts(self, entry: _Entry) -> UInt8[Tensor, "1 s s"] | None:
        archive = self.source.parts
        if archive is None:
            return None
        name = self.source.part_names[entry.row]
        where = f"{archive.path}: {name}"
        classes = decode_parsing(archive.read(name), where)
        fitted = self._fitted(classes[None], where, entry.is_mirrored, is_map=True)
        return mirrored_classes()[fitted.long()] if entry.is_mirrored else fitted

    def _fitted(
        self,
        pixels: UInt8[Tensor, "c h w"],
        where: str,
        is_mirrored: bool,
        *,
        is_map: bool = False,
    ) -> UInt8[Tensor, "c s s"]:
        height, width = pixels.shape[1:]
        if height != width:
            if not self.config.crop:
                raise ValueError(f"{where} must be square, got {width} x {height}; ask for a crop")
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            pixels = pixels[:, top : top + side, left : left + side]
        size = self.config.size
        if size is not None and size != pixels.shape[1]:
            pixels = (
                resize_label_map(pixels[0], size, size)[None]
                if is_map
                else _resampled(pixels, size)
            )
        return pixels.flip(2) if is_mirrored else pixels

    def _label_contents(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        rows = torch.tensor([entry.row for entry in self.entries])
        is_mirrored = torch.tensor([entry.is_mirrored for entry in self.entries])[:, None]
        labels = self.source.labels[rows]
        labels = torch.where(is_mirrored, mirror_labels(labels), labels)
        for file in self.source.files:
            content: dict[str, Any] = {"labels": _table(names, labels)}
            if file.lights is not None:
                lights = file.lights[rows]
                lights = torch.where(is_mirrored, mirror_lights(lights), lights)
                content["sh"] = _table(names, lights)
            yield file.name, json.dumps({**content, **file.facts}).encode()


def plan_pack(
    source: Path,
    out: Path,
    config: PackConfig | None = None,
    *,
    masks: Path | None = None,
    parts: Path | None = None,
    labels: Path | None = None,
) -> PackPlan:
    """Check names and labels of a packing without writing anything.

    Args:
        source: Folder or archive of images, or a folder of all (``img``, ``seg`` and ``parts``).
        out: New folder for the set.
        config: What is done to the images.
        masks: Folder or archive of masks.
        parts: Folder or archive of semantic maps.
        labels: Label file in place of the source's own.

    Raises:
        FileNotFoundError: If a path or the label file does not exist.
        ValueError: Naming file and rule, if ``out`` exists, images, labels and masks do not belong
            together, or a label is no camera.
    """
    config = config or PackConfig()
    if out.exists():
        raise ValueError(f"{out} exists; give a new folder")
    found = find_labelled_images(
        source,
        masks=masks,
        parts=parts,
        labels=labels,
        match=config.match,
        only_complete=config.only_complete,
    )
    labels_kept = found.labels[: config.max_images]
    repeats = torch.ones(len(labels_kept), dtype=torch.int64)
    if config.least_per_group:
        yaw = torch.rad2deg(label_angles(labels_kept)[:, 0])
        repeats = yaw_repeats(yaw, config.yaw_group, config.least_per_group)
    entries = [
        _Entry(row, is_mirrored)
        for row, count in enumerate(repeats.tolist())
        for _ in range(count)
        for is_mirrored in ((False, True) if config.mirror else (False,))
    ]
    return PackPlan(found, out, config, tuple(entries))


def _resampled(pixels: UInt8[Tensor, "c s s"], size: int) -> UInt8[Tensor, "c t t"]:
    """Lanczos, channel by channel: Pillow would multiply colours by alpha."""
    channels = [
        Image.fromarray(channel.numpy()).resize((size, size), Image.Resampling.LANCZOS)
        for channel in pixels.contiguous()
    ]
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in channels]))


def _table(names: list[str], rows: Float[Tensor, "n k"]) -> list[list[Any]]:
    return [
        [name, [float(f"{value:.{_DIGITS}g}") for value in row]]
        for name, row in zip(names, rows.tolist(), strict=True)
    ]

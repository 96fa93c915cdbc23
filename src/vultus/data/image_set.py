"""Sets of square head images for generators: pictures, camera labels, masks, semantic maps.

A set is a folder or zip archive with images anywhere inside and ``dataset.json``::

    {"labels": [["00000/img00000000.png", [25 numbers]], ...]}

The order of labels is free, and numbers may be strings. Masks lie in a second folder or archive
under the same names (the suffix may differ); a folder that has both as ``img`` and ``seg``, or as
``img.zip`` and ``seg.zip``, is a set too. Such a folder may hold semantic maps in the classes of
``PARSING_CLASSES`` as ``parts``, which are looked at where they are asked for. Pictures with an
alpha channel are their own masks, for those who take them; see ``AlphaUse``. For the 25 numbers see
``data/camera_labels.py``, for lights ``data/light_labels.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.core.image_io import decode_image
from vultus.data.camera_labels import LABEL_DIM, check_label
from vultus.data.image_archive import ImageArchive, open_archive
from vultus.data.label_files import label_table, parse_label, read_label_file
from vultus.data.semantics import decode_parsing

__all__ = [
    "IMAGE_FOLDER",
    "LABEL_FILE",
    "MASK_FOLDER",
    "PART_FOLDER",
    "AlphaUse",
    "ImageSet",
    "image_set_parts",
    "matching_names",
    "open_image_set",
    "semantic_maps_of",
]

LABEL_FILE = "dataset.json"
IMAGE_FOLDER, MASK_FOLDER, PART_FOLDER = "img", "seg", "parts"

AlphaUse = Literal["refused", "mask", "ignored"]
"""What becomes of the alpha channel of pictures: they are refused, it is their mask, or they are
seen with what is behind the person."""

_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ImageSet:
    """Images that are decoded when asked for."""

    images: ImageArchive
    masks: ImageArchive | None
    names: tuple[str, ...]
    """Of the images, sorted."""
    mask_names: tuple[str, ...]
    """In the order of ``names``; empty without masks."""
    labels: Float[Tensor, "n 25"]
    size: int
    """Side of all images."""
    has_alpha: bool = False
    """Whether the images have an alpha channel, which then is the mask."""
    ignores_alpha: bool = False
    """Whether images may have an alpha channel that is left out."""
    parts: ImageArchive | None = None
    """Semantic maps, where they were asked for."""
    part_names: tuple[str, ...] = ()
    """In the order of ``names``."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    @property
    def path(self) -> Path:
        """Where the images are."""
        return self.images.path

    @property
    def num_channels(self) -> int:
        """Of ``pixels``."""
        return 3 + self.has_masks + (self.parts is not None)

    @property
    def has_masks(self) -> bool:
        """Whether it is known what of the images is the person."""
        return self.has_alpha or self.masks is not None

    def pixels(self, index: int) -> UInt8[Tensor, "c s s"]:
        """Decode an image, with its mask and then the classes of its parts, where it has them.

        Colours are not multiplied by the mask.

        Raises:
            ValueError: If the image, its mask or its map is damaged, or has another size or number
                of channels; names the file.
        """
        channels = 4 if self.has_alpha else 3
        image = _decode(
            self.images, self.names[index], self.size, channels, ignores_alpha=self.ignores_alpha
        )
        layers = [image]
        if self.masks is not None:
            layers.append(_decode(self.masks, self.mask_names[index], self.size, 1))
        if self.parts is not None:
            layers.append(_decode_parts(self.parts, self.part_names[index], self.size))
        return torch.cat(layers)

    def fingerprint(self) -> str:
        """What tells sets apart in a run's card: a hash of names and labels."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()[:16]


def open_image_set(
    path: Path,
    masks: Path | None = None,
    *,
    needs_masks: bool = False,
    alpha: AlphaUse = "refused",
    needs_parts: bool = False,
) -> ImageSet:
    """Open a set, check all labels and names, and decode the first image.

    Args:
        path: Folder or archive of the images, or folder of both (see the module).
        masks: Folder or archive of the masks.
        needs_masks: Refuse a set without masks.
        alpha: What becomes of the alpha channel of images, if they have one. Where it is the mask,
            masks beside them are not looked at.
        needs_parts: Open semantic maps, and refuse a set without them or without masks, which
            come before them in ``pixels``.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: Naming file and rule, if an image has no label, mask or map, a label no image, a
            label is no camera, the images are not square or have no side that is a power of two,
            masks are given for images with an alpha channel, or an archive is damaged.
    """
    given_masks = masks
    parts = _needed_parts(path) if needs_parts else None
    path, masks = image_set_parts(path, masks)
    images = open_archive(path)
    present = images.names()
    names = [name for name in present if _is_image(name)]
    if not names:
        raise ValueError(f"{path}: holds no PNG or JPEG image")
    labels = _read_labels(images, names, has_file=LABEL_FILE in present)
    first = decode_image(images.read(names[0]), f"{path}: {names[0]}")
    size, has_alpha = first.shape[-1], alpha == "mask" and len(first) == 4
    if has_alpha and given_masks is not None:
        raise ValueError(f"{path}: has images with an alpha channel, which need no --masks")
    masks = None if has_alpha else masks
    if (needs_masks or needs_parts) and masks is None and not has_alpha:
        raise ValueError(f"{path}: has no masks; say where they are with --masks")
    mask_archive = None if masks is None else open_archive(masks)
    mask_names = () if mask_archive is None else matching_names(names, mask_archive)
    part_archive = None if parts is None else open_archive(parts)
    part_names = ()
    if part_archive is not None:
        part_names = matching_names(names, part_archive, "semantic map")
    if first.shape[-2] != size or size.bit_count() != 1:
        raise ValueError(
            f"{path}: {names[0]} must be square with a power of two as side, "
            f"got {size} x {first.shape[-2]}"
        )
    image_set = ImageSet(
        images,
        mask_archive,
        tuple(names),
        mask_names,
        labels,
        size,
        has_alpha,
        ignores_alpha=alpha == "ignored",
        parts=part_archive,
        part_names=part_names,
    )
    image_set.pixels(0)
    return image_set


def image_set_parts(path: Path, masks: Path | None) -> tuple[Path, Path | None]:
    """Find images and masks in a folder that holds both."""
    if not path.is_dir() or (path / LABEL_FILE).exists():
        return path, masks
    for suffix in ("", ".zip"):
        images, beside = (path / f"{name}{suffix}" for name in (IMAGE_FOLDER, MASK_FOLDER))
        if images.exists():
            return images, beside if masks is None and beside.exists() else masks
    return path, masks


def semantic_maps_of(path: Path) -> Path | None:
    """Find the semantic maps in a folder that holds all of a set."""
    if (path / LABEL_FILE).exists():
        return None
    places = (path / f"{PART_FOLDER}{suffix}" for suffix in ("", ".zip"))
    return next((place for place in places if place.exists()), None)


def _needed_parts(path: Path) -> Path:
    parts = semantic_maps_of(path)
    if parts is None:
        raise ValueError(
            f"{path}: has no semantic maps; it must be a folder that holds {IMAGE_FOLDER}, "
            f"{MASK_FOLDER} and {PART_FOLDER}"
        )
    return parts


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _decode(
    archive: ImageArchive, name: str, size: int, channels: int, *, ignores_alpha: bool = False
) -> UInt8[Tensor, "c s s"]:
    where = f"{archive.path}: {name}"
    pixels = decode_image(archive.read(name), where)
    if channels == 1 and pixels.shape[0] == 3 and bool((pixels == pixels[:1]).all()):
        pixels = pixels[:1]
    if ignores_alpha and pixels.shape[0] == channels + 1:
        pixels = pixels[:channels]
    if pixels.shape != (channels, size, size):
        found = f"{pixels.shape[0]} channels of {pixels.shape[2]} x {pixels.shape[1]}"
        raise ValueError(f"{where} must have {channels} channels of {size} x {size}, got {found}")
    return pixels


def _decode_parts(archive: ImageArchive, name: str, size: int) -> UInt8[Tensor, "1 s s"]:
    where = f"{archive.path}: {name}"
    classes = decode_parsing(archive.read(name), where)
    if classes.shape != (size, size):
        raise ValueError(
            f"{where} must have {size} x {size} pixels, got {classes.shape[1]} x {classes.shape[0]}"
        )
    return classes[None]


def _read_labels(
    images: ImageArchive, names: list[str], *, has_file: bool
) -> Float[Tensor, "n 25"]:
    """Labels in the order of names."""
    where = f"{images.path}: {LABEL_FILE}"
    if not has_file:
        raise FileNotFoundError(f"{where} is missing")
    by_name = label_table(read_label_file(images.read(LABEL_FILE), where), "labels", where)
    without = [name for name in names if name not in by_name]
    if without:
        raise ValueError(f"{where} has no label for the image {without[0]}{_more(without)}")
    known = set(names)
    spare = [name for name in by_name if name not in known]
    if spare:
        raise ValueError(f"{where} has a label for {spare[0]}{_more(spare)}, which is no image")
    labels = []
    for name in names:
        label = parse_label(by_name[name], LABEL_DIM, f"{where}: the label of {name}")
        check_label(label, f"{where}: the label of {name}")
        labels.append(label)
    return torch.stack(labels)


def matching_names(
    names: Sequence[str], archive: ImageArchive, what: str = "mask"
) -> tuple[str, ...]:
    """Find what belongs to images: pictures of the same name, whose suffix may differ.

    Args:
        names: Of the images.
        archive: Where the others are.
        what: What these are.

    Raises:
        ValueError: If an image has none; names it.
    """
    by_stem = {_stem(name): name for name in archive.names() if _is_image(name)}
    without = [name for name in names if _stem(name) not in by_stem]
    if without:
        raise ValueError(
            f"{archive.path}: has no {what} for the image {without[0]}{_more(without)}"
        )
    return tuple(by_stem[_stem(name)] for name in names)


def _more(found: list[str]) -> str:
    return f" and {len(found) - 1} others" if len(found) > 1 else ""

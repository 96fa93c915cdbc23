"""Images of any origin with the masks, semantic maps, cameras and lights that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.camera_labels import LABEL_DIM, check_label
from vultus.data.image_archive import ImageArchive, open_archive
from vultus.data.image_set import LABEL_FILE, image_set_parts, semantic_maps_of
from vultus.data.label_files import label_table, parse_label, read_label_file
from vultus.data.light_labels import FRAME_KEY, LIGHT_TERMS, stated_frame

__all__ = ["LabelFile", "LabelledImages", "MatchRule", "find_labelled_images"]

MatchRule = Literal["name", "stem"]
"""Labels and masks belong to images of the same path, or of the same name without folders and
suffix. The suffixes of masks and semantic maps never count."""

_MASK, _PARTS = "mask", "semantic map"
_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class LabelFile:
    """One of the label files; ``dataset.json`` is the first."""

    name: str
    lights: Float[Tensor, "n k"] | None
    facts: Mapping[str, Any]
    """Everything in it but its tables; the axes of lights are always stated."""


@dataclass(frozen=True)
class LabelledImages:
    """Images that belong to a label and, where there are masks or semantic maps, to one of each."""

    images: ImageArchive
    masks: ImageArchive | None
    names: tuple[str, ...]
    mask_names: tuple[str, ...]
    """In the order of ``names``; empty without masks."""
    labels: Float[Tensor, "n 25"]
    files: tuple[LabelFile, ...]
    num_left_out: int
    """Images that lack one of these."""
    parts: ImageArchive | None = None
    """Semantic maps."""
    part_names: tuple[str, ...] = ()
    """In the order of ``names``; empty without semantic maps."""


@dataclass(frozen=True)
class _Table:
    """What one table of a label file says of each image."""

    where: str
    what: str
    by_key: Mapping[str, Any]


def find_labelled_images(
    source: Path,
    *,
    masks: Path | None = None,
    parts: Path | None = None,
    labels: Path | None = None,
    match: MatchRule = "name",
    only_complete: bool = False,
) -> LabelledImages:
    """Find images with all that belongs to them; nothing is decoded.

    Args:
        source: Folder or archive of images, or a folder of all (``img``, ``seg`` and ``parts``).
        masks: Folder or archive of masks; None takes those of such a folder.
        parts: The same of semantic maps.
        labels: Label file in place of the source's ``dataset.json`` and ``dataset_*.json``.
        match: What belongs together.
        only_complete: Leave out what lacks its counterpart, in place of an error.

    Raises:
        FileNotFoundError: If a path or the label file does not exist.
        ValueError: Naming file and rule, if something lacks its counterpart, two things have one
            name, or a label is no camera.
    """
    parts = semantic_maps_of(source) if parts is None else parts
    source, masks = image_set_parts(source, masks)
    images = open_archive(source)
    names = [name for name in images.names() if _is_image(name)]
    if not names:
        raise ValueError(f"{source}: holds no PNG or JPEG image")
    mask_archive = None if masks is None else open_archive(masks)
    part_archive = None if parts is None else open_archive(parts)
    tables: list[_Table] = []
    for archive, what in ((mask_archive, _MASK), (part_archive, _PARTS)):
        if archive is not None:
            tables.append(_picture_table(archive, what, match))
    contents = _label_contents(images, labels)
    for content, where in contents.values():
        for what in _tables_in(content):
            tables.append(_keyed(label_table(content, what, where), where, what, match))
    kept = _complete(names, tables, match, only_complete)
    by_place = {(table.where, table.what): table for table in tables}

    def numbers(where: str, what: str) -> Float[Tensor, "n k"]:
        table = by_place[where, what]
        rows = [_numbers(table, name, table.by_key[_key(name, match)]) for name in kept]
        if len({len(row) for row in rows}) > 1:
            raise ValueError(f"{where}: all {what} must have one length")
        return torch.stack(rows)

    def pictures(archive: ImageArchive | None, what: str) -> tuple[str, ...]:
        if archive is None:
            return ()
        found = by_place[str(archive.path), what].by_key
        return tuple(found[_picture_key(name, match)] for name in kept)

    files = [
        LabelFile(
            name,
            numbers(where, "sh") if "sh" in content else None,
            _facts(content, where),
        )
        for name, (content, where) in contents.items()
    ]
    return LabelledImages(
        images,
        mask_archive,
        tuple(kept),
        pictures(mask_archive, _MASK),
        numbers(contents[LABEL_FILE][1], "labels"),
        tuple(files),
        len(names) - len(kept),
        part_archive,
        pictures(part_archive, _PARTS),
    )


def _label_contents(
    images: ImageArchive, labels: Path | None
) -> dict[str, tuple[Mapping[str, Any], str]]:
    """Contents of label files, and where they are, by the names that they get."""
    if labels is not None:
        if not labels.is_file():
            raise FileNotFoundError(f"{labels} does not exist")
        return {LABEL_FILE: (read_label_file(labels.read_bytes(), str(labels)), str(labels))}
    stem = PurePosixPath(LABEL_FILE).stem
    files = sorted(n for n in images.names() if n.startswith(stem) and n.endswith(".json"))
    if LABEL_FILE not in files:
        raise FileNotFoundError(f"{images.path}: {LABEL_FILE} is missing; or name a label file")
    places = {name: f"{images.path}: {name}" for name in files}
    return {n: (read_label_file(images.read(n), where), where) for n, where in places.items()}


def _facts(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    facts = {key: value for key, value in content.items() if key not in ("labels", "sh")}
    return facts | ({FRAME_KEY: stated_frame(content, where)} if "sh" in content else {})


def _tables_in(content: Mapping[str, Any]) -> tuple[str, ...]:
    return ("labels", "sh") if "sh" in content else ("labels",)


def _keyed(table: Mapping[str, Any], where: str, what: str, match: MatchRule) -> _Table:
    by_key: dict[str, Any] = {}
    for name, value in table.items():
        key = _key(name, match)
        if key in by_key:
            raise ValueError(f"{where} has two {what} for {key}")
        by_key[key] = value
    return _Table(where, what, by_key)


def _picture_table(archive: ImageArchive, what: str, match: MatchRule) -> _Table:
    by_key: dict[str, str] = {}
    for name in filter(_is_image, archive.names()):
        key = _picture_key(name, match)
        if key in by_key:
            raise ValueError(f"{archive.path}: {by_key[key]} and {name} are {what}s of one image")
        by_key[key] = name
    return _Table(str(archive.path), what, by_key)


def _complete(
    names: list[str], tables: Iterable[_Table], match: MatchRule, only_complete: bool
) -> list[str]:
    """Images with everything; others are an error unless they may be left out."""
    complete = names
    faults: list[str] = []
    for table in tables:
        is_of_pictures = table.what in (_MASK, _PARTS)
        key = _picture_key if is_of_pictures else _key
        complete = [name for name in complete if key(name, match) in table.by_key]
        faults += [
            f"{table.where} has no {table.what} for {name}"
            for name in names
            if key(name, match) not in table.by_key
        ]
        known = {key(name, match) for name in names}
        if not is_of_pictures:
            faults += [
                f"{table.where} has {table.what} for {name}, which is no image"
                for name in table.by_key
                if name not in known
            ]
    if faults and not only_complete:
        others = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise ValueError(f"{faults[0]}{others}")
    if not complete:
        raise ValueError(f"no image has all that belongs to it: {faults[0]}")
    return complete


def _numbers(table: _Table, name: str, value: Any) -> Float[Tensor, " k"]:
    where = f"{table.where}: the {table.what} of {name}"
    if table.what == "labels":
        label = parse_label(value, LABEL_DIM, where)
        check_label(label, where)
        return label
    is_colored = isinstance(value, list) and bool(value) and isinstance(value[0], list)
    is_colored |= isinstance(value, list) and len(value) > LIGHT_TERMS
    light = parse_label(value, (3 if is_colored else 1) * LIGHT_TERMS, where)
    if not bool(light.isfinite().all()):
        raise ValueError(f"{where} must be finite")
    return light


def _key(name: str, match: MatchRule) -> str:
    return PurePosixPath(name).stem if match == "stem" else name


def _picture_key(name: str, match: MatchRule) -> str:
    path = PurePosixPath(name)
    return path.stem if match == "stem" else path.with_suffix("").as_posix()


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _SUFFIXES

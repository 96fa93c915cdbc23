"""Label maps that are published apart from their videos: from one archive into the captures.

The archive (zip or folder) has a folder for each subject. A capture is a folder of that name with
``checkpoint/`` and ``images/`` or ``images.HQ/``; maps go to ``semantic/`` or ``semantic.HQ/``
beside them, under the names that they have.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vultus.core.files import atomic_directory, write_bytes
from vultus.core.image_io import image_size
from vultus.core.progress import track
from vultus.data.image_archive import ImageArchive, open_archive
from vultus.data.readers.metrical_tracker import CHECKPOINT_FOLDER, LABEL_FOLDERS, ImageFolder
from vultus.data.readers.numbered_files import numbered_files
from vultus.data.semantics import decode_parsing

__all__ = ["CapturePatch", "LabelPatch", "plan_label_patch"]

_PATCHED: tuple[ImageFolder, ...] = ("images.HQ", "images")
"""Pictures that maps are for: the larger ones if a capture has them, as published."""
_SUFFIX = ".png"
_MAX_BYTES = 2**26
"""Of one map; a picture of a video takes far less, whatever an archive says."""


@dataclass(frozen=True)
class CapturePatch:
    """Maps for one capture."""

    subject: str
    images: Path
    """Folder of the pictures that the maps belong to."""
    target: Path
    entries: Mapping[int, str]
    """Name in the archive by number of the picture."""
    is_present: bool
    """The target is there and stays as it is."""


@dataclass(frozen=True)
class LabelPatch:
    """Captures that were found and the maps for them; nothing is written yet."""

    archive: ImageArchive
    captures: tuple[CapturePatch, ...]

    @property
    def pending(self) -> tuple[CapturePatch, ...]:
        """Captures that get maps."""
        return tuple(capture for capture in self.captures if not capture.is_present)

    def check(self) -> None:
        """Read all maps that would be written, without writing any.

        Raises:
            ValueError: If a map is damaged, holds a label beyond the classes, has another aspect
                ratio than its picture, or belongs to no picture; or a picture has no map.
        """
        for capture in self.pending:
            pictures = numbered_files(capture.images)
            _check_numbers(capture, pictures, self.archive.path)
            label = f"checking {capture.subject!r}"
            for number, entry in track(list(capture.entries.items()), label=label, unit="maps"):
                self._check_map(entry, pictures[number])

    def write(self) -> int:
        """Check and write the maps; the folder of a capture appears when it is complete.

        Returns:
            How many maps were written.

        Raises:
            ValueError: As ``check``; then nothing was written.
        """
        self.check()
        for capture in self.pending:
            replaces = capture.target.is_dir()
            with atomic_directory(capture.target, replace=replaces) as folder:
                for entry in capture.entries.values():
                    write_bytes(folder / PurePosixPath(entry).name, self.archive.read(entry))
        return sum(len(capture.entries) for capture in self.pending)

    def _check_map(self, entry: str, picture: Path) -> None:
        name = f"{self.archive.path}: {entry}"
        size = self.archive.size(entry)
        if size > _MAX_BYTES:
            raise ValueError(f"{name}: must be a label map of at most 64 MiB, got {size} bytes")
        labels = decode_parsing(self.archive.read(entry), name)
        width, height = image_size(picture)
        if labels.shape[0] * width != labels.shape[1] * height:
            raise ValueError(
                f"{name}: must have the aspect ratio of {picture}, {width} x {height}, "
                f"got {labels.shape[1]} x {labels.shape[0]}"
            )


def plan_label_patch(
    archive: Path, root: Path, subjects: Collection[str] = (), *, force: bool = False
) -> LabelPatch:
    """Find the captures below a folder that an archive has maps for.

    Args:
        archive: Zip archive or folder.
        root: Folder with captures at any depth.
        subjects: Only these; by default all of the archive.
        force: Replace maps that are there already.

    Raises:
        FileNotFoundError: If archive or folder is missing, or no capture is found.
        ValueError: If the archive is damaged or lacks a subject, or two of its maps have one
            number.
    """
    opened = open_archive(archive)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    maps = _maps_by_subject(opened)
    missing = next((subject for subject in subjects if subject not in maps), None)
    if missing is not None:
        known = ", ".join(map(repr, maps))
        raise ValueError(f"{archive}: has no maps of {missing!r}; it has {known}")
    wanted = {name: entries for name, entries in maps.items() if not subjects or name in subjects}
    captures = [
        CapturePatch(
            subject,
            folder / images,
            folder / LABEL_FOLDERS[images],
            wanted[subject],
            is_present=(folder / LABEL_FOLDERS[images]).exists() and not force,
        )
        for folder, subject, images in _find_captures(root, wanted)
    ]
    if not captures:
        raise FileNotFoundError(
            f"{root}: has no capture of {', '.join(map(repr, wanted)) or 'any subject'}: a folder "
            f"of that name with {CHECKPOINT_FOLDER}/ and images/ or images.HQ/"
        )
    return LabelPatch(opened, tuple(captures))


def _maps_by_subject(archive: ImageArchive) -> dict[str, dict[int, str]]:
    """Maps of each top folder by their number; other files are passed over."""
    maps: dict[str, dict[int, str]] = {}
    for entry in archive.names():
        path = PurePosixPath(entry)
        is_map = path.suffix.lower() == _SUFFIX and path.stem.isdecimal()
        if len(path.parts) < 2 or not is_map:
            continue
        numbered = maps.setdefault(path.parts[0], {})
        other = numbered.setdefault(int(path.stem), entry)
        if other != entry:
            raise ValueError(f"{archive.path}: {other} and {entry} have one number")
    return maps


def _find_captures(root: Path, subjects: Collection[str]) -> list[tuple[Path, str, ImageFolder]]:
    """Captures with their subject and the folder of their pictures; links are followed.

    A linked capture is of the subject that the link is named after, or else its target.
    """
    found: list[tuple[Path, str, ImageFolder]] = []
    visited: set[Path] = set()
    for name, folders, _ in os.walk(root, followlinks=True):
        folder = Path(name).resolve()
        if folder in visited:
            folders.clear()
            continue
        visited.add(folder)
        folders.sort()
        names = (Path(name).absolute().name, folder.name)
        subject = next((name for name in names if name in subjects), None)
        there: list[ImageFolder] = [images for images in _PATCHED if (folder / images).is_dir()]
        if subject is not None and there and CHECKPOINT_FOLDER in folders:
            found.append((folder, subject, there[0]))
    return sorted(found)


def _check_numbers(capture: CapturePatch, pictures: Mapping[int, Path], archive: Path) -> None:
    for number, entry in capture.entries.items():
        if number not in pictures:
            raise ValueError(f"{archive}: {entry} belongs to no picture of {capture.images}")
    for number, path in pictures.items():
        if number not in capture.entries:
            raise ValueError(f"{archive}: has no map of {path}")

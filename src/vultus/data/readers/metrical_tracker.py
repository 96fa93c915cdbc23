"""Monocular videos tracked by metrical-tracker, as INSTA and GaussianBlendshapes keep them.

    checkpoint/00000.frame ...       FLAME parameters and camera of each frame
    images/00000.png ...             RGBA; also images.HQ/ (larger) and the tracker's own input/
    semantic/00000.png ...           optional label maps, or semantic.HQ/; those of other pictures
                                     serve as well
    image_mask/mask_00000.png ...    optional mattes, where images have no alpha
    transforms_test.json             optional, of INSTA: as many frames as it has are held out
    offset.txt                       optional: where GaussianBlendshapes puts the teeth, metres

Intrinsics belong to the image that was tracked; larger images have them scaled.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from vultus.core.image_io import image_size
from vultus.core.progress import track
from vultus.core.threads import map_in_threads
from vultus.data.readers.manifest import read_manifest, resize
from vultus.data.readers.numbered_files import numbered_files
from vultus.data.readers.options import ReaderOptions
from vultus.data.readers.splits import hold_out_end
from vultus.data.rig_files import assemble_track
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.data.tracker_frames import FRAME_SUFFIX, TrackerFrame, read_tracker_frame
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.registry import load_head

__all__ = ["CHECKPOINT_FOLDER", "LABEL_FOLDERS", "ImageFolder", "Options", "read"]

_LOG = logging.getLogger(__name__)

CHECKPOINT_FOLDER = "checkpoint"
_MATTE_FOLDER, _MATTE_PREFIX = "image_mask", "mask_"
_TEST_MANIFEST = "transforms_test.json"
_HELD_OUT, _HELD_OUT_WITH_MATTES = 350, 500
"""Frames at the end that published splits hold out: of INSTA's videos, and of NeRFBlendShape's,
which come with mattes of their own."""

ImageFolder = Literal["images", "images.HQ", "input"]
LABEL_FOLDERS: Mapping[ImageFolder, str] = {
    "images": "semantic",
    "images.HQ": "semantic.HQ",
    "input": "semantic",
}
"""Folders of pictures, and where label maps of their size are."""


@dataclass(frozen=True)
class _Companions:
    """Files that lie beside the pictures: of all frames or of none."""

    folder: Path
    files: Mapping[int, Path] | None

    @staticmethod
    def find(folder: Path, prefix: str = "") -> _Companions:
        return _Companions(folder, numbered_files(folder, prefix) if folder.is_dir() else None)

    def file(self, number: int, frame: Path) -> Path | None:
        return None if self.files is None else _numbered(self.folder, self.files, number, frame)


@dataclass(frozen=True)
class Options(ReaderOptions):
    """Options of ``metrical_tracker``."""

    background: Literal["white", "black"] = "black"
    image_folder: ImageFolder | None = None
    """Which pictures; by default the first of these that the capture has."""
    held_out: int | None = None
    """Frames at the end that are ``test``; by default those of transforms_test.json, else 500 with
    image_mask/ and 350 without."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        super().__post_init__()
        if self.held_out is not None and self.held_out < 0:
            raise ValueError(f"held_out must not be negative, got {self.held_out}")


def read(root: Path, options: Options) -> HeadSequence:
    """Read a tracked video; frames are numbered by their files.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is wrong or nothing is left for training.
    """
    frames = _read_frames(root / CHECKPOINT_FOLDER)
    records = _records(root, frames, options)
    first = next(iter(frames.values()))[1]
    head = options.head or _open_head(first, options)
    rows = {i: (path, frame.pose) for i, (path, frame) in enumerate(frames.values())}
    held_out = _default_held_out(root) if options.held_out is None else options.held_out
    return HeadSequence(
        root,
        records,
        hold_out_end(root, len(records), held_out),
        head,
        assemble_track(rows, head, HeadPose(identity_coeffs=first.identity)),
        background=options.background_color,
        light_space="camera_opengl",
        cut_height=options.cut_height,
        expression_names=tuple(head.expression_names),
        info={"format": "metrical_tracker", **_mouth_offset(root)},
    )


def _read_frames(folder: Path) -> dict[int, tuple[Path, TrackerFrame]]:
    """All files by their number, in order."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; it holds the tracker's .frame files")
    paths = sorted(path for path in folder.iterdir() if path.suffix == FRAME_SUFFIX)
    if not paths:
        raise FileNotFoundError(f"{folder}: has no {FRAME_SUFFIX} files")
    numbers: dict[int, Path] = {}
    for path in paths:
        if not path.stem.isdecimal():
            raise ValueError(f"{path}: must be named by the number of its frame")
        if numbers.setdefault(int(path.stem), path) != path:
            raise ValueError(f"{path}: has the number of {numbers[int(path.stem)].name}")
    ordered = dict(sorted(numbers.items()))
    frames = track(
        map_in_threads(read_tracker_frame, list(ordered.values())),
        len(ordered), "reading tracked frames", "frames",
    )  # fmt: skip
    return {n: (p, frame) for (n, p), frame in zip(ordered.items(), frames, strict=True)}


def _records(
    root: Path, frames: Mapping[int, tuple[Path, TrackerFrame]], options: Options
) -> tuple[FrameRecord, ...]:
    folder = _image_folder(root, options)
    images = numbered_files(root / folder)
    labels = _Companions.find(_label_folder(root, folder))
    mattes = _Companions.find(root / _MATTE_FOLDER, _MATTE_PREFIX)
    records = []
    for timestep, (number, (path, frame)) in enumerate(frames.items()):
        image = _numbered(root / folder, images, number, path)
        camera, file_size = resize(_camera_of(frame.camera, image, path), options)
        records.append(
            FrameRecord(
                timestep=timestep,
                camera_index=0,
                camera=camera,
                image_path=image,
                mask_path=mattes.file(number, path),
                parsing_path=labels.file(number, path),
                file_size=file_size,
            )
        )
    return tuple(records)


def _image_folder(root: Path, options: Options) -> ImageFolder:
    if options.image_folder is not None:
        return options.image_folder
    for folder in LABEL_FOLDERS:
        if (root / folder).is_dir():
            return folder
    raise FileNotFoundError(f"{root}: has none of the folders {', '.join(LABEL_FOLDERS)}")


def _label_folder(root: Path, images: ImageFolder) -> Path:
    """Where the label maps are: those of pictures of another size serve as well."""
    own = root / LABEL_FOLDERS[images]
    others = (root / name for name in LABEL_FOLDERS.values())
    found = next((folder for folder in (own, *others) if folder.is_dir()), own)
    if found != own:
        _LOG.info("%s: label maps of %s are read from %s", root, images, found.name)
    return found


def _numbered(folder: Path, files: Mapping[int, Path], number: int, frame: Path) -> Path:
    if number not in files:
        raise FileNotFoundError(f"{folder}: has no picture of the number {number}, as {frame} has")
    return files[number]


def _camera_of(tracked: Camera, image: Path, frame: Path) -> Camera:
    width, height = image_size(image)
    if width * tracked.height != height * tracked.width:
        raise ValueError(
            f"{image}: must have the aspect ratio of the image that {frame} was tracked on, "
            f"{tracked.width} x {tracked.height}, got {width} x {height}"
        )
    return tracked.resized(width, height)


def _open_head(frame: TrackerFrame, options: Options) -> HeadModel:
    coeffs = frame.pose.expression_coeffs
    assert coeffs is not None
    sizes = {"num_identity": frame.identity.shape[1], "num_expression": coeffs.shape[1]}
    return load_head("flame", options.head_file, sizes, version="2020")


def _default_held_out(root: Path) -> int:
    if (root / _TEST_MANIFEST).is_file():
        return len(read_manifest(root / _TEST_MANIFEST).frames)
    return _HELD_OUT_WITH_MATTES if (root / _MATTE_FOLDER).is_dir() else _HELD_OUT


def _mouth_offset(root: Path) -> dict[str, list[float]]:
    path = root / "offset.txt"
    if not path.is_file():
        return {}
    try:
        offset = torch.tensor([float(word) for word in path.read_text().replace(",", " ").split()])
    except ValueError as error:
        raise ValueError(f"{path}: must hold three numbers ({error})") from error
    if offset.shape != (3,) or not bool(torch.isfinite(offset).all()):
        raise ValueError(f"{path}: must hold three finite numbers, got {offset.tolist()}")
    return {"mouth_offset": offset.tolist()}

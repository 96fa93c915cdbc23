"""The folder layout of VHAP and GaussianAvatars, whatever the rig: manifests, splits, frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.data.readers.manifest import (
    SEMANTIC_FOLDER,
    Manifest,
    file_beside,
    read_manifest,
    resize,
)
from vultus.data.readers.options import ReaderOptions
from vultus.data.rig_files import assemble_track
from vultus.data.sequence import FrameRecord, Split
from vultus.heads.base import HeadModel, HeadPose

__all__ = ["LayoutFrames", "VhapOptions", "held_out_camera", "read_layout", "read_track"]

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_HELD_OUT_CAMERA = 8
"""Camera that VHAP holds out; the last one where there is no camera 8."""
_FACE_MASK_FOLDERS = ("face_masks", "binary_facer")
"""Folders beside ``images/`` with the face pixels; the second is SurFhead's name, whose files were
never distributed."""


@dataclass(frozen=True)
class VhapOptions(ReaderOptions):
    """Options of captures in the layout of VHAP."""

    camera: int | None = None
    """Keep the frames of this ``camera_index`` only."""
    official_intrinsics: bool = False
    """Take square pixels and a centred principal point as the published readers do, instead of
    ``fl_x``, ``fl_y``, ``cx`` and ``cy``."""
    train_share: float = 0.75
    """Share of the timesteps before the held-out ones, for folders with one ``transforms.json``
    and no split files."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        super().__post_init__()
        if not 0 < self.train_share <= 1:
            raise ValueError(f"train_share must be in (0, 1], got {self.train_share}")


@dataclass(frozen=True)
class LayoutFrames:
    """Frames of a folder with their splits and the rig file of each timestep."""

    records: tuple[FrameRecord, ...]
    splits: Mapping[Split, torch.Tensor]
    rig_files: Mapping[int, Path]
    manifest: Manifest
    """The first one, for facts at its top level."""


def read_layout(root: Path, options: VhapOptions, rig_key: str) -> LayoutFrames:
    """Read the manifests of a folder.

    Args:
        root: Folder with ``transforms_train.json`` (``val`` and ``test`` may be absent or empty),
            or with ``transforms.json`` alone, which is then split as VHAP does for one sequence.
        options: See there.
        rig_key: Field of a frame that names its rig parameters.

    Raises:
        FileNotFoundError: If a manifest or a file that it names is missing.
        ValueError: If a field is wrong or the training split is empty.
    """
    manifests = _manifests(root)
    records: list[FrameRecord] = []
    split_of: list[Split | None] = []
    rig_files: dict[int, Path] = {}
    for split, manifest in manifests:
        for index in range(len(manifest.frames)):
            record = _record(manifest, index, options)
            if options.camera is not None and record.camera_index != options.camera:
                continue
            rig_file = manifest.required_file(index, rig_key)
            known = rig_files.setdefault(record.timestep, rig_file)
            if known != rig_file:
                raise ValueError(
                    f"{manifest.where(index, rig_key)} is {rig_file}, but timestep "
                    f"{record.timestep} has {known} in another frame"
                )
            records.append(record)
            split_of.append(split)
    if None in split_of:
        split_of = list(_split_single(records, options.train_share))
    splits: dict[Split, torch.Tensor] = {
        name: torch.tensor([i for i, s in enumerate(split_of) if s == name], dtype=torch.int64)
        for name in _SPLITS
    }
    if len(splits["train"]) == 0:
        chosen = "" if options.camera is None else f" for camera {options.camera}"
        raise ValueError(f"{manifests[0][1].path}: split 'train' is empty{chosen}")
    return LayoutFrames(tuple(records), splits, rig_files, manifests[0][1])


def held_out_camera(camera_indices: Iterable[int]) -> int | None:
    """The camera that VHAP takes for the split ``val``; none where there is but one."""
    cameras = sorted(set(camera_indices))
    if len(cameras) < 2:
        return None
    return _HELD_OUT_CAMERA if _HELD_OUT_CAMERA in cameras else cameras[-1]


def read_track(
    frames: LayoutFrames,
    head: HeadModel,
    read_row: Callable[[Path], HeadPose],
    static: HeadPose | None = None,
) -> HeadPose:
    """Read the rig parameters of all timesteps; see ``assemble_track``."""
    rows = {t: (path, read_row(path)) for t, path in sorted(frames.rig_files.items())}
    return assemble_track(rows, head, static)


def _manifests(root: Path) -> list[tuple[Split | None, Manifest]]:
    train = root / "transforms_train.json"
    if not train.is_file():
        return [(None, read_manifest(root / "transforms.json"))]
    manifests: list[tuple[Split | None, Manifest]] = []
    for split in _SPLITS:
        path = root / f"transforms_{split}.json"
        if path.is_file():
            manifests.append((split, read_manifest(path)))
    return manifests


def _record(manifest: Manifest, index: int, options: VhapOptions) -> FrameRecord:
    image = manifest.required_file(index, "file_path")
    camera = manifest.camera(index, image, is_centered=options.official_intrinsics)
    camera, file_size = resize(camera, options)
    return FrameRecord(
        timestep=manifest.count(index, "timestep_index"),
        camera_index=manifest.count(index, "camera_index", default=0),
        camera=camera,
        image_path=image,
        mask_path=manifest.file(index, "fg_mask_path"),
        normal_path=manifest.file(index, "normal_path"),
        depth_path=manifest.file(index, "depth_path"),
        albedo_path=manifest.file(index, "albedo_path"),
        roughness_path=manifest.file(index, "roughness_path"),
        specular_path=manifest.file(index, "specular_path"),
        parsing_path=manifest.file(index, "parsing_path") or file_beside(image, SEMANTIC_FOLDER),
        face_mask_path=_face_mask(manifest, index, image),
        file_size=file_size,
    )


def _face_mask(manifest: Manifest, index: int, image: Path) -> Path | None:
    """Named by the manifest, or in a folder beside ``images/``."""
    named = manifest.file(index, "face_mask_path")
    found = (file_beside(image, folder) for folder in _FACE_MASK_FOLDERS)
    return named or next((path for path in found if path is not None), None)


def _split_single(records: list[FrameRecord], train_share: float) -> list[Split]:
    """VHAP's rule for one sequence: the last timesteps test, one camera of the others val."""
    timesteps = sorted({record.timestep for record in records})
    num_train = math.ceil(len(timesteps) * train_share)
    test_times = set(timesteps[num_train:])
    held_out = held_out_camera(record.camera_index for record in records)

    def split(record: FrameRecord) -> Split:
        if record.timestep in test_times:
            return "test"
        return "val" if record.camera_index == held_out else "train"

    return [split(record) for record in records]

"""Unions: several sequences of one subject as one capture, in the way of VHAP and NeRSemble.

A union folder holds manifests alone, whose paths lead into the sequence folders beside it. Moments
are numbered through; whole sequences are held out for the split ``test``.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vultus.core.files import atomic_path, write_json, write_text
from vultus.data.readers.manifest import Manifest, read_manifest
from vultus.data.readers.vhap_layout import held_out_camera
from vultus.data.sequence import Split
from vultus.data.union_lights import UnionLights, join_lights

__all__ = ["UnionPlan", "plan_union"]

_MANIFEST = "transforms.json"
_RIG_CARD = "rig.json"
_SUBJECT_FILES = (_RIG_CARD, "canonical_flame_param.npz")
"""What belongs to the subject and lies in every sequence folder that has it."""
_CAMERA_KEYS = ("cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y")
"""May stand at the top of a sequence's manifest; in a union every frame has its own."""
_DROPPED_KEYS = ("timestep_id",)
"""Ambiguous once moments of several sequences have one number line."""


@dataclass(frozen=True)
class UnionPlan:
    """A union that was checked but not written."""

    root: Path
    frames: Mapping[Split, list[dict[str, Any]]]
    """Entries of the manifests."""
    sequences: Mapping[Literal["trainval", "test"], tuple[str, ...]]
    subject_files: tuple[Path, ...]
    background: object
    """As in the manifests of the sequences; ``None`` where they have none."""
    lights: UnionLights

    @property
    def counts(self) -> dict[Split, int]:
        """Number of frames of each split."""
        return {split: len(entries) for split, entries in self.frames.items()}

    def write(self) -> None:
        """Write the manifests, the lists of sequences, the lights and the files of the subject.

        Files of an earlier union that these sequences do not have are removed first.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        for name in set(_SUBJECT_FILES) - {source.name for source in self.subject_files}:
            (self.root / name).unlink(missing_ok=True)
        for source in self.subject_files:
            with atomic_path(self.root / source.name) as temporary:
                shutil.copyfile(source, temporary)
        self.lights.write(self.root)
        for group, names in self.sequences.items():
            text = "".join(f"{name}\n" for name in names)
            write_text(self.root / f"sequences_{group}.txt", text)
        for split, entries in self.frames.items():
            write_json(self.root / f"transforms_{split}.json", self._manifest(entries))

    def _manifest(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        shared = {} if self.background is None else {"background": self.background}
        return {
            **shared,
            "timestep_indices": sorted({entry["timestep_index"] for entry in entries}),
            "camera_indices": sorted({entry.get("camera_index", 0) for entry in entries}),
            "frames": entries,
        }


def plan_union(
    root: Path,
    sequences: Sequence[Path],
    *,
    test_sequences: Collection[str] = (),
    val_cameras: Collection[int] | None = None,
) -> UnionPlan:
    """Join sequence folders, each with a ``transforms.json`` of all its frames.

    Args:
        root: Folder to write.
        sequences: The folders, in the order of their moments.
        test_sequences: Names of the folders that are held out with all their cameras.
        val_cameras: Cameras held out in the other sequences; by default VHAP's choice, camera 8 or
            the last one, and none where there is one camera alone.

    Raises:
        FileNotFoundError: If a sequence has no manifest.
        ValueError: If names repeat or are unknown, sequences show different subjects or
            backgrounds, their light cards do not fit each other, or nothing is left for training.
    """
    names = [folder.resolve().name for folder in sequences]
    _check_names(names, test_sequences)
    manifests = [read_manifest(folder / _MANIFEST) for folder in sequences]
    _check_backgrounds(manifests)
    if val_cameras is None:
        val_cameras = _default_val_cameras(manifests)
    named = dict(zip(names, manifests, strict=True))
    frames = _split_frames(root, named, test_sequences, val_cameras)
    if not frames["train"]:
        raise ValueError(f"{root}: split 'train' is empty; hold out fewer sequences or cameras")
    return UnionPlan(
        root,
        frames,
        {
            "trainval": tuple(name for name in names if name not in test_sequences),
            "test": tuple(name for name in names if name in test_sequences),
        },
        _subject_files(sequences),
        manifests[0].shared.get("background"),
        join_lights(sequences),
    )


def _check_names(names: Sequence[str], test_sequences: Collection[str]) -> None:
    if not names:
        raise ValueError("sequences must name at least one folder")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"sequences must have different names, {repeated!r} comes twice")
    unknown = next((name for name in test_sequences if name not in names), None)
    if unknown is not None:
        raise ValueError(f"test_sequences must be of {', '.join(names)}, got {unknown!r}")


def _check_backgrounds(manifests: Sequence[Manifest]) -> None:
    first, *others = manifests
    for other in others:
        if other.shared.get("background") != first.shared.get("background"):
            raise ValueError(f"{other.path}: background must be that of {first.path}")


def _default_val_cameras(manifests: Sequence[Manifest]) -> tuple[int, ...]:
    held_out = held_out_camera(
        manifest.count(index, "camera_index", 0)
        for manifest in manifests
        for index in range(len(manifest.frames))
    )
    return () if held_out is None else (held_out,)


def _split_frames(
    root: Path,
    manifests: Mapping[str, Manifest],
    test_sequences: Collection[str],
    val_cameras: Collection[int],
) -> dict[Split, list[dict[str, Any]]]:
    frames: dict[Split, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    first_moment = 0
    for name, manifest in manifests.items():
        moments = 0
        for index in range(len(manifest.frames)):
            timestep = manifest.count(index, "timestep_index")
            moments = max(moments, timestep + 1)
            camera = manifest.count(index, "camera_index", 0)
            is_val = camera in val_cameras
            split: Split = "test" if name in test_sequences else "val" if is_val else "train"
            frames[split].append(_entry(root, manifest, index, first_moment + timestep))
        first_moment += moments
    return frames


def _entry(root: Path, manifest: Manifest, index: int, timestep: int) -> dict[str, Any]:
    """A frame with its own camera and with paths from the union."""
    frame = manifest.frames[index]
    values = {key: manifest.value(index, key) for key in _CAMERA_KEYS}
    camera = {key: value for key, value in values.items() if value is not None}
    own = {k: v for k, v in frame.items() if k not in (*_CAMERA_KEYS, *_DROPPED_KEYS)}
    below = os.path.relpath(manifest.path.parent.resolve(), root.resolve())
    paths = {
        key: Path(below, value).as_posix()
        for key, value in own.items()
        if key == "file_path" or (key.endswith("_path") and isinstance(value, str))
    }
    original = frame.get("timestep_index_original", frame["timestep_index"])
    return {
        **own,
        **paths,
        **camera,
        "timestep_index": timestep,
        "timestep_index_original": original,
    }


def _subject_files(sequences: Sequence[Path]) -> tuple[Path, ...]:
    """The files of the subject; the card of the rig must be the same in all sequences."""
    found = []
    for name in _SUBJECT_FILES:
        copies = [folder / name for folder in sequences if (folder / name).is_file()]
        for other in copies[1:]:
            if name == _RIG_CARD and not filecmp.cmp(copies[0], other, shallow=False):
                raise ValueError(f"{other}: must equal {copies[0]}: sequences show one subject")
        found += copies[:1]
    return tuple(found)

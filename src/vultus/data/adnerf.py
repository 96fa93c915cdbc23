"""AD-NeRF's tracking as a video with expression vectors: what its own manifests leave out.

AD-NeRF writes ``transforms_train.json`` and ``transforms_val.json`` without expressions; those are
in ``track_params.pt``. Where the manifests are missing, too, poses come from the same file.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_path
from vultus.core.image_io import image_size, read_image_bytes, write_image
from vultus.core.progress import track
from vultus.core.threads import map_in_threads
from vultus.core.torch_pickle import load_torch_file
from vultus.data.head_video import (
    IMAGE_FOLDER,
    MANIFEST_NAME,
    MASK_FOLDER,
    PARSING_COLORS,
    PARSING_FOLDER,
    HeadVideoFolder,
    VideoTrack,
    mask_offset,
)
from vultus.data.readers.manifest import Manifest, read_manifest
from vultus.data.readers.numbered_files import numbered_files
from vultus.geometry.cameras import Camera
from vultus.geometry.rotations import axis_angle_to_matrix

__all__ = ["AdNerfPlan", "plan_adnerf", "tracked_world_to_camera"]

_TRACK_NAME = "track_params.pt"
_SPLIT_MANIFESTS = ("transforms_train.json", "transforms_val.json")
"""In the order of time: AD-NeRF cuts its frames at ten elevenths."""
_TRANSLATION_SCALE = 0.1
"""World units of the manifests per unit of the tracker."""


@dataclass(frozen=True)
class AdNerfPlan:
    """A conversion that was checked but not written."""

    source: Path
    out: Path
    track: VideoTrack
    images: Mapping[int, Path]
    masks: Mapping[int, Path]
    """By the number of the image; empty where mattes are to be made from the parsing."""
    parsing: Mapping[int, Path]

    def write(self) -> None:
        """Copy pictures, make missing mattes, and write the manifest last."""
        folder = HeadVideoFolder(self.out)
        folder.make(with_parsing=bool(self.parsing))

        def copy(image_id: int) -> None:
            _copy(self.images[image_id], folder.image_path(image_id))
            if image_id in self.parsing:
                _copy(self.parsing[image_id], folder.parsing_path(image_id))
            if image_id in self.masks:
                _copy(self.masks[image_id], folder.mask_path(image_id))
            else:
                person = _person(self.parsing[image_id])
                write_image(folder.mask_path(image_id), person)

        ids = self.track.image_ids
        for _ in track(map_in_threads(copy, ids), len(ids), "copying", "images"):
            pass
        folder.write_track(self.track)


def plan_adnerf(source: Path, out: Path, *, masks_from_parsing: bool = False) -> AdNerfPlan:
    """Read the tracking of a folder that AD-NeRF's ``process_data.py`` has filled.

    Args:
        source: Folder with ``ori_imgs/``, ``track_params.pt`` and, if there are any, manifests,
            mattes (``mask/``) and ``parsing/``.
        out: New folder.
        masks_from_parsing: Make hard mattes of head, neck and torso from ``parsing/`` in place of
            ``mask/``.

    Raises:
        FileNotFoundError: If a folder or file is missing.
        ValueError: If a file is damaged, counts differ, or ``out`` is not empty.

    Reference: specs of AD-NeRF's preprocessing; Guo et al., AD-NeRF, ICCV 2021.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} must be an empty or new folder")
    images = numbered_files(source / IMAGE_FOLDER)
    tracked = _Tracked.read(source / _TRACK_NAME)
    manifests = _manifests(source)
    poses = _from_manifests(manifests) if manifests else _from_track(tracked, images)
    ids = poses.image_ids
    if len(ids) != len(tracked.expressions):
        raise ValueError(
            f"{tracked.path}: exp must have one row per tracked frame ({len(ids)}), got "
            f"{len(tracked.expressions)}"
        )
    missing = next((number for number in ids if number not in images), None)
    if missing is not None:
        raise FileNotFoundError(f"{source / IMAGE_FOLDER} has no file of the number {missing}")
    parsing_folder = source / PARSING_FOLDER
    parsing = numbered_files(parsing_folder) if parsing_folder.is_dir() else {}
    masks = {} if masks_from_parsing else _masks(source, ids)
    if masks_from_parsing:
        without = next((number for number in ids if number not in parsing), None)
        if without is not None:
            raise FileNotFoundError(f"{parsing_folder} has no file of the number {without}")
    size = image_size(images[ids[0]])
    intrinsics = poses.intrinsics.expand(len(ids), 3, 3)
    camera = Camera(poses.world_to_camera, intrinsics, *size)
    video = VideoTrack(ids, camera, tracked.expressions)
    return AdNerfPlan(source, out, video, images, masks, parsing)


def tracked_world_to_camera(
    euler: Float[Tensor, "t 3"], translation: Float[Tensor, "t 3"]
) -> Float[Tensor, "t 4 4"]:
    """Head-to-camera matrices of AD-NeRF's tracker, in our axes.

    The tracker's rotation is R = Rx(e0) Ry(e1) Rz(-e2) and its camera looks along -z with y up:
    X_c = R X + t / 10.
    """
    about_axes = torch.diag_embed(euler.double() * torch.tensor([1.0, 1.0, -1.0]))
    x, y, z = axis_angle_to_matrix(about_axes).unbind(dim=1)
    matrix = torch.zeros(len(euler), 4, 4, dtype=torch.float64)
    matrix[:, :3, :3] = x @ y @ z
    matrix[:, :3, 3] = _TRANSLATION_SCALE * translation.double()
    matrix[:, 3, 3] = 1.0
    matrix[:, 1:3] *= -1.0  # y down, z forward
    return matrix.float()


@dataclass(frozen=True)
class _Tracked:
    """``track_params.pt``."""

    path: Path
    expressions: Float[Tensor, "t e"]
    values: Mapping[str, Any]

    @staticmethod
    def read(path: Path) -> _Tracked:
        values = load_torch_file(path)
        if not isinstance(values, dict):
            raise ValueError(f"{path}: must hold a dictionary, got {type(values).__name__}")
        return _Tracked(path, _matrix(path, values, "exp"), values)

    def matrix(self, key: str, columns: int) -> Float[Tensor, "t c"]:
        """One row per frame."""
        found = _matrix(self.path, self.values, key)
        if found.shape != (len(self.expressions), columns):
            raise ValueError(
                f"{self.path}: {key} must have shape ({len(self.expressions)}, {columns}), got "
                f"{tuple(found.shape)}"
            )
        return found

    def focal(self) -> float:
        """The focal length of all frames, pixels."""
        value = self.values.get("focal")
        if not isinstance(value, Tensor) or value.numel() != 1 or not float(value) > 0:
            raise ValueError(f"{self.path}: focal must be one positive number")
        return float(value)


def _matrix(path: Path, values: Mapping[str, Any], key: str) -> Float[Tensor, "t c"]:
    found = values.get(key)
    if not isinstance(found, Tensor) or found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{path}: {key} must be a matrix with one row per frame")
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"{path}: {key} must be finite, it holds NaN or infinity")
    return found.detach().float()


def _manifests(source: Path) -> list[Manifest]:
    paths = [source / name for name in _SPLIT_MANIFESTS if (source / name).is_file()]
    alone = source / MANIFEST_NAME
    if not paths and alone.is_file():
        paths = [alone]
    return [read_manifest(path) for path in paths]


@dataclass(frozen=True)
class _Poses:
    """Where the camera is in every frame."""

    image_ids: tuple[int, ...]
    world_to_camera: Float[Tensor, "t 4 4"]
    intrinsics: Float[Tensor, "3 3"]


def _from_manifests(manifests: Sequence[Manifest]) -> _Poses:
    ids, matrices = [], []
    first = _shared_intrinsics(manifests[0])
    for manifest in manifests:
        if not torch.equal(_shared_intrinsics(manifest), first):
            raise ValueError(f"{manifest.path}: focal_len, cx and cy must be those of all files")
        for index in range(len(manifest.frames)):
            ids.append(manifest.count(index, "img_id"))
            matrices.append(manifest.world_to_camera(index))
    if not ids:
        raise ValueError(f"{manifests[0].path}: frames must not be empty")
    if len(set(ids)) != len(ids):
        raise ValueError(f"{manifests[0].path}: img_id must not repeat")
    return _Poses(tuple(ids), torch.cat(matrices), first)


def _shared_intrinsics(manifest: Manifest) -> Float[Tensor, "3 3"]:
    values = []
    for key in ("focal_len", "cx", "cy"):
        value = manifest.shared.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{manifest.path}: {key} must be a number, got {value!r}")
        values.append(float(value))
    focal, center_x, center_y = values
    return torch.tensor([[focal, 0.0, center_x], [0.0, focal, center_y], [0.0, 0.0, 1.0]])


def _from_track(tracked: _Tracked, images: Mapping[int, Path]) -> _Poses:
    """Poses of the tracker, which has seen all images in the order of their numbers."""
    ids = tuple(sorted(images))
    if not ids:
        raise FileNotFoundError(f"{tracked.path.parent / IMAGE_FOLDER} has no numbered pictures")
    matrices = tracked_world_to_camera(tracked.matrix("euler", 3), tracked.matrix("trans", 3))
    width, height = image_size(images[ids[0]])
    focal = tracked.focal()
    intrinsics = torch.tensor(
        [[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]]
    )
    return _Poses(ids, matrices, intrinsics)


def _masks(source: Path, ids: Sequence[int]) -> dict[int, Path]:
    folder = source / MASK_FOLDER
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; AD-NeRF makes no mattes: run a matting tool, or make them "
            "from parsing/ with --masks-from-parsing"
        )
    files = numbered_files(folder)
    offset = mask_offset(ids, files)
    found = {number: files[number + offset] for number in ids if number + offset in files}
    missing = next((number for number in ids if number not in found), None)
    if missing is not None:
        raise FileNotFoundError(f"{folder} has no file of the number {missing + offset}")
    return found


def _person(parsing: Path) -> Tensor:
    pixels = read_image_bytes(parsing)
    background = pixels.new_tensor(PARSING_COLORS["background"])[:, None, None]
    return (pixels != background).any(dim=0, keepdim=True).float()


def _copy(source: Path, target: Path) -> None:
    if source.suffix.lower() == ".png" and target.suffix == ".jpg":
        write_image(target, read_image_bytes(source))
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)

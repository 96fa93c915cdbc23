"""Videos of one head with expression vectors, as NeRFBlendShape and GaussianHead read them.

The layout is that of ``data.head_video``. No rig is known: the head of the sequence is an
``ExpressionTrack``, whose pose track holds ``exp_ori`` as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.image_io import image_size
from vultus.data.head_video import (
    IMAGE_FOLDER,
    MANIFEST_NAME,
    MASK_FOLDER,
    PARSING_COLORS,
    PARSING_FOLDER,
    mask_offset,
)
from vultus.data.readers.manifest import Manifest, read_manifest, resize
from vultus.data.readers.numbered_files import numbered_files
from vultus.data.readers.options import ReaderOptions
from vultus.data.sequence import FrameRecord, HeadSequence, Split
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.heads.expression_track import ExpressionTrack

__all__ = ["Options", "read"]

_PUBLISHED_HELD_OUT = 1000
"""Frames at the end that the published split keeps from training, and how many of them, from the
end, it evaluates."""
_PUBLISHED_EVALUATED = 50
_DEBUG_FRAMES = 50
_HELD_OUT_KEY = "held_out_frames"
"""At the top of ``transforms.json``, written by the studio: how many frames at the end are held out
and evaluated."""


@dataclass(frozen=True)
class Options(ReaderOptions):
    """Options of ``nerf_blendshape``."""

    head_only: bool = False
    """Show what the parsing calls head, without neck and torso: they do not move with the head, and
    nothing in the expression vector says how they move."""
    mask_id_offset: int | None = None
    """What is added to an image's number to get its mask's; by default found by the files."""
    official_intrinsics: bool = False
    """Take the principal point as centred, as the published reader does, not ``cx`` and ``cy``."""
    official_compositing: bool = False
    """Composite bytes and round down, as the published reader does."""
    held_out: int | None = None
    """Frames at the end that are not trained on; default: what the file says, else 1000 as
    published. 0 trains on all."""
    evaluated: int | None = None
    """How many of them, from the end, are the split ``test``; default: 50 as published where
    nothing else is said about held-out frames, else all."""
    hold_out_share: float | None = None
    """Share of the frames in place of ``held_out``, for short videos."""
    debug_subset: bool = False
    """Only the first 50 of the training frames and the last 50 of the video."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        super().__post_init__()
        if self.held_out is not None and self.hold_out_share is not None:
            raise ValueError("options held_out and hold_out_share exclude each other")
        if self.held_out is not None and self.held_out < 0:
            raise ValueError(f"held_out must not be negative, got {self.held_out}")
        if self.evaluated is not None and self.evaluated < 1:
            raise ValueError(f"evaluated must be positive, got {self.evaluated}")
        if self.hold_out_share is not None and not 0 <= self.hold_out_share < 1:
            raise ValueError(f"hold_out_share must be in [0, 1), got {self.hold_out_share}")
        for name in ("head", "head_file", "cut_height"):
            if getattr(self, name) is not None:
                raise ValueError(f"option {name} must be left out: this format has no head model")


def read(root: Path, options: Options) -> HeadSequence:
    """Read a folder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong, or nothing is left for training.
    """
    manifest = read_manifest(root / MANIFEST_NAME)
    if not manifest.frames:
        raise ValueError(f"{manifest.path}: frames must not be empty")
    ids = [manifest.count(index, "img_id") for index in range(len(manifest.frames))]
    splits = _splits(manifest, options)
    expressions = _expressions(manifest)
    names = _expression_names(manifest, expressions.shape[1])
    color = _background(manifest)
    return HeadSequence(
        root,
        _records(manifest, ids, options),
        splits,
        ExpressionTrack(expressions.shape[1], names),
        HeadPose(expression_coeffs=expressions),
        background=options.background_color,
        # Neck and torso must go whatever is behind them, and the published reader knows no colour.
        image_background=None if options.head_only or options.official_compositing else color,
        truncates_colors=options.official_compositing,
        light_space="camera_opengl",
        expression_names=names,
        info={"format": "nerf_blendshape"},
    )


def _records(manifest: Manifest, ids: list[int], options: Options) -> tuple[FrameRecord, ...]:
    root = manifest.path.parent
    image_folder = root / IMAGE_FOLDER
    mask_folder = root / (PARSING_FOLDER if options.head_only else MASK_FOLDER)
    images, masks = numbered_files(image_folder), numbered_files(mask_folder)
    offset = _offset(ids, masks, options)
    parsing = root / PARSING_FOLDER
    labels = numbered_files(parsing) if parsing.is_dir() else {}
    records = []
    intrinsics: Camera | None = None
    for index, image_id in enumerate(ids):
        image = _file_of(manifest, index, image_folder, images, image_id)
        if intrinsics is None:
            intrinsics = _intrinsics(manifest, image, options)
        whole = Camera(
            manifest.world_to_camera(index),
            intrinsics.intrinsics,
            intrinsics.width,
            intrinsics.height,
        )
        camera, file_size = resize(whole, options)
        records.append(
            FrameRecord(
                timestep=index,
                camera_index=0,
                camera=camera,
                image_path=image,
                mask_path=_file_of(manifest, index, mask_folder, masks, image_id + offset),
                mask_color=PARSING_COLORS["head"] if options.head_only else None,
                parts_path=labels.get(image_id),
                file_size=file_size,
            )
        )
    return tuple(records)


def _offset(ids: list[int], masks: Mapping[int, Path], options: Options) -> int:
    """What leads from the number of an image to that of its mask."""
    if options.head_only:
        return 0
    return mask_offset(ids, masks) if options.mask_id_offset is None else options.mask_id_offset


def _file_of(
    manifest: Manifest, index: int, folder: Path, files: Mapping[int, Path], number: int
) -> Path:
    if number not in files:
        raise FileNotFoundError(
            f"{manifest.where(index, 'img_id')}: {folder} has no file of the number {number}"
        )
    return files[number]


def _intrinsics(manifest: Manifest, image: Path, options: Options) -> Camera:
    """The camera of all frames at the origin, at the size of the image files.

    ``h`` and ``w`` are the size that the other numbers are meant for.
    """
    given: dict[str, float] = {}
    for key in ("w", "h", "fx", "fy", "cx", "cy"):
        value = manifest.number(0, key)
        is_optional = key in ("cx", "cy") and options.official_intrinsics
        if value is None and not is_optional:
            raise ValueError(f"{manifest.path}: {key} is missing")
        if value is not None:
            given[key] = value
    for key in ("w", "h", "fx", "fy"):
        if given[key] <= 0:
            raise ValueError(f"{manifest.path}: {key} must be positive, got {given[key]}")
    width, height = int(given["w"]), int(given["h"])
    center = (0.5 * width, 0.5 * height)
    if not options.official_intrinsics:
        center = given["cx"], given["cy"]
    matrix = torch.tensor(
        [[given["fx"], 0.0, center[0]], [0.0, given["fy"], center[1]], [0.0, 0.0, 1.0]]
    )
    return Camera(torch.eye(4)[None], matrix[None], width, height).resized(*image_size(image))


def _expressions(manifest: Manifest) -> Float[Tensor, "t e"]:
    rows = [_expression(manifest, index) for index in range(len(manifest.frames))]
    for index, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{manifest.where(index, 'exp_ori')} must have {len(rows[0])} numbers as the "
                f"first frame's, got {len(row)}"
            )
    return torch.tensor(rows, dtype=torch.float32)


def _expression(manifest: Manifest, index: int) -> list[float]:
    where = manifest.where(index, "exp_ori")
    value = manifest.frames[index].get("exp_ori")
    if value is None:
        raise ValueError(f"{where} is missing; see vultus data convert for tracks of AD-NeRF")
    if not isinstance(value, list) or not value or not all(map(_is_number, value)):
        raise ValueError(f"{where} must be a list of finite numbers")
    return value


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _expression_names(manifest: Manifest, count: int) -> tuple[str, ...]:
    names = manifest.shared.get("expression_names", [])
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len(names) not in (0, count):
        raise ValueError(f"{manifest.path}: expression_names must be {count} texts or none")
    return tuple(names)


def _background(manifest: Manifest) -> tuple[float, float, float] | None:
    """What the pictures show behind the head: a colour that the studio notes, or the scene."""
    value = manifest.shared.get("background")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
        raise ValueError(f"{manifest.path}: background must be three numbers, got {value!r}")
    return float(value[0]), float(value[1]), float(value[2])


def _splits(manifest: Manifest, options: Options) -> dict[Split, Tensor]:
    total = len(manifest.frames)
    held_out, evaluated = _held_out(manifest, options)
    num_train = total - held_out
    if num_train < 1:
        raise ValueError(
            f"{manifest.path}: {total} frames leave none for training when the last {held_out} "
            "are held out; choose option held_out or hold_out_share"
        )
    if options.debug_subset:
        num_train, evaluated = min(num_train, _DEBUG_FRAMES), min(evaluated, _DEBUG_FRAMES)
    return {
        "train": torch.arange(num_train),
        "val": torch.empty(0, dtype=torch.int64),
        "test": torch.arange(total - evaluated, total),
    }


def _held_out(manifest: Manifest, options: Options) -> tuple[int, int]:
    """Frames at the end that are not trained on, and how many of them are evaluated."""
    noted = manifest.shared.get(_HELD_OUT_KEY)
    if noted is not None and (not isinstance(noted, int) or isinstance(noted, bool) or noted < 0):
        raise ValueError(f"{manifest.path}: {_HELD_OUT_KEY} must be a whole number, got {noted!r}")
    is_published = False
    if options.hold_out_share is not None:
        held_out = math.ceil(options.hold_out_share * len(manifest.frames))
    elif options.held_out is not None:
        held_out = options.held_out
    else:
        is_published = noted is None
        held_out = _PUBLISHED_HELD_OUT if noted is None else noted
    default = _PUBLISHED_EVALUATED if is_published else held_out
    return held_out, min(held_out, default if options.evaluated is None else options.evaluated)

"""FaceTalk: synthetic heads of FLAME 2020, one folder per spoken sentence or expression.

Each folder has ``transforms.json`` with the camera (``intrinsics``, ``cam``), the identity
(``shape``) and per frame ``file_path``, ``pose`` (global, neck, jaw, eyes) and ``expression``.
Masks, normals and label maps lie beside the images, as ``masks/``, ``normals/`` and ``semantic/``
in place of ``images/``.

The published split draws its validation frames from the training sentences; here ``val`` is empty,
as it is for every capture with one camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.image_io import image_size
from vultus.data.head_files import open_head
from vultus.data.readers.flame_manifest import finite_numbers, read_flame_pose
from vultus.data.readers.manifest import (
    SEMANTIC_FOLDER,
    Manifest,
    file_beside,
    read_manifest,
    resize,
)
from vultus.data.readers.options import IMAGE_BACKGROUNDS, ImageBackground, ReaderOptions
from vultus.data.rig_files import assemble_track
from vultus.data.sequence import FrameRecord, HeadSequence, Split
from vultus.geometry.cameras import Camera, check_rigid
from vultus.heads.base import HeadPose

__all__ = ["TEST_CORPORA", "Options", "is_corpus", "read"]

# fmt: off
TEST_CORPORA = (
    "bareteeth", "cheeks_in", "eyebrow", "high_smile", "lips_back", "lips_up", "mouth_down",
    "mouth_extreme", "mouth_middle", "mouth_open", "mouth_side", "mouth_up",
)
"""Folders that the published split holds out."""
# fmt: on


@dataclass(frozen=True)
class Options(ReaderOptions):
    """Options of ``facetalk``."""

    image_background: ImageBackground = "scene"
    """What the image files show behind the head; ``scene`` is cut away by the mask."""


@dataclass(frozen=True)
class _Corpus:
    """One folder."""

    manifest: Manifest
    split: Split
    shape: Float[Tensor, "1 s"]


def is_corpus(manifest: Manifest) -> bool:
    """Whether a ``transforms.json`` has the fields of this format."""
    return {"intrinsics", "cam", "shape"} <= manifest.shared.keys()


def read(root: Path, options: Options) -> HeadSequence:
    """Read all corpora below a folder; timesteps run on from one to the next, test last.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong, corpora have different identities, or none is for training.
    """
    corpora = _corpora(root)
    head = options.head or open_head("flame", options.head_file, "2020")
    records: list[FrameRecord] = []
    rows: dict[int, tuple[Path, HeadPose]] = {}
    splits: dict[Split, list[int]] = {"train": [], "val": [], "test": []}
    cameras: list[Camera] = []
    for corpus in corpora:
        manifest = corpus.manifest
        for index in range(len(manifest.frames)):
            timestep = len(records)
            records.append(_record(manifest, index, timestep, cameras, options))
            rows[timestep] = manifest.path, read_flame_pose(manifest, index)
            splits[corpus.split].append(timestep)
    if not splits["train"]:
        raise ValueError(f"{root}: split 'train' is empty")
    return HeadSequence(
        root,
        tuple(records),
        {name: torch.tensor(indices, dtype=torch.int64) for name, indices in splits.items()},
        head,
        assemble_track(rows, head, HeadPose(identity_coeffs=corpora[0].shape)),
        background=options.background_color,
        image_background=IMAGE_BACKGROUNDS[options.image_background],
        cut_height=options.cut_height,
        expression_names=tuple(head.expression_names),
        info={"format": "facetalk", "corpora": [c.manifest.path.parent.name for c in corpora]},
    )


def _corpora(root: Path) -> list[_Corpus]:
    """Training corpora by name, then those of the published test split."""
    found = []
    for path in sorted(root.glob("*/transforms.json")):
        manifest = read_manifest(path)
        if not is_corpus(manifest):
            raise ValueError(f"{path}: must have intrinsics, cam and shape")
        split: Split = "test" if path.parent.name in TEST_CORPORA else "train"
        shape = finite_numbers(f"{path}: shape", manifest.shared["shape"]).reshape(1, -1)
        found.append(_Corpus(manifest, split, shape))
    if not found:
        raise FileNotFoundError(f"{root}: no folder in it has a transforms.json")
    first = found[0]
    for corpus in found:
        if not torch.equal(corpus.shape, first.shape):
            raise ValueError(
                f"{corpus.manifest.path}: shape must be that of {first.manifest.path}: one subject"
            )
    return sorted(found, key=lambda corpus: corpus.split == "test")


def _record(
    manifest: Manifest, index: int, timestep: int, cameras: list[Camera], options: Options
) -> FrameRecord:
    image = _image(manifest, index)
    camera = _camera(manifest, image)
    camera_index = _index_of(camera, cameras)
    resized, file_size = resize(camera, options)
    return FrameRecord(
        timestep=timestep,
        camera_index=camera_index,
        camera=resized,
        image_path=image,
        mask_path=file_beside(image, "masks"),
        normal_path=file_beside(image, "normals"),
        parsing_path=file_beside(image, SEMANTIC_FOLDER),
        file_size=file_size,
    )


def _image(manifest: Manifest, index: int) -> Path:
    """Path of a frame; files may leave out the ending ``.png``."""
    value = manifest.frames[index].get("file_path")
    if isinstance(value, str) and value and not Path(value).suffix:
        path = manifest.path.parent / f"{value}.png"
        if path.is_file():
            return path
    return manifest.required_file(index, "file_path")


def _camera(manifest: Manifest, image: Path) -> Camera:
    """The camera of a corpus: square pixels and a centred principal point, as published.

    The file has x to the left and y up: the focal length is negative, in halves of the width, and
    the first two rows of the world-to-camera matrix are those of our axes with the other sign.
    """
    width, height = image_size(image)
    where = f"{manifest.path}: intrinsics"
    focal = -0.5 * width * float(finite_numbers(where, manifest.shared["intrinsics"])[0])
    if focal <= 0:
        raise ValueError(f"{where} must start with a negative focal length, got {-focal}")
    where = f"{manifest.path}: cam"
    matrix = finite_numbers(where, manifest.shared["cam"], torch.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"{where} must be a 3x4 or 4x4 matrix, got shape {tuple(matrix.shape)}")
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[:3] = matrix[:3]
    world_to_camera[:2] *= -1.0
    check_rigid(world_to_camera, where)
    intrinsics = torch.tensor(
        [[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]]
    )
    return Camera(world_to_camera.float()[None], intrinsics[None], width, height)


def _index_of(camera: Camera, cameras: list[Camera]) -> int:
    """Number of a camera; equal ones of several corpora are one."""
    for index, known in enumerate(cameras):
        if torch.equal(camera.world_to_camera, known.world_to_camera) and torch.equal(
            camera.intrinsics, known.intrinsics
        ):
            return index
    cameras.append(camera)
    return len(cameras) - 1

"""Monocular videos of IMavatar: FLAME coefficients in one JSON per clip.

    SUBJECT/SUBJECT/CLIP/flame_params.json     shape_params, intrinsics and frames
    SUBJECT/SUBJECT/CLIP/image/1.png ...
    SUBJECT/SUBJECT/CLIP/mask/1.png ...        optional mattes
    SUBJECT/SUBJECT/CLIP/semantic/1.png ...    optional label maps

The root is any of these folders. FLAME is four times its size there; here it is in metres again.
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
from vultus.data.readers.manifest import Manifest, file_beside, read_manifest, resize
from vultus.data.readers.options import IMAGE_BACKGROUNDS, ImageBackground, ReaderOptions
from vultus.data.readers.splits import hold_out_end
from vultus.data.rig_files import assemble_track
from vultus.data.sequence import FrameRecord, HeadSequence, Split
from vultus.geometry.cameras import Camera, check_rigid
from vultus.heads.base import HeadPose

__all__ = ["MANIFEST_NAME", "Options", "find_clips", "read"]

MANIFEST_NAME = "flame_params.json"
_MAX_DEPTH = 3
"""Folders between the root and a clip's file: subject, subject again, clip."""
_SCALE = 4.0
"""Of the mesh in these files."""
_PIXEL_SIZE = 512.0
"""Side of the image that intrinsics in pixels are meant for."""
_HELD_OUT = 350


@dataclass(frozen=True)
class Options(ReaderOptions):
    """Options of ``imavatar``."""

    image_background: ImageBackground = "scene"
    """What the image files show behind the head; ``scene`` is cut away by the mask."""
    test_clips: str | None = None
    """Names of the clips that are ``test``, with commas between; by default the last of several."""
    held_out: int | None = None
    """Frames at the end that are ``test`` where there is one clip; by default 350."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        super().__post_init__()
        if self.held_out is not None and self.held_out < 0:
            raise ValueError(f"held_out must not be negative, got {self.held_out}")


def find_clips(root: Path) -> list[Path]:
    """The files of all clips, at the first level below the root that has any."""
    for depth in range(_MAX_DEPTH + 1):
        found = sorted(root.glob("/".join([*depth * ["*"], MANIFEST_NAME])))
        if found:
            return found
    return []


def read(root: Path, options: Options) -> HeadSequence:
    """Read all clips of a subject; timesteps run on from one to the next.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong, clips show several subjects, or none is for training.
    """
    clips = [read_manifest(path) for path in find_clips(root)]
    if not clips:
        raise FileNotFoundError(f"{root}: has no {MANIFEST_NAME} up to {_MAX_DEPTH} folders below")
    shape = _shape(clips)
    records: list[FrameRecord] = []
    rows: dict[int, tuple[Path, HeadPose]] = {}
    for clip in clips:
        for index in range(len(clip.frames)):
            rows[len(records)] = clip.path, read_flame_pose(clip, index)
            records.append(_record(clip, index, len(records), options))
    head = options.head or open_head("flame", options.head_file, "2020")
    return HeadSequence(
        root,
        tuple(records),
        _splits(root, clips, options),
        head,
        assemble_track(rows, head, HeadPose(identity_coeffs=shape)),
        background=options.background_color,
        image_background=IMAGE_BACKGROUNDS[options.image_background],
        light_space="camera_opengl",
        cut_height=options.cut_height,
        expression_names=tuple(head.expression_names),
        info={"format": "imavatar", "clips": [clip.path.parent.name for clip in clips]},
    )


def _shape(clips: list[Manifest]) -> Float[Tensor, "1 s"]:
    shapes = [
        finite_numbers(f"{clip.path}: shape_params", clip.shared.get("shape_params")).flatten()
        for clip in clips
    ]
    for clip, shape in zip(clips, shapes, strict=True):
        if not torch.equal(shape, shapes[0]):
            raise ValueError(
                f"{clip.path}: shape_params must be those of {clips[0].path}: read one subject"
            )
    return shapes[0][None]


def _splits(root: Path, clips: list[Manifest], options: Options) -> dict[Split, Tensor]:
    names = [clip.path.parent.name for clip in clips]
    counts = [len(clip.frames) for clip in clips]
    if len(clips) == 1 and options.test_clips is None:
        held_out = _HELD_OUT if options.held_out is None else options.held_out
        return hold_out_end(root, counts[0], held_out)
    if options.held_out is not None:
        raise ValueError(f"option held_out is for one clip, {root} has {len(clips)}: test_clips")
    given = options.test_clips
    test = [names[-1]] if given is None else [name.strip() for name in given.split(",")]
    unknown = next((name for name in test if name not in names), None)
    if unknown is not None:
        raise ValueError(f"option test_clips must be of {', '.join(names)}, got {unknown!r}")
    is_test = torch.tensor([name in test for name in names]).repeat_interleave(torch.tensor(counts))
    if bool(is_test.all()):
        raise ValueError(f"{root}: split 'train' is empty; hold out fewer clips")
    return {
        "train": (~is_test).nonzero()[:, 0],
        "val": torch.empty(0, dtype=torch.int64),
        "test": is_test.nonzero()[:, 0],
    }


def _record(clip: Manifest, index: int, timestep: int, options: Options) -> FrameRecord:
    image = _image(clip, index)
    folder = image.parent.name
    camera, file_size = resize(_camera(clip, index, image), options)
    return FrameRecord(
        timestep=timestep,
        camera_index=0,
        camera=camera,
        image_path=image,
        mask_path=file_beside(image, "mask", folder),
        parsing_path=file_beside(image, "semantic", folder),
        file_size=file_size,
    )


def _image(clip: Manifest, index: int) -> Path:
    """Path of a frame; the files leave out the ending ``.png``."""
    value, where = clip.frames[index].get("file_path"), clip.where(index, "file_path")
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where} must be a path, got {value!r}")
    path = clip.path.parent / (value if Path(value).suffix else f"{value}.png")
    if not path.is_file():
        raise FileNotFoundError(f"{where}: {path} does not exist")
    return path


def _camera(clip: Manifest, index: int, image: Path) -> Camera:
    """The camera of a frame in our axes and metres.

    A point (x, y, z) of the camera falls onto (fx x / z + cx, fy y / z + cy). The signs of the
    focal lengths and the side on which the head stands tell the axes: with x to the right, y up
    and the head at negative z, fx is negative.
    """
    width, height = image_size(image)
    where = f"{clip.path}: intrinsics"
    intrinsics = finite_numbers(where, clip.shared.get("intrinsics")).double()
    if intrinsics.shape != (4,) or bool((intrinsics[:2] == 0).any()):
        raise ValueError(f"{where} must be fx, fy, cx, cy, got {intrinsics.tolist()}")
    if float(intrinsics[3]) > 1:
        intrinsics = intrinsics / _PIXEL_SIZE
    where = clip.where(index, "world_mat")
    matrix = finite_numbers(where, clip.frames[index].get("world_mat"), torch.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"{where} must be a 3x4 or 4x4 matrix, got shape {tuple(matrix.shape)}")
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[:3] = matrix[:3]
    world_to_camera[:3, 3] /= _SCALE
    world_to_camera[:3] *= _axis_signs(where, intrinsics, float(matrix[2, 3]))[:, None]
    check_rigid(world_to_camera, where)
    focal_x, focal_y = intrinsics[:2].abs().tolist()
    center_x, center_y = intrinsics[2:].tolist()
    pixels = torch.tensor(
        [
            [focal_x * width, 0.0, center_x * width],
            [0.0, focal_y * height, center_y * height],
            [0.0, 0.0, 1.0],
        ]
    )
    return Camera(world_to_camera.float()[None], pixels[None], width, height)


def _axis_signs(where: str, intrinsics: Float[Tensor, 4], depth: float) -> Float[Tensor, 3]:
    """What turns the file's camera axes into ours: x right, y down, z towards the head."""
    forward = 1.0 if depth > 0 else -1.0
    right, down = (intrinsics[:2].sign() * forward).tolist()
    if right * down * forward < 0 and bool((intrinsics[:2] > 0).all()):
        # Focal lengths without sign say nothing of the axes; x is to the right in all that have
        # the head at negative z.
        right, down = 1.0, -1.0
    if right * down * forward < 0:
        raise ValueError(f"{where}: axes and signs of the focal lengths mirror the picture")
    return torch.tensor([right, down, forward], dtype=torch.float64)

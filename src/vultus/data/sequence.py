"""A capture of one head as reconstruction methods see it: images, cameras, rig track, splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers
from vultus.heads.base import HeadModel, HeadPose

__all__ = ["Frame", "FrameRecord", "HeadSequence", "LightSpace", "Split"]

Split = Literal["train", "val", "test"]
"""``val``: held-out cameras at training times (novel view). ``test``: held-out times."""


LightSpace = Literal["world", "camera_opengl"]


@dataclass(frozen=True)
class FrameRecord:
    """Where one image of a sequence comes from."""

    timestep: int
    """Row of the sequence's pose track."""
    camera_index: int
    """Small integer, the same for all frames of one physical camera."""
    camera: Camera
    """Batch of one."""
    image_path: Path
    mask_path: Path | None = None
    mask_color: tuple[int, int, int] | None = None
    """The mask is where its file has exactly this colour (bytes): a part of a face parsing. By
    default the file is a grey matte."""
    normal_path: Path | None = None
    """Ground-truth normals; the frame they are given in is ``HeadSequence.normal_space``."""
    depth_path: Path | None = None
    """Ground-truth depth in metres, ``.npz`` with ``depth`` [h w]."""
    albedo_path: Path | None = None
    """Ground-truth albedo, encoded as sRGB unless ``has_linear_albedo``."""
    roughness_path: Path | None = None
    """Ground-truth perceptual roughness, grey."""
    specular_path: Path | None = None
    """Ground-truth reflectance at normal incidence over 0.08, grey."""
    parsing_path: Path | None = None
    """Label map in ``semantics.PARSING_CLASSES``, of the image's aspect ratio and any size."""
    parts_path: Path | None = None
    """Coarse parsing in the colours of ``head_video.PARSING_COLORS``."""
    face_mask_path: Path | None = None
    """Face pixels by a face parser, which published evaluations mask with."""
    depth_index: int | None = None
    """Row of a depth file that stacks all frames, [n h w]."""
    file_size: tuple[int, int] | None = None
    """(width, height) of the files where frames are resized to ``camera`` on loading."""
    has_linear_albedo: bool = False


@dataclass(frozen=True)
class Frame:
    """One decoded image with what is known about it. Tensors have a batch of one."""

    record: FrameRecord
    rgb: Float[Tensor, "1 3 h w"]
    """Composited over the sequence's background."""
    mask: Float[Tensor, "1 1 h w"] | None = None
    normals: Float[Tensor, "1 3 h w"] | None = None
    """Unit, world axes; zero where unknown."""
    depth: Float[Tensor, "1 1 h w"] | None = None
    """Camera z in metres; zero where unknown."""
    face_mask: Float[Tensor, "1 1 h w"] | None = None
    """Where a face parser sees the face, without neck and clothes."""
    semantics: UInt8[Tensor, "1 1 h w"] | None = None
    """What each pixel shows, an index into ``semantics.SEMANTIC_GROUPS``."""

    @property
    def evaluation_mask(self) -> Float[Tensor, "1 1 h w"] | None:
        """What masked metrics look at: the face if it is known, else the foreground."""
        return self.mask if self.face_mask is None else self.face_mask


@dataclass(frozen=True)
class HeadSequence:
    """Images, cameras and rig parameters of one subject."""

    root: Path
    frames: tuple[FrameRecord, ...]
    splits: Mapping[Split, Int[Tensor, " n"]]
    """Indices into ``frames``."""
    head: HeadModel
    pose: HeadPose
    """One row per timestep."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What frames are composited over when they are loaded."""
    image_background: tuple[float, float, float] | None = None
    """What the image files are composited over already; ``None``: they show the real background,
    which the mask cuts away (files with an alpha channel carry their own)."""
    truncates_colors: bool = False
    """Whether bytes are composited over the background and rounded down, as some published readers
    do; up to one grey level darker at soft edges."""
    has_linear_colors: bool = False
    """Whether image files hold linear light (0 to 1); it is encoded when they are loaded."""
    normal_space: Literal["world", "camera_opengl"] = "world"
    depth_kind: Literal["z", "ray"] = "z"
    """What depth files hold: camera z, or the distance along the pixel's ray."""
    light_space: LightSpace = "world"
    """Axes in which the surroundings stand still. Where the room and the camera stand still and a
    tracker put the motion of the head into the camera, they stand still in those of the camera."""
    cut_height: float | None = None
    """Frames show background below this height of the head at rest; see ``data.neck_cut``."""
    expression_names: tuple[str, ...] = ()
    info: Mapping[str, object] = field(default_factory=dict)
    """Free facts for the run card (format, lights, licence)."""

    def split(self, name: Split) -> tuple[FrameRecord, ...]:
        """The frames of one split.

        Raises:
            ValueError: If the split is empty or unknown.
        """
        indices = self.splits.get(name)
        if indices is None or len(indices) == 0:
            raise ValueError(f"{self.root}: split {name!r} is empty")
        return tuple(self.frames[int(i)] for i in indices)

    def extent(self) -> float:
        """1.1 times the largest distance of a training camera from their mean (metres).

        Reference: specs of 3D Gaussian splatting; duplicates count once per frame.
        """
        centers = torch.cat([camera_centers(record.camera) for record in self.split("train")])
        return 1.1 * float((centers - centers.mean(dim=0)).norm(dim=1).max())

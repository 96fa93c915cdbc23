"""What a rendering can show: its maps, the truth and the rig's mesh, as pictures and as numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_path
from vultus.core.image_io import write_image
from vultus.core.progress import track
from vultus.data.sequence import Frame, FrameRecord, HeadSequence
from vultus.engine.evaluate import render_frames
from vultus.export.mesh_pictures import mesh_overlay
from vultus.export.pictures import depth_picture, depth_range, error_picture, normal_picture
from vultus.geometry.cameras import Camera
from vultus.geometry.depth import depth_to_normals
from vultus.heads.base import HeadModel, HeadPose
from vultus.methods.base import ReconstructionMethod
from vultus.render.output import RenderOutput

__all__ = [
    "ALL_VIEWS",
    "CAPTURE_VIEWS",
    "Shot",
    "View",
    "can_show",
    "frame_shots",
    "path_shots",
    "picture_of",
    "save_views",
    "shot_of",
]

View = Literal[
    "rgb",
    "alpha",
    "depth",
    "normals",
    "depth_normals",
    "mesh",
    "truth",
    "mask",
    "true_normals",
    "error",
]
"""``depth`` is that of the surface (turbo colours, near is red); ``normals`` are those of the
primitives, ``depth_normals`` those of the depth map, in world axes; ``mesh`` is the rig over the
image; the last four need an image of the capture."""

ALL_VIEWS: tuple[View, ...] = get_args(View)

CAPTURE_VIEWS: tuple[View, ...] = ("truth", "mask", "true_normals", "error")
"""Views that need an image of the capture."""

_NUMBERS: tuple[View, ...] = ("depth", "normals", "depth_normals", "true_normals")
"""Views that are saved as numbers too."""


@dataclass(frozen=True)
class Shot:
    """One rendering of an avatar, with what its other views need."""

    name: str
    """Of its files, without ending."""
    output: RenderOutput
    """Of one frame."""
    camera: Camera
    head: HeadModel
    pose: HeadPose
    frame: Frame | None = None
    """The image of the capture that it should equal."""
    depth_bounds: tuple[float, float] | None = None
    """Nearest and farthest depth of the colours; by default those of the picture."""

    def has(self, view: View) -> bool:
        """Whether the view can be made: what is known of the image and what was rendered."""
        output = self.output
        if view == "normals":
            return output.normals is not None
        if view == "depth_normals" and output.depth_normals is not None:
            return True
        if view in ("depth", "depth_normals"):
            return output.surface_depth is not None
        return can_show(self.frame, view)

    def require_frame(self, view: View) -> Frame:
        """The image of the capture.

        Raises:
            ValueError: If there is none, or it lacks what the view shows.
        """
        if self.frame is None or not can_show(self.frame, view):
            raise ValueError(
                f"view {view!r} needs an image of the capture that has it: {self.name}"
            )
        return self.frame

    def array(self, view: View) -> Float[Tensor, "c h w"]:
        """Depth in metres, or normals in world axes, blended (length about alpha).

        Raises:
            ValueError: If the view has no numbers, or is not there.
        """
        output = self.output
        if view == "depth":
            return _known(output.surface_depth)[0]
        if view == "normals":
            return output.require("normals")[0]
        if view == "depth_normals":
            made = output.depth_normals
            if made is None:
                normals = depth_to_normals(_known(output.surface_depth), self.camera)
                made = normals * output.alpha
            return made[0]
        if view == "true_normals":
            return _known(self.require_frame(view).normals)[0]
        raise ValueError(f"view must be one of {', '.join(_NUMBERS)} to have numbers, got {view!r}")


def can_show(frame: Frame | None, view: View) -> bool:
    """Whether what is known of an image is enough for a view of its rendering."""
    if view not in CAPTURE_VIEWS:
        return True
    if frame is None:
        return False
    needed = {"mask": frame.mask, "true_normals": frame.normals}
    return needed.get(view, frame.rgb) is not None


def picture_of(shot: Shot, view: View) -> Float[Tensor, "3 h w"]:
    """A view as a displayable picture.

    Raises:
        ValueError: If the shot has no such view.
    """
    output = shot.output
    alpha = output.alpha[0].clamp(0, 1)
    if view == "rgb":
        return output.image[0].clamp(0, 1)
    if view == "alpha":
        return alpha.expand(3, -1, -1)
    if view == "depth":
        return depth_picture(shot.array(view), alpha, shot.depth_bounds)
    if view in ("normals", "depth_normals"):
        return normal_picture(shot.array(view), alpha)
    if view == "mesh":
        with torch.no_grad():
            vertices = shot.head.vertices(shot.pose)[0]
        image = output.image[0].clamp(0, 1)
        return mesh_overlay(image, vertices, shot.head.topology.faces, shot.camera)
    frame = shot.require_frame(view)
    if view == "mask":
        return _known(frame.mask)[0].expand(3, -1, -1)
    if view == "true_normals":
        normals = shot.array(view)
        return normal_picture(normals, (normals != 0).any(dim=0, keepdim=True).float())
    if view == "error":
        return error_picture(output.image[0].clamp(0, 1), frame.rgb[0])
    return frame.rgb[0]


def path_shots(avatar: ReconstructionMethod, pose: HeadPose, cameras: Camera) -> Iterator[Shot]:
    """Pose row i (or the only row) from camera i; all have the depth colours of the first.

    Raises:
        ValueError: If there are neither as many poses as cameras nor one pose.
    """
    if len(pose) not in (1, len(cameras)):
        raise ValueError(f"pose must have 1 or {len(cameras)} frames, got {len(pose)}")
    bounds = None
    for index in track(range(len(cameras)), label="rendering", unit="frames"):
        row = pose if len(pose) == 1 else pose[index]
        with torch.no_grad():
            output = avatar.render(row, cameras[index])
        shot = Shot(f"{index:05d}", output, cameras[index], avatar.head, row)
        if bounds is None and output.surface_depth is not None:
            bounds = depth_range(shot.array("depth"), output.alpha[0])
        yield replace(shot, depth_bounds=bounds)


def frame_shots(
    avatar: ReconstructionMethod, sequence: HeadSequence, records: Iterable[FrameRecord]
) -> Iterator[Shot]:
    """Frames of the capture; depth colours are those of each picture, as cameras differ."""
    for record, frame, output in render_frames(avatar, sequence, records):
        yield shot_of(avatar, record, frame, output)


def shot_of(
    avatar: ReconstructionMethod, record: FrameRecord, frame: Frame, output: RenderOutput
) -> Shot:
    """A frame of the capture with its rendering; named by its moment and camera."""
    name = f"{record.timestep:05d}_{record.camera_index:02d}"
    return Shot(name, output, record.camera, avatar.head, avatar.track[record.timestep], frame)


def save_views(shot: Shot, folder: Path, views: Collection[View]) -> None:
    """Write every view as ``<view>/<name>.png``; depth and normals as ``.npy`` [c h w] too.

    Raises:
        ValueError: If the shot has no such view.
    """
    for view in views:
        path = folder / view / f"{shot.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, picture_of(shot, view))
        if view in _NUMBERS:
            with atomic_path(path.with_suffix(".npy")) as temporary:
                np.save(temporary, shot.array(view).numpy())


def _known(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("the rendering holds no depth: ask the renderer for it")
    return value

"""Films of an avatar: a frozen or moving pose along a camera path, or a dataset's own cameras."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.progress import track
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.engine.evaluate import render_frames
from vultus.export.pictures import depth_picture, normal_picture, side_by_side
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.methods.base import ReconstructionMethod
from vultus.render.output import RenderOutput

__all__ = ["View", "comparison_film", "path_film", "picture_of"]

View = Literal["rgb", "normals", "depth", "alpha"]


def picture_of(output: RenderOutput, view: View) -> Float[Tensor, "3 h w"]:
    """The first image of a rendering as a displayable picture."""
    alpha = output.alpha[0].clamp(0, 1)
    if view == "normals":
        return normal_picture(output.require("normals")[0], alpha)
    if view == "depth":
        return depth_picture(output.require("depth")[0], alpha)
    if view == "alpha":
        return alpha.expand(3, -1, -1)
    return output.image[0].clamp(0, 1)


def path_film(
    avatar: ReconstructionMethod, pose: HeadPose, cameras: Camera, views: Iterable[View] = ("rgb",)
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Frame i shows pose row i (or the only row) from camera i.

    Raises:
        ValueError: If there are neither as many poses as cameras nor one pose.
    """
    views = tuple(views)
    if len(pose) not in (1, len(cameras)):
        raise ValueError(f"pose must have 1 or {len(cameras)} frames, got {len(pose)}")
    for index in track(range(len(cameras)), label="rendering", unit="frames"):
        row = pose if len(pose) == 1 else pose[index]
        with torch.no_grad():
            output = avatar.render(row, cameras[index])
        yield side_by_side([picture_of(output, view) for view in views])


def comparison_film(
    avatar: ReconstructionMethod, sequence: HeadSequence, records: Iterable[FrameRecord]
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Truth, rendering and normals side by side for frames of the capture."""
    for _, frame, output in render_frames(avatar, sequence, records):
        yield side_by_side([frame.rgb[0], picture_of(output, "rgb"), picture_of(output, "normals")])

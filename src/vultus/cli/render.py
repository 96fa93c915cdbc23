"""``vultus render``: film an avatar along a camera path, or re-render its capture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console
from vultus.cli.one_hot import OneHotOptions
from vultus.cli.option_parser import parse_arguments
from vultus.core.video_io import write_video
from vultus.data.frames import load_frame
from vultus.data.sequence import Split
from vultus.export.films import COMPARISON, film_of
from vultus.export.shots import CAPTURE_VIEWS, Shot, View, can_show, frame_shots, path_shots
from vultus.geometry import camera_paths
from vultus.geometry.cameras import Camera, camera_centers
from vultus.heads.base import HeadPose

__all__ = ["RenderOptions", "main", "path_cameras", "path_pose", "random_cameras"]


@dataclass(frozen=True)
class RenderOptions:
    """Write a film of a trained avatar."""

    run: Path
    """Folder that train wrote."""
    out: Path | None = None
    """Film to write (.mp4); default: RUN/media/render_PATH.mp4."""
    path: Literal["turntable", "arc", "yaw", "still", "dataset"] = "turntable"
    """turntable: once around; arc: left to right in front of the face; yaw: 15 degrees to either
    side from the mean distance of the training cameras, a sweep per 100 frames, the published novel
    views of GaussianHead; still: one camera of the capture; dataset: all of them, beside the
    truth."""
    camera: int | None = None
    """Camera of --path still; default: the first training camera."""
    split: Split = "test"
    """Frames of --path dataset."""
    timestep: int | None = None
    """Pose of all paths but dataset; default: the track plays along."""
    expressions: Annotated[OneHotOptions, tyro.conf.arg(name="")] = field(
        default_factory=OneHotOptions
    )
    frames: int = 120
    """Length of all paths but dataset."""
    size: tuple[int, int] | None = None
    """Width and height; default: those of the capture."""
    views: tuple[View, ...] | None = None
    """Pictures side by side; default: rgb, on --path dataset truth rgb normals. truth, mask,
    true_normals and error need --path dataset."""
    images: Path | None = None
    """Folder that also gets every view of every frame: VIEW/NAME.png, depth and normals as .npy
    too."""
    fps: float = 25.0
    """Frames per second."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Render and write the film."""
    options = parse_arguments(RenderOptions, arguments, prog="vultus render", description=__doc__)
    opened = open_run(options.run, options.data, options.device, options.step)
    default = opened.folder.media_path / f"render_{options.path}.mp4"
    out = output_path(options.out, default, [".mp4"])
    views = options.views or (COMPARISON if options.path == "dataset" else ("rgb",))
    shots = _shots(opened, options, views)
    if options.dry_run:
        console.print(f"would write {out}")
        return
    film = film_of(shots, views, options.images, leave_out=options.views is None)
    count = write_video(out, film, options.fps)
    console.print(f"film: {out} ({count} frames)")
    if options.images is not None:
        console.print(f"images: {options.images} ({', '.join(views)})")


def _shots(opened: OpenRun, options: RenderOptions, views: tuple[View, ...]) -> Iterator[Shot]:
    """Check the choices; pictures are rendered when they are taken."""
    avatar, sequence = opened.avatar, opened.sequence
    if options.path == "dataset":
        records = sequence.split(options.split)
        first = load_frame(sequence, records[0])
        if options.expressions.one_hot:
            raise ValueError("--one-hot is not for --path dataset, which shows the track")
        if options.camera is not None:
            raise ValueError("--camera is of --path still, got --path dataset")
        missing = next((view for view in views if not can_show(first, view)), None)
        if missing is not None:
            raise ValueError(f"--views {missing}: {records[0].image_path} has none")
        return frame_shots(avatar, sequence, records)
    unknown = next((view for view in views if view in CAPTURE_VIEWS), None)
    if unknown is not None:
        raise ValueError(f"--views {unknown} needs --path dataset, got {options.path}")
    path, size = options.path, options.size
    cameras = path_cameras(opened, path, options.frames, size, options.camera)
    pose = path_pose(opened, options.path, options.timestep, options.frames, options.expressions)
    return path_shots(avatar, pose, cameras)


def path_pose(
    opened: OpenRun, path: str, timestep: int | None, frames: int, expressions: OneHotOptions
) -> HeadPose:
    """The pose of a timestep, or those of the track, which plays along, or single expressions."""
    if expressions.one_hot:
        head, place = opened.sequence.head, opened.pose(timestep or 0)
        return expressions.poses(
            head, place, frames, is_swinging=path == "still", moving=opened.moving_expressions()
        )
    if timestep is not None:
        return opened.pose(timestep)
    track = opened.avatar.track
    return track[torch.arange(frames) % len(track)]


def path_cameras(
    opened: OpenRun,
    path: str,
    frames: int,
    size: tuple[int, int] | None = None,
    camera: int | None = None,
) -> Camera:
    """Cameras around the head, framed as the first training image is; ``yaw`` as all of them are.

    ``still`` is one camera of the capture, by default the first training camera.

    Raises:
        ValueError: If ``frames`` is not positive, or ``camera`` unknown or of no use.
    """
    if camera is not None and path != "still":
        raise ValueError(f"--camera is of --path still, got --path {path}")
    if frames < 1:
        raise ValueError(f"a camera path needs at least 1 frame, got {frames}")
    if path == "yaw":
        cameras = _yaw_cameras(opened, frames)
    elif path == "still":
        cameras = opened.camera(camera)[torch.zeros(frames, dtype=torch.int64)]
    else:
        center, radius, first = _framing(opened)
        sweep = 2.0 * math.pi if path == "turntable" else math.pi / 2.0
        cameras = camera_paths.orbit(
            center, radius, frames, sweep, first.intrinsics[0], first.width, first.height
        )
    return cameras if size is None else cameras.resized(*size)


def random_cameras(
    opened: OpenRun, count: int, largest_angle: float, generator: torch.Generator
) -> Camera:
    """Cameras in front of the head, yaw and pitch uniform up to an angle in radians.

    They are as far away and see as much as the first training camera.
    """
    center, radius, first = _framing(opened)
    angles = largest_angle * (2.0 * torch.rand(2, count, generator=generator) - 1.0)
    return camera_paths.cameras_at_angles(
        center, radius, angles[0], angles[1], first.intrinsics[0], first.width, first.height
    )


def _yaw_cameras(opened: OpenRun, frames: int) -> Camera:
    records = opened.sequence.split("train")
    center = _head_middle(opened)
    eyes = torch.cat([camera_centers(record.camera) for record in records])
    radius = float((eyes - center).norm(dim=1).mean())
    first = records[0].camera
    return camera_paths.yaw_swing(
        center, radius, frames, first.intrinsics[0], first.width, first.height
    )


def _head_middle(opened: OpenRun) -> Float[Tensor, 3]:
    """Middle of the head at the first timestep.

    A head without a mesh is the world of its capture, and around the origin.
    """
    with torch.no_grad():
        vertices = opened.head_vertices()
    if vertices.shape[0] == 0:
        return torch.zeros(3)
    return 0.5 * (vertices.min(dim=0).values + vertices.max(dim=0).values)


def _framing(opened: OpenRun) -> tuple[Float[Tensor, 3], float, Camera]:
    """Point that the first training camera looks at, its distance, and the camera.

    Raises:
        ValueError: If the head is behind the camera.
    """
    first = opened.sequence.split("train")[0].camera
    middle = _head_middle(opened)
    eye, axis = camera_centers(first)[0], first.camera_to_world[0, :3, 2]
    radius = float((middle - eye) @ axis)
    if radius <= 0:
        raise ValueError("the first training camera looks away from the head")
    return eye + radius * axis, radius, first

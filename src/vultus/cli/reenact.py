"""``vultus reenact``: drive an avatar with another performance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.core.run_folder import RunFolder
from vultus.core.video_io import write_video
from vultus.data.driving import Driver, capture_driver, drive, flame_driver, is_flame_track
from vultus.data.frames import load_frame
from vultus.data.readers import read_sequence
from vultus.data.studio.tracks import TrackName, build_track
from vultus.export.films import film_of
from vultus.export.pictures import side_by_side
from vultus.export.shots import CAPTURE_VIEWS, View, path_shots
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel
from vultus.heads.retargeting import MotionSpace, Rebase

__all__ = ["ReenactOptions", "find_driver", "main"]


@dataclass(frozen=True)
class ReenactOptions:
    """Film a trained avatar with the motion of another track; its shape stays its own."""

    run: Path
    """Folder that train wrote."""
    track: TrackName | Path
    """A built-in performance; an ARKit .npz (names, weights, head_pose, fps); a FLAME .npz (expr,
    rotation, ...); the folder of another run, whose fine-tuned track drives; or of a capture."""
    out: Path | None = None
    """Film to write (.mp4); default: RUN/media/reenact.mp4."""
    frames: int = 100
    """Length of the film; captures and FLAME files may be shorter."""
    stride: int = 1
    """Takes every n-th frame of a recording."""
    camera: int | None = None
    """Camera to film from; default: the first training camera."""
    camera_of: Literal["own", "driver"] = "own"
    """Whose cameras: the avatar's, where it stays in its place, or those of the capture that
    drives, where it goes to the other's place."""
    show_driver: bool = False
    """Put the driver's pictures on the left; with --camera-of driver."""
    rebase: Rebase = "none"
    """Play face (expression) or everything (motion) relative to the neutral moments of driver and
    avatar: their trackers explain part of each face's shape by expressions."""
    neutral: int | None = None
    """Frame of the motion with a neutral face; default: the one nearest to the median."""
    own_neutral: int | None = None
    """The same in the avatar's own track."""
    views: tuple[View, ...] = ("rgb", "normals")
    """Pictures side by side."""
    images: Path | None = None
    """Folder that also gets every view of every frame: VIEW/NAME.png, depth and normals as .npy
    too."""
    fps: float = 30.0
    """Frames per second."""
    seed: int = 0
    """Of built-in tracks."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    format: str = "auto"
    """Reader of a capture that drives."""
    options: dict[str, str] = field(default_factory=dict)
    """Reader options of a capture that drives."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Map the track to the rig, render, write the film."""
    options = parse_arguments(ReenactOptions, arguments, prog="vultus reenact", description=__doc__)
    _check(options)
    opened = open_run(options.run, options.data, options.device, options.step)
    head, own = opened.sequence.head, opened.avatar.track
    driver = find_driver(options, head)
    played = drive(
        driver,
        head,
        own,
        rebasing=options.rebase,
        keep_place=options.camera_of == "own",
        neutral=options.neutral,
        own_neutral=options.own_neutral,
    )
    out = output_path(options.out, opened.folder.media_path / "reenact.mp4", [".mp4"])
    cameras = _cameras(opened, driver, options)
    for note in played.notes:
        console.print(f"note: {note}")
    if options.dry_run:
        console.print(f"would write {len(cameras)} frames to {out}")
        return
    shots = path_shots(opened.avatar, played.pose, cameras)
    frames = film_of(shots, options.views, options.images)
    if options.show_driver:
        frames = _beside_driver(frames, driver, options.camera)
    count = write_video(out, frames, options.fps)
    console.print(f"film: {out} ({count} frames)")


def _check(options: ReenactOptions) -> None:
    for name in ("frames", "stride"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be positive, got {getattr(options, name)}")
    unknown = next((view for view in options.views if view in CAPTURE_VIEWS), None)
    if unknown is not None:
        raise ValueError(f"--views {unknown} needs images of the avatar: see vultus render")
    if options.show_driver and options.camera_of != "driver":
        raise ValueError("--show-driver needs --camera-of driver: views must be the same")


def find_driver(options: ReenactOptions, head: HeadModel) -> Driver:
    """Tell by its content what ``--track`` names, and read it.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it is none of the known kinds or damaged.
    """
    track = options.track
    if isinstance(track, Path) and track.is_dir():
        if RunFolder(track).config_path.is_file():
            other = open_run(track)
            driver = capture_driver(other.sequence, other.avatar.track)
        else:
            driver = capture_driver(read_sequence(track, options.format, **options.options))
        return driver.select(options.frames, options.stride)
    if isinstance(track, Path) and is_flame_track(track):
        return flame_driver(track).select(options.frames, options.stride)
    recording = track if isinstance(track, Path) else None
    motion = build_track(
        "arkit" if isinstance(track, Path) else track,
        head,
        options.frames,
        seed=options.seed,
        arkit_path=recording,
        stride=options.stride,
    )
    return Driver(motion, MotionSpace.of(head), tuple(range(options.frames)))


def _cameras(opened: OpenRun, driver: Driver, options: ReenactOptions) -> Camera:
    """One camera per frame of the film."""
    if options.camera_of == "driver":
        return Camera.stack([record.camera for record in driver.records(options.camera)])
    camera = opened.camera(options.camera)
    return camera[torch.zeros(len(driver.moments), dtype=torch.int64)]


def _beside_driver(
    frames: Iterator[Float[Tensor, "3 h w"]], driver: Driver, camera: int | None
) -> Iterator[Float[Tensor, "3 h w2"]]:
    if driver.sequence is None:
        raise ValueError("--show-driver needs a capture or a run as --track")
    for record, frame in zip(driver.records(camera), frames, strict=True):
        yield side_by_side([load_frame(driver.sequence, record).rgb[0], frame])

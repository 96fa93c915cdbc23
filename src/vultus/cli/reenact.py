"""``vultus reenact``: drive an avatar with another expression track."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console
from vultus.core.video_io import write_video
from vultus.data.studio.tracks import TrackName, build_track
from vultus.export.films import View, path_film
from vultus.geometry.cameras import Camera

__all__ = ["ReenactOptions", "main"]


@dataclass(frozen=True)
class ReenactOptions:
    """Film a trained avatar with the motion of another track."""

    run: Path
    """Folder that train wrote."""
    track: TrackName | Path
    """An ARKit .npz (names, weights, head_pose, fps), or a built-in performance."""
    out: Path | None = None
    """Film to write (.mp4); default: RUN/media/reenact.mp4."""
    frames: int = 100
    """Length of the film."""
    stride: int = 1
    """Takes every n-th frame of a recording."""
    camera: int | None = None
    """Camera of the capture to film from; default: the first training camera."""
    views: tuple[View, ...] = ("rgb", "normals")
    """Pictures side by side."""
    fps: float = 30.0
    """Frames per second."""
    seed: int = 0
    """Of built-in tracks."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Map the track to the rig, render, write the film."""
    options = tyro.cli(ReenactOptions, args=arguments, prog="vultus reenact", description=__doc__)
    opened = open_run(options.run, options.data, options.device)
    recording = options.track if isinstance(options.track, Path) else None
    name: TrackName = "arkit" if isinstance(options.track, Path) else options.track
    motion = build_track(
        name,
        opened.sequence.head,
        options.frames,
        seed=options.seed,
        arkit_path=recording,
        stride=options.stride,
    )
    own = opened.avatar.track
    pose = motion.replace(
        identity_coeffs=None if own.identity_coeffs is None else own.identity_coeffs[:1],
        static_offset=None if own.static_offset is None else own.static_offset[:1],
    )
    out = output_path(options.out, opened.folder.media_path / "reenact.mp4", [".mp4"])
    camera = _camera(opened, options.camera)
    if options.dry_run:
        console.print(f"would write {len(pose)} frames to {out}")
        return
    cameras = camera[torch.zeros(len(pose), dtype=torch.int64)]
    frames = path_film(opened.avatar, pose, cameras, options.views)
    count = write_video(out, frames, options.fps)
    console.print(f"film: {out} ({count} frames)")


def _camera(opened: OpenRun, index: int | None) -> Camera:
    if index is None:
        return opened.sequence.split("train")[0].camera
    cameras = {record.camera_index: record.camera for record in opened.sequence.frames}
    if index not in cameras:
        known = ", ".join(map(str, sorted(cameras)))
        raise ValueError(f"--camera must be one of {known}, got {index}")
    return cameras[index]

"""Pictures per second of a trained avatar, as a program that shows it would count them."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch

from vultus.bench.results import Row, threads_mode
from vultus.bench.timing import Timing
from vultus.core.threads import num_threads
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.methods.base import ReconstructionMethod

__all__ = ["bench_rendering", "fit_camera"]

_ROUNDS = 3
_WARMUP = 3


def bench_rendering(
    avatar: ReconstructionMethod, camera: Camera, frames: int, *, scene: str = "avatar"
) -> list[Row]:
    """Time calls of the avatar's own ``render``, which return maps on the CPU.

    Everything between a pose and these maps is included: posing the rig, moving the primitives,
    drawing colour, depth and normals, and on a GPU their way to the CPU. One row plays the track,
    the other repeats its first pose.

    Args:
        avatar: On the device that is timed.
        camera: One camera.
        frames: Pictures per measurement; there are three, after a few that do not count.
        scene: Title of the rows.

    Raises:
        ValueError: If there is not one camera or no picture.
    """
    if len(camera) != 1 or frames < 1:
        raise ValueError(
            f"camera must hold one camera and frames be positive, got {len(camera)} and {frames}"
        )
    track = avatar.track
    moving = [track[moment % len(track)] for moment in range(frames)]
    is_on_gpu = avatar.device.type == "cuda"
    mode = "eager" if is_on_gpu else threads_mode(num_threads())
    rows = []
    for name, poses in (("track plays", moving), ("one pose", [track[0]] * frames)):
        if is_on_gpu:
            torch.cuda.reset_peak_memory_stats()
        timing = _time_rounds(avatar, poses, camera)
        memory = torch.cuda.max_memory_allocated() if is_on_gpu else None
        facts = {
            "bench": "render",
            "poses": name,
            "width": camera.width,
            "height": camera.height,
            "frames": frames,
            **{key: value for key, value in avatar.summary().items() if isinstance(value, int)},
        }
        rows.append(Row(scene, name, mode, {"picture": timing}, memory, facts))
    return rows


def fit_camera(camera: Camera, width: int, height: int) -> Camera:
    """Let a camera take pictures of another size that show all of its own, without distortion."""
    scale = min(width / camera.width, height / camera.height)
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, :2] *= scale
    intrinsics[:, 0, 2] += 0.5 * (width - scale * camera.width)
    intrinsics[:, 1, 2] += 0.5 * (height - scale * camera.height)
    return replace(camera, intrinsics=intrinsics, width=width, height=height)


def _time_rounds(avatar: ReconstructionMethod, poses: list[HeadPose], camera: Camera) -> Timing:
    """Seconds per picture of whole rounds."""
    for pose in (poses * _WARMUP)[:_WARMUP]:
        avatar.render(pose, camera)
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for pose in poses:
            avatar.render(pose, camera)
        seconds.append((time.perf_counter() - start) / len(poses))
    return Timing(statistics.median(seconds), min(seconds))

"""Speed of the virtual studio: pictures with all their ground truth, without files."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch

from vultus.bench.results import Row, threads_mode
from vultus.bench.timing import Timing
from vultus.core.threads import num_threads
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.scene import Shooting, build_scene

__all__ = ["bench_studio"]

_ROUNDS = 3
_SHADOWS = ("baked_seen", "traced")
"""On a GPU, the first is ``baked_all``: every moment has one camera."""


def bench_studio(
    size: int, samples: int, frames: int, device: torch.device | str = "cpu"
) -> list[Row]:
    """Time pictures of the talking procedural head under 128 lights, one camera per moment.

    A picture's time is that of many, divided by their number: posing the head, refitting the
    hierarchy, all maps and their way to the CPU are included; building the scene, compiling and
    encoding files are not.

    Args:
        size: Width and height in pixels.
        samples: Rays per pixel and axis.
        frames: Pictures per measurement; there are three, and one before that does not count.
        device: Where to take them.
    """
    config = StudioConfig(
        frames=frames, cameras=1, rig="monocular", size=size, samples=samples, test_share=0.0
    )
    scene = build_scene(config)
    is_on_cpu = torch.device(device).type == "cpu"
    rows = []
    for shadows in _SHADOWS:
        shooting = Shooting(scene, replace(config, shadows=shadows), device=device)
        seconds = [_time_round(shooting, frames) for _ in range(1 + _ROUNDS)][1:]
        timing = Timing(statistics.median(seconds) / frames, min(seconds) / frames)
        rows.append(
            Row(
                f"studio, {size} x {size}, {samples**2} rays a pixel, shadows {shadows}",
                "cpu" if is_on_cpu else "gpu",
                threads_mode(num_threads()) if is_on_cpu else "eager",
                {"picture": timing},
                facts={
                    "bench": "studio",
                    "size": size,
                    "samples": samples,
                    "frames": frames,
                    "shadows": shadows,
                },
            )
        )
    return rows


def _time_round(shooting: Shooting, frames: int) -> float:
    start = time.perf_counter()
    for _ in shooting.take({moment: [0] for moment in range(frames)}):
        pass
    return time.perf_counter() - start

"""Time of a whole training step of a method: pose, rig, render, losses, backward, optimiser."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from vultus.bench.flame_sized import flame_sized_head
from vultus.bench.timing import Timing
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.engine.steps import Steps, make_steps
from vultus.geometry.cameras import Camera, look_at
from vultus.heads.base import HeadPose
from vultus.methods.base import ReconstructionMethod
from vultus.methods.surfhead.config import SurfHeadConfig
from vultus.methods.surfhead.model import SurfHead

__all__ = ["StepTiming", "bench_steps", "bench_surfhead_steps", "noise_capture"]

_NUM_IMAGES = 16
_ROUNDS, _STEPS_PER_ROUND = 5, 100


@dataclass(frozen=True)
class StepTiming:
    """A row of the table."""

    implementation: str
    timing: Timing
    """Per step; of rounds of many steps, with one wait at the end of each."""
    memory: int
    """Most bytes on the GPU at once; 0 on the CPU."""


def bench_surfhead_steps(
    num: int, width: int, height: int, *, device: str = "cpu", step: int = 100_000
) -> list[StepTiming]:
    """Time SurfHead's published settings on a head of FLAME's size, every term switched on.

    Args:
        num: Surfels; faces get several.
        width: Of the images, which are random: what is in them does not change the work.
        height: Of the images.
        device: On a GPU, launched and captured steps are compared.
        step: Where in the schedule.
    """
    return bench_steps(lambda: _avatar(num, width, height, device), device=device, step=step)


def bench_steps(
    build: Callable[[], tuple[ReconstructionMethod, FrameStore]],
    *,
    device: torch.device | str,
    step: int,
) -> list[StepTiming]:
    """Time steps of a method.

    Args:
        build: Makes what is trained, anew for every row, and its images.
        device: Where that is; on a GPU, launched and captured steps are compared.
        step: Where in the schedule.
    """
    is_on_gpu = torch.device(device).type == "cuda"
    modes: tuple[Literal["graph", "eager"], ...] = ("graph", "eager") if is_on_gpu else ("eager",)
    rows = []
    for mode in modes:
        method, frames = build()
        steps = make_steps(method, frames, list(range(len(frames))), graph=mode == "graph")
        rounds, count = (_ROUNDS, _STEPS_PER_ROUND) if is_on_gpu else (3, 3)
        if is_on_gpu:
            torch.cuda.reset_peak_memory_stats()
        with steps.context():
            seconds = _time_rounds(steps, step, rounds, count)
        memory = torch.cuda.max_memory_allocated() if is_on_gpu else 0
        rows.append(
            StepTiming(mode, Timing(sorted(seconds)[len(seconds) // 2], min(seconds)), memory)
        )
    return rows


def _time_rounds(steps: Steps, step: int, rounds: int, count: int) -> list[float]:
    first = step
    for step in range(first, first + 4):  # compiles, sizes buffers, captures
        steps.run(step)
    steps.settle()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count):
            step += 1
            steps.run(step)
        steps.settle()
        seconds.append((time.perf_counter() - start) / count)
    return seconds


def noise_capture(width: int, height: int) -> tuple[HeadSequence, FrameStore]:
    """Film a head of FLAME's size whose images are noise: what is in them changes no work.

    Args:
        width: Of the images.
        height: Of the images.
    """
    generator = torch.Generator().manual_seed(0)
    head = flame_sized_head()
    track = {
        parameter.name: torch.zeros(_NUM_IMAGES, parameter.size)
        for parameter in head.parameters_spec
        if not parameter.is_static
    }
    track["expression_coeffs"].uniform_(0, 0.3, generator=generator)
    middle = 0.5 * (head.neutral.amax(0) + head.neutral.amin(0))
    eyes = middle + torch.tensor([0.2, 0.1, 1.0]) * torch.linspace(0.9, 1.1, _NUM_IMAGES)[:, None]
    focal = 2.5 * height
    matrix = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    camera = Camera(look_at(eyes, middle), matrix.expand(_NUM_IMAGES, 3, 3), width, height)
    records = tuple(
        FrameRecord(timestep=i, camera_index=i, camera=camera[i], image_path=Path("noise"))
        for i in range(_NUM_IMAGES)
    )
    rows = torch.arange(_NUM_IMAGES)
    sequence = HeadSequence(Path("noise"), records, {"train": rows}, head, HeadPose(**track))
    pixels = torch.randint(0, 256, (_NUM_IMAGES, 4, height, width), generator=generator)
    return sequence, FrameStore.from_pixels(pixels.to(torch.uint8), camera, rows)


def _avatar(num: int, width: int, height: int, device: str) -> tuple[SurfHead, FrameStore]:
    """SurfHead with several surfels per face.

    Surfels are about as large as their distance, as in a trained avatar.
    """
    sequence, frames = noise_capture(width, height)
    avatar = SurfHead(SurfHeadConfig(), sequence, seed=0, device=device)
    faces = sequence.head.topology.faces.shape[0]
    index = (torch.arange(num) % faces).to(device)
    tensors = {
        name: tensor[index] if tensor.shape[:1] == (faces,) else tensor
        for name, tensor in avatar.tensors().items()
    }
    offsets = 0.3 * torch.randn(num, 3, generator=torch.Generator().manual_seed(0))
    tensors["local_means"] = tensors["local_means"] + offsets.to(device)
    tensors["log_scales"] = tensors["log_scales"] - 0.5 * math.log(max(4 * num / faces, 1))
    tensors["opacity_logits"] = torch.full_like(tensors["opacity_logits"], 1.0)
    avatar.load_tensors(tensors)
    return avatar, frames

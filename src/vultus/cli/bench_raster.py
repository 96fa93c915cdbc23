"""``vultus bench raster``: the rasterizers, against oracle, prototypes and other projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import torch
import tyro

from vultus.bench.peers import PeerName, load_peer
from vultus.bench.prototypes import load_gpu_prototypes, load_prototype
from vultus.bench.published import published_rows
from vultus.bench.raster import bench_on_cpu, bench_reference
from vultus.bench.raster_gpu import GRID, bench_on_gpu
from vultus.bench.results import Row, write_rows
from vultus.bench.scenes import Primitive, RasterScene
from vultus.cli.bench_tables import print_rows, print_speedups, require_positive
from vultus.cli.console import console, print_error
from vultus.cli.option_parser import parse_arguments

__all__ = ["GPU_REPEATS", "RasterBenchOptions", "run_raster"]

GPU_REPEATS = 50
"""Calls take a millisecond there, and vary more."""
_BASELINES = ("ref", "prototype")


@dataclass(frozen=True)
class RasterBenchOptions:
    """Time forward and backward passes of the rasterizers on a head-like scene."""

    primitives: tuple[Primitive, ...] = ("gaussians", "surfels")
    """Which rasterizers."""
    num: tuple[int, ...] = (20_000,)
    """Primitives of a frame; every number is combined with every size, channels and batch."""
    size: tuple[int, ...] = (256,)
    """Width and height of the image."""
    channels: tuple[int, ...] = (3,)
    """Channels: RGB first, then features."""
    batch: tuple[int, ...] = (1,)
    """Frames per call, each with its own primitives."""
    grid: bool = False
    """The full table of a GPU: 30k, 100k and 300k primitives, 512 and 1024 pixels, 3, 16 and 32
    channels, 1 and 8 frames."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads; by default PyTorch's."""
    devices: tuple[Literal["cpu", "gpu"], ...] = ()
    """Where to run; by default on the CPU, and on the GPU where there is one."""
    repeats: int = 11
    """Timed calls of each implementation, at least 50 on a GPU; they alternate."""
    reference_num: int = 500
    """Primitives of the comparison with the oracle, which cannot hold a large scene in memory."""
    reference_size: int = 64
    """Width and height of that comparison's image."""
    all_outputs: bool = True
    """Rows with all outputs beside those with the prototypes' outputs."""
    prototype: Path | None = None
    """Python file of a CPU prototype to compare with, in the same process."""
    gpu_prototype: tuple[Path, ...] = ()
    """Files of Triton prototypes, for the rows of the GPU."""
    peer: Annotated[tuple[PeerName, ...], tyro.conf.UseAppendAction] = ()
    """Another project to compare with on the GPU; may be given several times."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject what cannot be timed."""
        counts = ("num", "size", "channels", "batch", "reference_num", "reference_size")
        require_positive(self, *counts, "repeats")
        if not self.primitives:
            raise ValueError("--primitives must not be empty")
        if min(self.threads, default=1) < 1:
            raise ValueError(f"--threads must be positive, got {min(self.threads)}")
        if min(self.channels) < 3:
            raise ValueError(f"--channels must be at least 3, got {min(self.channels)}")

    def scenes(self) -> list[RasterScene]:
        """All combinations; those of a size of the problem follow each other."""
        axes = (
            tuple(GRID.values()) if self.grid else (self.num, self.size, self.channels, self.batch)
        )
        return [
            RasterScene(primitive, num, size, channels, batch)
            for primitive in self.primitives
            for num, size, channels, batch in product(*axes)
        ]


def run_raster(arguments: list[str]) -> None:
    """Print the tables of the rasterizers.

    Raises:
        ValueError: If a GPU is asked for and there is none.
    """
    options = parse_arguments(
        RasterBenchOptions,
        arguments,
        prog="vultus bench raster",
        description="Time the rasterizers, forward and backward, implementations in alternation: "
        "3D Gaussians with RGB of degree-3 SH and alpha; surfels with depth, normal and "
        "distortion, too.",
    )
    devices = _devices(options)
    prototype, gpu_prototypes = None, {}
    if options.prototype is not None:
        prototype = load_prototype(options.prototype, options.primitives)
    if options.gpu_prototype and "gpu" in devices:
        gpu_prototypes = load_gpu_prototypes(options.gpu_prototype, options.primitives)
    scenes = options.scenes()
    if options.dry_run:
        for scene in scenes:
            console.print(f"would time {scene} on {' and '.join(devices)}")
        return
    rows: list[Row] = []
    if "cpu" in devices:
        rows += _rows_of_cpu(options, scenes, prototype)
    if "gpu" in devices:
        rows += _rows_of_gpu(options, scenes, gpu_prototypes)
    if options.json is not None:
        write_rows(options.json, rows)


def _devices(options: RasterBenchOptions) -> tuple[str, ...]:
    has_gpu = torch.cuda.is_available()
    needs_gpu = [f"--{name}" for name in ("grid", "peer") if getattr(options, name)]
    if "gpu" in options.devices:
        needs_gpu.append("--devices gpu")
    if needs_gpu and not has_gpu:
        raise ValueError(f"{needs_gpu[0]} needs an NVIDIA GPU, and PyTorch finds none")
    if options.grid:
        return ("gpu",)
    return options.devices or (("cpu", "gpu") if has_gpu else ("cpu",))


def _reference_scene(options: RasterBenchOptions, primitive: Primitive) -> RasterScene:
    return RasterScene(primitive, options.reference_num, options.reference_size)


def _rows_of_cpu(
    options: RasterBenchOptions, scenes: Sequence[RasterScene], prototype: ModuleType | None
) -> list[Row]:
    rows: list[Row] = []
    for primitive in options.primitives:
        rows += bench_reference(_reference_scene(options, primitive), options.repeats)
        print_rows(rows[-2:], _BASELINES)
    threads = options.threads or (torch.get_num_threads(),)
    for scene in scenes:
        timed = bench_on_cpu(
            scene,
            options.repeats,
            threads=threads,
            prototype=prototype,
            all_outputs=options.all_outputs,
        )
        print_rows(timed, _BASELINES)
        print_speedups(timed, threads)
        rows += timed
    return rows


def _rows_of_gpu(
    options: RasterBenchOptions,
    scenes: Sequence[RasterScene],
    prototypes: dict[Primitive, ModuleType],
) -> list[Row]:
    peers, missing = _load_peers(options.peer)
    repeats = max(options.repeats, GPU_REPEATS)
    rows: list[Row] = []
    for primitive in options.primitives:
        rows += bench_reference(_reference_scene(options, primitive), repeats, device="cuda")
        print_rows(rows[-2:], _BASELINES)
    for scene in scenes:
        timed = bench_on_gpu(
            scene,
            repeats,
            prototype=prototypes.get(scene.primitive),
            peers=peers,
            all_outputs=options.all_outputs,
        )
        timed += [row for row in published_rows(scene) if row.implementation in missing]
        print_rows(timed, (*_BASELINES, *peers, *missing))
        rows += timed
    return rows


def _load_peers(
    names: Sequence[PeerName],
) -> tuple[dict[PeerName, ModuleType], list[str]]:
    """Import what can be; of the rest, figures that were published take the place."""
    peers: dict[PeerName, ModuleType] = {}
    missing: list[str] = []
    for name in names:
        try:
            peers[name] = load_peer(name)
        except ModuleNotFoundError as error:
            print_error(f"{error}; its published times are shown instead")
            missing.append(name)
    return peers, missing

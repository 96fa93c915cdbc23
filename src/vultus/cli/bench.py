"""``vultus bench``: time the kernels on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from vultus.bench.gaussians import bench_gaussian_reference, bench_gaussians
from vultus.bench.raster import RasterResult, bench_reference, bench_surfels, load_prototype
from vultus.bench.raster_gpu import (
    bench_gaussians_on_gpu,
    bench_surfels_on_gpu,
    load_gpu_prototype,
)
from vultus.bench.rays import RayResult, bench_rays
from vultus.bench.training import bench_adam, bench_ssim
from vultus.cli.console import console, print_table

__all__ = ["RasterBenchOptions", "RayBenchOptions", "TrainingBenchOptions", "main"]

_GPU_REPEATS = 50
"""Calls take a millisecond there, and vary more."""


@dataclass(frozen=True)
class RasterBenchOptions:
    """Time forward and backward passes of the rasterizers on a head-like scene."""

    primitives: tuple[Literal["gaussians", "surfels"], ...] = ("gaussians", "surfels")
    """Which rasterizers."""
    num: int = 20_000
    """Primitives."""
    size: int = 256
    """Width and height of the image."""
    repeats: int = 11
    """Timed calls of each implementation; they alternate."""
    reference_num: int = 500
    """Primitives of the comparison with the oracle, which cannot hold a large scene in memory."""
    reference_size: int = 64
    num_features: int = 0
    """Channels beside RGB: of the Gaussians, on a GPU of the surfels, too."""
    batch: int = 1
    """Frames per call on a GPU, each with its own primitives."""
    prototype: Path | None = None
    """Python file of a prototype to compare with, in the same process."""
    gpu_prototype: Path | None = None
    """The same for the rows of the GPU."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        _require_positive(
            self, "num", "size", "repeats", "reference_num", "reference_size", "batch"
        )
        if not self.primitives:
            raise ValueError("--primitives must not be empty")
        if self.num_features < 0:
            raise ValueError(f"--num-features must not be negative, got {self.num_features}")


@dataclass(frozen=True)
class RayBenchOptions:
    """Trace a head-like mesh on the CPU, and on the GPU where there is one."""

    num_faces: int = 20_000
    """Triangles of the mesh, about."""
    size: int = 512
    """Width and height of the image, one ray per pixel."""
    repeats: int = 11
    """Timed calls of each query."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        _require_positive(self, "num_faces", "size", "repeats")


@dataclass(frozen=True)
class TrainingBenchOptions:
    """Time SSIM and Adam on the CPU, and on the GPU where there is one."""

    num: int = 20_000
    """Gaussians of 59 floats that Adam updates."""
    batch: int = 1
    """RGB images that SSIM compares at once."""
    size: int = 512
    """Their width and height."""
    repeats: int = 11
    """Timed calls of each implementation; they alternate."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        _require_positive(self, "num", "batch", "size", "repeats")


def main(arguments: list[str]) -> None:
    """Run one benchmark."""
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print(
            "usage: vultus bench {raster,rays,training} [options]\n\n"
            "  raster    the rasterizers\n"
            "  rays      rays against a mesh\n"
            "  training  SSIM and Adam"
        )
        return
    name, *rest = arguments
    if name not in _SUBCOMMANDS:
        raise ValueError(f"vultus bench {name} does not exist; choose from {sorted(_SUBCOMMANDS)}")
    _SUBCOMMANDS[name](rest)


def _raster(arguments: list[str]) -> None:
    """Print the tables of the rasterizers."""
    options = tyro.cli(
        RasterBenchOptions,
        args=arguments,
        prog="vultus bench raster",
        description="Time the rasterizers, forward and backward, implementations in alternation: "
        "3D Gaussians with RGB of degree-3 SH and alpha; surfels with depth, normal and "
        "distortion, too.",
    )
    rasters = {"gaussians": "Raster3D", "surfels": "Raster2D"}
    prototype = None
    if options.prototype is not None:
        prototype = load_prototype(options.prototype, [rasters[p] for p in options.primitives])
    if options.dry_run:
        primitives = " and ".join(options.primitives)
        console.print(f"would time {options.num} {primitives} at {options.size} x {options.size}")
        return
    baseline = "cpu" if prototype is None else "prototype"
    small = options.reference_num, options.reference_size, options.repeats
    large = options.num, options.size, options.repeats
    if "gaussians" in options.primitives:
        _print_results(bench_gaussian_reference(*small), baseline="ref")
        results = bench_gaussians(*large, num_features=options.num_features, prototype=prototype)
        _print_results(results, baseline)
    if "surfels" in options.primitives:
        _print_results(bench_reference(*small), baseline="ref")
        _print_results(bench_surfels(*large, prototype), baseline)
    if torch.cuda.is_available():
        _rasters_on_gpu(options, [rasters[p] for p in options.primitives])


def _rasters_on_gpu(options: RasterBenchOptions, rasters: list[str]) -> None:
    """Print the rows of the GPU: eager calls, and CUDA graphs."""
    prototype = None
    if options.gpu_prototype is not None:
        prototype = load_gpu_prototype(options.gpu_prototype, rasters)
    benches = {"gaussians": bench_gaussians_on_gpu, "surfels": bench_surfels_on_gpu}
    for primitives in options.primitives:
        results = benches[primitives](
            options.num,
            options.size,
            max(options.repeats, _GPU_REPEATS),
            batch=options.batch,
            num_features=options.num_features,
            prototype=prototype,
        )
        _print_results(results, "gpu, graph" if prototype is None else "prototype, graph")


def _rays(arguments: list[str]) -> None:
    """Print the table of ray queries."""
    options = tyro.cli(RayBenchOptions, args=arguments, prog="vultus bench rays")
    if options.dry_run:
        size = f"{options.size} x {options.size}"
        console.print(f"would trace {options.num_faces} faces at {size}")
        return
    results: list[RayResult] = []
    for device in _devices():
        repeats = max(options.repeats, _GPU_REPEATS) if device == "cuda" else options.repeats
        results += bench_rays(options.num_faces, options.size, repeats, device=device)
    rows = [
        [
            result.query,
            result.implementation,
            result.num_rays or None,
            1e3 * result.timing.median,
            1e3 * result.timing.minimum,
            1e-6 * result.num_rays / result.timing.median if result.num_rays else None,
        ]
        for result in results
    ]
    print_table(
        f"{options.num_faces} faces, {options.size} x {options.size}",
        ["query", "implementation", "rays", "ms", "fastest ms", "Mrays/s"],
        rows,
    )


def _training(arguments: list[str]) -> None:
    """Print the tables of SSIM and Adam."""
    options = tyro.cli(TrainingBenchOptions, args=arguments, prog="vultus bench training")
    if options.dry_run:
        size = f"{options.size} x {options.size}"
        console.print(f"would time {options.batch} images of {size}, {options.num} Gaussians")
        return
    for device in _devices():
        repeats = max(options.repeats, _GPU_REPEATS) if device == "cuda" else options.repeats
        results = bench_ssim(options.batch, options.size, repeats, device=device)
        _print_results(results, "ref, graph" if device == "cuda" else "ref")
        steps = bench_adam(options.num, repeats, device=device)
        print_table(
            f"Adam, {options.num} Gaussians on {device}, milliseconds",
            ["implementation", "step", "fastest"],
            [[name, 1e3 * time.median, 1e3 * time.minimum] for name, time in steps.items()],
        )


def _devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _require_positive(options: object, *names: str) -> None:
    for name in names:
        if getattr(options, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be positive, got {getattr(options, name)}")


def _print_results(results: list[RasterResult], baseline: str) -> None:
    base = next(result.timing for result in results if result.implementation == baseline)
    rows = [
        [
            result.implementation,
            1e3 * result.forward.median,
            1e3 * result.timing.median,
            1e3 * result.timing.minimum,
            result.timing.median / base.median,
            result.timing.minimum / base.minimum,
        ]
        for result in results
    ]
    print_table(
        f"{results[0].scene}, {torch.get_num_threads()} threads, milliseconds",
        [
            "implementation",
            "forward",
            "forward + backward",
            "fastest",
            f"median / {baseline}",
            f"fastest / {baseline}",
        ],
        rows,
    )


_SUBCOMMANDS: dict[str, Callable[[list[str]], None]] = {
    "raster": _raster,
    "rays": _rays,
    "training": _training,
}

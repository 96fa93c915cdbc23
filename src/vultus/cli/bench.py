"""``vultus bench``: time the kernels on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.bench.prototypes import RASTERS, load_module
from vultus.bench.rays import bench_rays
from vultus.bench.results import Row, write_rows
from vultus.bench.scenes import Primitive
from vultus.bench.start import bench_start
from vultus.bench.steps import bench_surfhead_steps
from vultus.bench.studio import bench_studio
from vultus.bench.training import bench_adam, bench_ssim
from vultus.bench.training_step import bench_training_step
from vultus.cli.bench_gaussianhead import run_gaussianhead
from vultus.cli.bench_gsheadrelight import run_gsheadrelight
from vultus.cli.bench_mesh import run_mesh
from vultus.cli.bench_raster import GPU_REPEATS, run_raster
from vultus.cli.bench_relighting import run_relighting
from vultus.cli.bench_render import run_render
from vultus.cli.bench_shading import run_shading
from vultus.cli.bench_spherehead import run_spherehead
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.bench_volume import run_volume
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import asks_for_help, parse_arguments, subcommand_help

__all__ = [
    "RayBenchOptions",
    "StartBenchOptions",
    "StudioBenchOptions",
    "SurfHeadBenchOptions",
    "TrainingBenchOptions",
    "main",
]

_GPU_PICTURES = 200
"""They take milliseconds there."""


@dataclass(frozen=True)
class RayBenchOptions:
    """Trace a head-like mesh on the CPU, and on the GPU where there is one."""

    num_faces: int = 20_000
    """Triangles of the mesh, about."""
    size: int = 512
    """Width and height of the image, one ray per pixel."""
    repeats: int = 11
    """Timed calls of each query."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "num_faces", "size", "repeats")


@dataclass(frozen=True)
class TrainingBenchOptions:
    """Time whole training steps and their parts on the CPU, and on the GPU where there is one."""

    num: int = 20_000
    """Gaussians of 59 floats."""
    batch: int = 1
    """RGB images that SSIM compares at once; the whole step has one."""
    size: int = 512
    """Their width and height."""
    repeats: int = 11
    """Timed calls of each implementation, at least 50 on a GPU; they alternate."""
    gpu_prototype: tuple[Path, Path] | None = None
    """Triton prototypes of the rasterizer (Raster3D) and of what surrounds it (Loss, Adam)."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "num", "batch", "size", "repeats")


@dataclass(frozen=True)
class StartBenchOptions:
    """Time the first pass of the CPU rasterizers in new processes."""

    primitives: tuple[Primitive, ...] = ("gaussians", "surfels")
    """Which rasterizers."""
    repeats: int = 3
    """Processes with an empty Numba cache, and with a filled one."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject counts below one."""
        require_positive(self, "repeats")


@dataclass(frozen=True)
class StudioBenchOptions:
    """Take pictures in the virtual studio on the CPU, and on the GPU where there is one."""

    size: int = 256
    """Width and height of the pictures."""
    samples: int = 2
    """Rays per pixel and axis."""
    frames: int = 8
    """Pictures per measurement, at least 200 on a GPU; each shows another moment."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "size", "samples", "frames")


@dataclass(frozen=True)
class SurfHeadBenchOptions:
    """Time training steps of SurfHead on a head of FLAME's size, every term of its loss on."""

    num: int = 100_000
    """Surfels."""
    width: int = 550
    """Of the images."""
    height: int = 802
    """Of the images."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "num", "width", "height")


def main(arguments: list[str]) -> None:
    """Run one benchmark."""
    if not arguments or asks_for_help(arguments):
        about = {name: line for name, (_, line) in _SUBCOMMANDS.items()}
        text = "Time the kernels on this machine. `vultus bench SUBCOMMAND --help` lists options."
        console.print(subcommand_help("vultus bench SUBCOMMAND [options]", text, about))
        return
    name, *rest = arguments
    if name not in _SUBCOMMANDS:
        raise ValueError(f"vultus bench {name} does not exist; choose from {sorted(_SUBCOMMANDS)}")
    _SUBCOMMANDS[name][0](rest)


def _rays(arguments: list[str]) -> None:
    """Print the table of ray queries."""
    options = parse_arguments(RayBenchOptions, arguments, prog="vultus bench rays")
    if options.dry_run:
        size = f"{options.size} x {options.size}"
        console.print(f"would trace {options.num_faces} faces at {size}")
        return
    rows: list[Row] = []
    for device in _devices():
        repeats = _repeats(options.repeats, device)
        rows += bench_rays(options.num_faces, options.size, repeats, device=device)
    cells = []
    for row in rows:
        count = int(row.facts["num_rays"])
        time = row.total
        rate = 1e-6 * count / time.median if count else None
        names = [row.facts["query"], row.implementation, row.mode]
        cells.append([*names, count or None, 1e3 * time.median, 1e3 * time.minimum, rate])
    columns = ["query", "implementation", "mode", "rays", "ms", "fastest ms", "Mrays/s"]
    print_table(rows[0].scene, columns, cells)
    _write(options.json, rows)


def _training(arguments: list[str]) -> None:
    """Print the tables of training steps and their parts."""
    options = parse_arguments(TrainingBenchOptions, arguments, prog="vultus bench training")
    prototypes = None
    if options.gpu_prototype is not None:
        raster, step = options.gpu_prototype
        needed = (RASTERS["gaussians"], "pack_cam", "planar")
        prototypes = load_module(raster, needed), load_module(step, ("Loss", "Adam"))
    if options.dry_run:
        size = f"{options.size} x {options.size}"
        console.print(f"would time {options.batch} images of {size}, {options.num} Gaussians")
        return
    rows: list[Row] = []
    for device in _devices():
        repeats = _repeats(options.repeats, device)
        timed = [
            *bench_ssim(options.batch, options.size, repeats, device=device),
            *bench_adam(options.num, repeats, device=device),
            *bench_training_step(
                options.num,
                options.size,
                repeats,
                device=device,
                prototypes=prototypes if device == "cuda" else None,
            ),
        ]
        print_rows(timed, ("ref", "torch", "prototype", "gsplat", "faster-gs"))
        rows += timed
    _write(options.json, rows)


def _surfhead(arguments: list[str]) -> None:
    """Print what a step of a whole method takes."""
    options = parse_arguments(SurfHeadBenchOptions, arguments, prog="vultus bench surfhead")
    device = _devices()[-1]
    sizes = options.num, options.width, options.height
    scene = f"SurfHead, {options.num} surfels, {options.width} x {options.height}"
    if options.dry_run:
        console.print(f"would train {scene} on {device}")
        return
    facts = dict(zip(("num", "width", "height"), sizes, strict=True)) | {"bench": "surfhead"}
    rows = [
        Row(scene, device, step.implementation, {"step": step.timing}, step.memory or None, facts)
        for step in bench_surfhead_steps(*sizes, device=device)
    ]
    print_rows(rows)
    _write(options.json, rows)


def _start(arguments: list[str]) -> None:
    """Print how long first passes take."""
    options = parse_arguments(StartBenchOptions, arguments, prog="vultus bench start")
    if options.dry_run:
        console.print(f"would start {2 * options.repeats * len(options.primitives)} processes")
        return
    rows = [row for name in options.primitives for row in bench_start(name, options.repeats)]
    print_rows(rows, unit="seconds")
    _write(options.json, rows)


def _studio(arguments: list[str]) -> None:
    """Print the time of pictures."""
    options = parse_arguments(StudioBenchOptions, arguments, prog="vultus bench studio")
    if options.dry_run:
        size = f"{options.size} x {options.size}"
        console.print(f"would take {options.frames} pictures of {size} in each measurement")
        return
    rows: list[Row] = []
    for device in _devices():
        frames = max(options.frames, _GPU_PICTURES) if device == "cuda" else options.frames
        rows += bench_studio(options.size, options.samples, frames, device)
    table = [
        [
            row.facts["shadows"],
            row.implementation,
            row.mode,
            1e3 * row.total.median,
            1e3 * row.total.minimum,
            1.0 / row.total.median,
        ]
        for row in rows
    ]
    rays = options.samples**2
    print_table(
        f"studio, {options.size} x {options.size}, {rays} rays a pixel",
        ["shadows", "implementation", "mode", "ms a picture", "fastest", "pictures/s"],
        table,
    )
    _write(options.json, rows)


def _devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _repeats(repeats: int, device: str) -> int:
    return max(repeats, GPU_REPEATS) if device == "cuda" else repeats


def _write(path: Path | None, rows: list[Row]) -> None:
    if path is not None:
        write_rows(path, rows)


_SUBCOMMANDS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "raster": (run_raster, "the rasterizers of 3D Gaussians and of surfels"),
    "rays": (_rays, "rays against a mesh"),
    "mesh": (run_mesh, "rasterization of a mesh"),
    "training": (_training, "training steps of Gaussians, L1 with SSIM, Adam"),
    "surfhead": (_surfhead, "training steps of SurfHead"),
    "gaussianhead": (run_gaussianhead, "training steps of GaussianHead, pictures and their parts"),
    "spherehead": (run_spherehead, "images of SphereHead's generator, and a pass with gradients"),
    "gsheadrelight": (run_gsheadrelight, "GSHeadRelight's heads, relighting, and gradients"),
    "render": (run_render, "pictures of a trained avatar"),
    "start": (_start, "the first pass in a new process"),
    "studio": (_studio, "pictures of the virtual studio"),
    "volume": (run_volume, "rays through feature planes"),
    "shading": (run_shading, "Gaussians lit by environment maps, and their visibility"),
    "relighting": (run_relighting, "a relit avatar's picture, part by part"),
}
"""Name -> (its function, one line for ``vultus bench --help``)."""

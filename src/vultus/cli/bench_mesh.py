"""``vultus bench mesh``: rasterization of a mesh, and its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.bench.mesh_raster import bench_mesh_raster
from vultus.bench.results import Row, write_rows
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments

__all__ = ["MeshBenchOptions", "run_mesh"]

_GPU_REPEATS = 50


@dataclass(frozen=True)
class MeshBenchOptions:
    """Draw a head-like mesh on the CPU, and on the GPU where there is one."""

    num_faces: int = 40_000
    """Triangles of the mesh, about: FLAME's, subdivided once."""
    batch: int = 4
    """Pictures at once."""
    size: int = 512
    """Their width and height."""
    repeats: int = 5
    """Timed calls of each function, at least 50 on a GPU."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "num_faces", "batch", "size", "repeats")


def run_mesh(arguments: list[str]) -> None:
    """Print the tables of both devices."""
    options = parse_arguments(MeshBenchOptions, arguments, prog="vultus bench mesh")
    sizes = options.num_faces, options.batch, options.size
    if options.dry_run:
        console.print(f"would draw {sizes[0]} faces in {sizes[1]} x {sizes[2]} x {sizes[2]} pixels")
        return
    rows: list[Row] = bench_mesh_raster(*sizes, options.repeats)
    if torch.cuda.is_available():
        rows += bench_mesh_raster(*sizes, max(options.repeats, _GPU_REPEATS), device="cuda")
    print_rows(rows)
    if options.json is not None:
        write_rows(options.json, rows)

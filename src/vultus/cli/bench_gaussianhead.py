"""``vultus bench gaussianhead``: pictures and training steps of GaussianHead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vultus.bench.gaussianhead import bench_gaussianhead
from vultus.bench.results import write_rows
from vultus.cli.bench_raster import GPU_REPEATS
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.core.devices import find_device
from vultus.methods.gaussianhead.derivation import DerivationMode

__all__ = ["GaussianHeadBenchOptions", "run_gaussianhead"]


@dataclass(frozen=True)
class GaussianHeadBenchOptions:
    """Time pictures of GaussianHead, their parts, and its training steps."""

    num: int = 25_000
    """Gaussians."""
    size: int = 512
    """Width and height of the images."""
    derivation: DerivationMode = "paper"
    """Rule; see train."""
    repeats: int = 11
    """Timed pictures, at least 50 on a GPU."""
    device: str = "auto"
    """What computes: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "num", "size", "repeats")


def run_gaussianhead(arguments: list[str]) -> None:
    """Print what pictures and steps take."""
    options = parse_arguments(GaussianHeadBenchOptions, arguments, prog="vultus bench gaussianhead")
    device = find_device(options.device)
    if options.dry_run:
        size = f"{options.size} x {options.size}"
        console.print(f"would draw and train {options.num} Gaussians, {size}, on {device}")
        return
    is_on_gpu = device.type == "cuda"
    rows = bench_gaussianhead(
        options.num,
        options.size,
        max(options.repeats, GPU_REPEATS) if is_on_gpu else options.repeats,
        derivation=options.derivation,
        device=device,
    )
    print_rows(rows)
    if options.json is not None:
        write_rows(options.json, rows)

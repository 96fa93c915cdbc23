"""``vultus bench``: time the kernels on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from vultus.bench.raster import RasterResult, bench_reference, bench_surfels, load_prototype
from vultus.cli.console import console, print_table

__all__ = ["RasterBenchOptions", "main"]


@dataclass(frozen=True)
class RasterBenchOptions:
    """Time forward and backward passes of the surfel rasterizer on a head-like scene."""

    num: int = 20_000
    """Surfels."""
    size: int = 256
    """Width and height of the image."""
    repeats: int = 11
    """Timed calls of each implementation; they alternate."""
    reference_num: int = 500
    """Surfels of the comparison with the oracle, which cannot hold a large scene in memory."""
    reference_size: int = 64
    prototype: Path | None = None
    """Python file of a prototype to compare with, in the same process."""
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        for name in ("num", "size", "repeats", "reference_num", "reference_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be positive, got {getattr(self, name)}")


def main(arguments: list[str]) -> None:
    """Run one benchmark."""
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print("usage: vultus bench {raster} [options]\n\n  raster  the surfel rasterizer")
        return
    name, *rest = arguments
    if name not in _SUBCOMMANDS:
        raise ValueError(f"vultus bench {name} does not exist; choose from {sorted(_SUBCOMMANDS)}")
    _SUBCOMMANDS[name](rest)


def _raster(arguments: list[str]) -> None:
    """Print the tables of the surfel rasterizer."""
    options = tyro.cli(
        RasterBenchOptions,
        args=arguments,
        prog="vultus bench raster",
        description="Time the surfel rasterizer: RGB of degree-3 SH, alpha, depth, normal and "
        "distortion, forward and backward, implementations in alternation.",
    )
    prototype = None if options.prototype is None else load_prototype(options.prototype)
    if options.dry_run:
        console.print(f"would time {options.num} surfels at {options.size} x {options.size}")
        return
    results = bench_reference(options.reference_num, options.reference_size, options.repeats)
    _print_results(results, baseline="ref")
    results = bench_surfels(options.num, options.size, options.repeats, prototype)
    _print_results(results, baseline="cpu" if prototype is None else "prototype")


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


_SUBCOMMANDS: dict[str, Callable[[list[str]], None]] = {"raster": _raster}

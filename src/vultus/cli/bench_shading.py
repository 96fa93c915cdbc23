"""``vultus bench shading``: Gaussians lit by environment maps, and their visibility."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vultus.bench.env_shade import ShadeBenchScene, bench_shading, bench_tracing
from vultus.bench.results import write_rows
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments

__all__ = ["ShadingBenchOptions", "run_shading"]

_GPU_REPEATS = 50
_CPU_SHARE = 10
"""The CPU shades so many times fewer Gaussians."""


@dataclass(frozen=True)
class ShadingBenchOptions:
    """Shade Gaussians and trace probes on the CPU, and on the GPU where there is one."""

    num: int = 70_000
    """Gaussians; a tenth on the CPU."""
    height: int = 16
    """Rows of the environment map, which is twice as wide."""
    num_faces: int = 20_000
    """Triangles of the mesh that casts the shadows, about."""
    repeats: int = 5
    """Timed calls of each implementation, at least 50 on a GPU."""
    ref: bool = False
    """Time the reference, too; its memory grows with Gaussians times texels."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "num", "height", "num_faces", "repeats")


def run_shading(arguments: list[str]) -> None:
    """Print the tables of both devices."""
    options = parse_arguments(ShadingBenchOptions, arguments, prog="vultus bench shading")
    scene = ShadeBenchScene(options.num, options.height, options.num_faces)
    scenes = {"cpu": replace(scene, num=max(scene.num // _CPU_SHARE, 1))}
    if torch.cuda.is_available():
        scenes["cuda"] = scene
    if options.dry_run:
        console.print(f"would shade {' and '.join(scene.name for scene in scenes.values())}")
        return
    shading, tracing = [], []
    for device, each in scenes.items():
        repeats = max(options.repeats, _GPU_REPEATS) if device == "cuda" else options.repeats
        shading += bench_shading(each, repeats, device=device, has_reference=options.ref)
        tracing += bench_tracing(each, repeats, device=device)
    print_rows(shading, ("ref",))
    print_rows(tracing)
    if options.json is not None:
        write_rows(options.json, shading + tracing)

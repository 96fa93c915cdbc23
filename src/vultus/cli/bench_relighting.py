"""``vultus bench relighting``: frames of avatars with materials, and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vultus.bench.relighting import RelightBenchScene, bench_relighting
from vultus.bench.results import write_rows
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments

__all__ = ["RelightingBenchOptions", "run_relighting"]

_GPU_REPEATS = 50
_CPU_SHARE = 10
"""The CPU draws so many times fewer Gaussians on a quarter of the pixels."""


@dataclass(frozen=True)
class RelightingBenchOptions:
    """Blend, pose, trace, shade and splat on the CPU, and on the GPU where there is one."""

    num: int = 70_000
    """Gaussians, about; a tenth on the CPU."""
    size: int = 512
    """Width and height of the picture; half on the CPU."""
    map_rows: int = 16
    """Rows of the environment map, which is twice as wide."""
    num_expressions: int = 50
    """Expressions with blendshapes."""
    occluder_faces: int | None = None
    """Decimate the mesh that hides light to so many faces, or as few as its borders and topology
    allow; default: all of them."""
    repeats: int = 5
    """Timed calls of each part, at least 50 on a GPU."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "num", "size", "map_rows", "num_expressions", "repeats")
        if self.occluder_faces is not None:
            require_positive(self, "occluder_faces")


def run_relighting(arguments: list[str]) -> None:
    """Print the tables of both devices."""
    options = parse_arguments(RelightingBenchOptions, arguments, prog="vultus bench relighting")
    scene = RelightBenchScene(
        options.num,
        options.size,
        options.map_rows,
        options.num_expressions,
        options.occluder_faces,
    )
    small = replace(scene, num=max(scene.num // _CPU_SHARE, 100), size=max(scene.size // 2, 8))
    scenes = {"cpu": small}
    if torch.cuda.is_available():
        scenes["cuda"] = scene
    if options.dry_run:
        console.print(f"would draw {' and '.join(each.name for each in scenes.values())}")
        return
    rows = []
    for device, each in scenes.items():
        repeats = max(options.repeats, _GPU_REPEATS) if device == "cuda" else options.repeats
        rows += bench_relighting(each, repeats, device=device)
    print_rows(rows)
    if options.json is not None:
        write_rows(options.json, rows)

"""``vultus bench volume``: rays through feature planes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.bench.prototypes import load_module
from vultus.bench.results import Row, write_rows
from vultus.bench.volume import PROTOTYPE_NAMES, VolumeScene, bench_volume
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.kernels.triplane_volume import DecoderActivation

__all__ = ["VolumeBenchOptions", "run_volume"]

_GPU_REPEATS = 50


@dataclass(frozen=True)
class VolumeBenchOptions:
    """Render feature planes of two spheres on the CPU, and on the GPU where there is one."""

    batch: int = 4
    """Images; the CPU renders one."""
    size: int = 128
    """Width and height of the images, one ray per pixel; half of it on the CPU."""
    plane_size: int = 256
    """Side of the planes."""
    activation: DecoderActivation = "none"
    """Of the decoder."""
    repeats: int = 5
    """Timed calls of each implementation, at least 50 on a GPU."""
    ref: bool = False
    """Time the reference, too; it takes 20 GiB at the default size."""
    gpu_prototype: Path | None = None
    """Triton prototype of this kernel."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "batch", "size", "plane_size", "repeats")


def run_volume(arguments: list[str]) -> None:
    """Print the tables of both devices."""
    options = parse_arguments(VolumeBenchOptions, arguments, prog="vultus bench volume")
    prototype = None
    if options.gpu_prototype is not None:
        prototype = load_module(options.gpu_prototype, PROTOTYPE_NAMES)
    planes = options.plane_size, options.activation
    scenes = {"cpu": VolumeScene(1, max(options.size // 2, 1), *planes)}
    if torch.cuda.is_available():
        scenes["cuda"] = VolumeScene(options.batch, options.size, *planes)
    if options.dry_run:
        console.print(f"would render {' and '.join(scene.name for scene in scenes.values())}")
        return
    rows: list[Row] = []
    for device, scene in scenes.items():
        rows += bench_volume(
            scene,
            max(options.repeats, _GPU_REPEATS) if device == "cuda" else options.repeats,
            device=device,
            prototype=prototype if device == "cuda" else None,
            has_reference=options.ref,
        )
    print_rows(rows, ("ref", "prototype"))
    if options.json is not None:
        write_rows(options.json, rows)

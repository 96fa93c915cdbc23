"""``vultus bench spherehead``: images of the generator, and passes with gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vultus.bench.results import write_rows
from vultus.bench.spherehead import bench_spherehead, psnr_of_half_precision
from vultus.cli.bench_raster import GPU_REPEATS
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.core.devices import find_device
from vultus.methods.spherehead.config import GeneratorConfig, SuperResolutionKind

__all__ = ["SphereHeadBenchOptions", "run_spherehead"]

_COMPARED_PEOPLE = 4


@dataclass(frozen=True)
class SphereHeadBenchOptions:
    """Time images of SphereHead's generator, their parts, and a pass with gradients."""

    batch: int = 1
    """Images at once, without gradients."""
    training_batch: int = 4
    """Images of the pass with gradients; 0 for none, as on the CPU it takes minutes."""
    neural_size: int = 128
    """Side of the rendered feature image."""
    super_resolution: SuperResolutionKind = "8x_wide"
    """Networks to the final image, of 512, 512, 256, 128 and 64 pixels."""
    plane_size: int = 256
    """Side of the planes."""
    channel_max: int = 512
    """Largest number of channels of a layer."""
    repeats: int = 3
    """Timed calls of each part, at least 50 on a GPU."""
    device: str = "auto"
    """What computes: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "batch", "neural_size", "plane_size", "channel_max", "repeats")
        if self.training_batch < 0:
            raise ValueError(f"--training-batch must be at least 0, got {self.training_batch}")


def run_spherehead(arguments: list[str]) -> None:
    """Print what images and gradients take."""
    options = parse_arguments(SphereHeadBenchOptions, arguments, prog="vultus bench spherehead")
    device = find_device(options.device)
    config = replace(
        GeneratorConfig(),
        neural_size=options.neural_size,
        super_resolution=options.super_resolution,
        plane_size=options.plane_size,
        channel_max=options.channel_max,
    )
    if options.dry_run:
        size = f"{config.image_size} x {config.image_size}"
        console.print(f"would make {options.batch} images of {size} on {device}")
        return
    is_on_gpu = device.type == "cuda"
    rows = bench_spherehead(
        config,
        options.batch,
        options.training_batch,
        max(options.repeats, GPU_REPEATS) if is_on_gpu else options.repeats,
        device=device,
    )
    print_rows(rows)
    if is_on_gpu:
        psnr = psnr_of_half_precision(config, _COMPARED_PEOPLE, device)
        console.print(f"images of half precision against single: {psnr:.1f} dB")
    if options.json is not None:
        write_rows(options.json, rows)

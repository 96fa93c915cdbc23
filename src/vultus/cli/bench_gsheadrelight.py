"""``vultus bench gsheadrelight``: generation, relighting, and passes with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vultus.bench.gsheadrelight import ONE_BY_ONE, bench_gsheadrelight
from vultus.bench.results import write_rows
from vultus.cli.bench_raster import GPU_REPEATS
from vultus.cli.bench_tables import print_rows, require_positive
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.core.devices import find_device
from vultus.methods.gsheadrelight.presets import PRESETS

__all__ = ["GSHeadRelightBenchOptions", "run_gsheadrelight"]

_LARGE, _SMALL = "ffhq512", "small"
_MOST_LIGHTS = 21


@dataclass(frozen=True)
class GSHeadRelightBenchOptions:
    """Time GSHeadRelight's generator with random weights."""

    preset: str | None = None
    """Of train; default: ffhq512 on a GPU, small on the CPU."""
    batch: int = 8
    """Heads that are relit at once."""
    lights: int = 8
    """Lights of one head at once, at most 21."""
    training_batch: int = 4
    """Heads of the pass with gradients; 0 for none."""
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
        require_positive(self, "batch", "lights", "repeats")
        if self.lights > _MOST_LIGHTS:
            raise ValueError(f"--lights must be at most {_MOST_LIGHTS}, got {self.lights}")
        if self.training_batch < 0:
            raise ValueError(f"--training-batch must be at least 0, got {self.training_batch}")
        if self.preset is not None and self.preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise ValueError(f"--preset must be one of {known}, got {self.preset!r}")


def run_gsheadrelight(arguments: list[str]) -> None:
    """Print what heads, relighting and gradients take."""
    options = parse_arguments(
        GSHeadRelightBenchOptions, arguments, prog="vultus bench gsheadrelight"
    )
    device = find_device(options.device)
    is_on_gpu = device.type == "cuda"
    config = PRESETS[options.preset or (_LARGE if is_on_gpu else _SMALL)].generator
    if options.dry_run:
        size = f"{config.image_size} x {config.image_size}"
        console.print(f"would relight {config.num_gaussians} Gaussians at {size} on {device}")
        return
    rows = bench_gsheadrelight(
        config,
        options.batch,
        options.training_batch,
        options.lights,
        max(options.repeats, GPU_REPEATS) if is_on_gpu else options.repeats,
        device=device,
    )
    print_rows(rows, (ONE_BY_ONE,))
    if options.json is not None:
        write_rows(options.json, rows)

"""``vultus bench render``: pictures per second of a trained avatar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vultus.bench.rendering import bench_rendering, fit_camera
from vultus.bench.results import write_rows
from vultus.cli.avatar_run import open_run
from vultus.cli.bench_tables import require_positive
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments

__all__ = ["RenderBenchOptions", "run_render"]

_FRAMES = {"cpu": 20, "cuda": 500}
"""A CPU takes tenths of a second for one; 500 are what GaussianAvatars renders."""


@dataclass(frozen=True)
class RenderBenchOptions:
    """Time an avatar's own pictures, with colour, depth and normals, the mesh update included."""

    run: Path
    """Folder that train wrote."""
    width: int = 550
    """Of the pictures; the default is that of NeRSemble at half its size."""
    height: int = 802
    """Of the pictures."""
    frames: int | None = None
    """Pictures per measurement (official --n_iter); default: 20, on a GPU 500."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "auto"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    json: Path | None = None
    """File for all rows and facts about the machine."""
    dry_run: bool = False
    """Check the options, run nothing."""

    def __post_init__(self) -> None:
        """Reject sizes that cannot be timed."""
        require_positive(self, "width", "height")
        if self.frames is not None:
            require_positive(self, "frames")


def run_render(arguments: list[str]) -> None:
    """Print the time of pictures and how many fit into a second."""
    options = parse_arguments(RenderBenchOptions, arguments, prog="vultus bench render")
    opened = open_run(options.run, options.data, options.device, options.step)
    device = opened.avatar.device.type
    camera = opened.sequence.split("train")[0].camera
    camera = fit_camera(camera, options.width, options.height)
    frames = options.frames or _FRAMES.get(device, _FRAMES["cpu"])
    size = ", ".join(f"{count} {name}" for name, count in opened.avatar.summary().items())
    scene = f"{opened.method_name}, {size}, {options.width} x {options.height}, {device}"
    if options.dry_run:
        console.print(f"would render {frames} pictures: {scene}")
        return
    rows = bench_rendering(opened.avatar, camera, frames, scene=scene)
    table = [
        [
            row.implementation,
            row.mode,
            1e3 * row.total.median,
            1e3 * row.total.minimum,
            1.0 / row.total.median,
        ]
        for row in rows
    ]
    print_table(scene, ["poses", "mode", "ms a picture", "fastest", "pictures/s"], table)
    if options.json is not None:
        write_rows(options.json, rows)

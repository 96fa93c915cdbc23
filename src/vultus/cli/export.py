"""``vultus export``: hand an avatar over to other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vultus.cli.avatar_run import open_run
from vultus.cli.console import console
from vultus.gaussians.posed import thicken
from vultus.gaussians.splat_files import write_splats

__all__ = ["ExportOptions", "main"]


@dataclass(frozen=True)
class ExportOptions:
    """Write the avatar's surfels."""

    run: Path
    """Folder that train wrote."""
    format: Literal["ply", "surfhead-ply"] = "ply"
    """ply: posed in the world, 3DGS layout that splat viewers read; surfhead-ply: bound to the
    rig's faces, official SurFhead layout."""
    out: Path | None = None
    """Default: RUN/media/avatar.ply."""
    timestep: int = 0
    """Pose of the posed formats."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    dry_run: bool = False


def main(arguments: list[str]) -> None:
    """Export."""
    options = tyro.cli(ExportOptions, args=arguments, prog="vultus export", description=__doc__)
    opened = open_run(options.run, options.data)
    out = options.out or opened.folder.media_path / "avatar.ply"
    track = opened.avatar.track
    if not 0 <= options.timestep < len(track):
        raise ValueError(f"--timestep must be 0 to {len(track) - 1}, got {options.timestep}")
    if options.dry_run:
        console.print(f"would write {out}")
        return
    if options.format == "ply":
        write_splats(out, thicken(opened.avatar.splats(track[options.timestep])))
    else:
        write_splats(out, opened.avatar.splats(None))
    console.print(f"splats: {out}")

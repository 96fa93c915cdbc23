"""``vultus export``: hand an avatar over to other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vultus.cli.avatar_run import open_run, output_path
from vultus.cli.console import console
from vultus.gaussians.posed import thicken
from vultus.gaussians.splat_files import write_splats

__all__ = ["ExportOptions", "main"]

_NAMES = {"ply": "avatar.ply", "surfhead-ply": "avatar_bound.ply"}


@dataclass(frozen=True)
class ExportOptions:
    """Write the avatar's surfels."""

    run: Path
    """Folder that train wrote."""
    format: Literal["ply", "surfhead-ply"] = "ply"
    """ply: posed in the world, 3DGS layout that splat viewers read; surfhead-ply: bound to the
    rig's faces, official SurFhead layout."""
    out: Path | None = None
    """Default: RUN/media/avatar.ply, and avatar_bound.ply for surfhead-ply."""
    timestep: int = 0
    """Moment of the capture whose pose the posed formats have."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Export."""
    options = tyro.cli(ExportOptions, args=arguments, prog="vultus export", description=__doc__)
    opened = open_run(options.run, options.data, options.device)
    out = output_path(options.out, opened.folder.media_path / _NAMES[options.format], [".ply"])
    pose = opened.pose(options.timestep)
    if options.dry_run:
        console.print(f"would write {out}")
        return
    if options.format == "ply":
        splats = thicken(opened.avatar.splats(pose))
    else:
        splats = opened.avatar.splats(None)
    write_splats(out, splats)
    console.print(f"splats: {out} ({len(splats)} splats)")

"""``vultus export``: hand an avatar over to other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console
from vultus.gaussians.posed import thicken
from vultus.gaussians.splat_files import write_splats
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.official import official_from_avatar, write_official

__all__ = ["ExportOptions", "main"]

_NAMES = {"ply": "avatar.ply", "surfhead-ply": "avatar_bound.ply", "surfhead": "surfhead"}


@dataclass(frozen=True)
class ExportOptions:
    """Write the avatar's surfels."""

    run: Path
    """Folder that train wrote."""
    format: Literal["ply", "surfhead-ply", "surfhead"] = "ply"
    """ply: posed in the world, 3DGS layout that splat viewers read; surfhead-ply: bound to the
    rig's faces, official SurFhead layout; surfhead: model folder for the official SurFhead program
    (FLAME only)."""
    out: Path | None = None
    """File, or for surfhead a new folder. Default: RUN/media/avatar.ply, avatar_bound.ply,
    surfhead."""
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
    if options.format == "surfhead":
        _write_model_folder(opened, options)
        return
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


def _write_model_folder(opened: OpenRun, options: ExportOptions) -> None:
    """Write what the official program trains and renders."""
    out = options.out or opened.folder.media_path / _NAMES["surfhead"]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"--out: {out} must be a new or empty folder")
    if not isinstance(opened.avatar, SurfHead):
        raise ValueError(f"--format surfhead needs a run of surfhead, not of {opened.method_name}")
    is_white = opened.sequence.background == (1.0, 1.0, 1.0)
    official = official_from_avatar(opened.avatar, opened.step, white=is_white)
    if options.dry_run:
        console.print(f"would write {out}")
        return
    write_official(out, official)
    console.print(f"model: {out}")

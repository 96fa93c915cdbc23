"""``vultus export``: hand an avatar over to other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vultus.cli.avatar_run import OpenRun, open_run, output_path
from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.gaussians.posed import thicken
from vultus.gaussians.splat_files import write_splats
from vultus.methods.gaussianhead.model import GaussianHead
from vultus.methods.gaussianhead.official import write_official as write_gaussianhead
from vultus.methods.gaussianhead.official_avatar import official_from_avatar as gaussianhead_model
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.official import write_official as write_blendshapes
from vultus.methods.relightable_blendshapes.official_avatar import (
    official_from_avatar as blendshapes_model,
)
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.official import official_from_avatar, write_official

__all__ = ["ExportOptions", "main"]

_NAMES = {
    "ply": "avatar.ply",
    "surfhead-ply": "avatar_bound.ply",
    "surfhead": "surfhead",
    "gaussianhead": "gaussianhead",
    "gaussian_blendshapes": "gaussian_blendshapes",
}
_FOLDERS = {
    "surfhead": "surfhead",
    "gaussianhead": "gaussianhead",
    "gaussian_blendshapes": "relightable_blendshapes",
}
"""Model folders of published programs, and the methods whose runs become one."""


@dataclass(frozen=True)
class ExportOptions:
    """Write the avatar's surfels or Gaussians."""

    run: Path
    """Folder that train wrote."""
    format: Literal["ply", "surfhead-ply", "surfhead", "gaussianhead", "gaussian_blendshapes"] = (
        "ply"
    )
    """ply: posed in the world, 3DGS layout that splat viewers read; surfhead-ply: bound to the
    rig's faces, official SurFhead layout; surfhead: model folder for the official SurFhead program
    (FLAME only); gaussianhead: model folder for the official GaussianHead program (runs of its
    preset official); gaussian_blendshapes: model folder for the official program of that name (runs
    of relightable_blendshapes with its colours, FLAME only)."""
    out: Path | None = None
    """File, or for a model folder a new one. Default: RUN/media/avatar.ply, avatar_bound.ply,
    surfhead, gaussianhead, gaussian_blendshapes."""
    timestep: int = 0
    """Moment of the capture whose pose the posed formats have."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Export."""
    options = parse_arguments(ExportOptions, arguments, prog="vultus export", description=__doc__)
    opened = open_run(options.run, options.data, options.device, options.step)
    if options.format in _FOLDERS:
        _write_model_folder(opened, options)
        return
    out = output_path(options.out, opened.folder.media_path / _NAMES[options.format], [".ply"])
    pose = opened.pose(options.timestep)
    if options.dry_run:
        console.print(f"would write {out}")
        return
    is_bound = options.format == "surfhead-ply"
    if is_bound and not isinstance(opened.avatar, SurfHead):
        raise ValueError(f"--format surfhead-ply needs a run of surfhead, not {opened.method_name}")
    splats = opened.avatar.splats(None if is_bound else pose)
    if not is_bound and splats.log_scales.shape[1] == 2:
        splats = thicken(splats)
    write_splats(out, splats)
    console.print(f"splats: {out} ({len(splats)} splats)")


def _write_model_folder(opened: OpenRun, options: ExportOptions) -> None:
    """Write what the official program trains and renders."""
    out = options.out or opened.folder.media_path / _NAMES[options.format]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"--out: {out} must be a new or empty folder")
    method = _FOLDERS[options.format]
    if opened.method_name != method:
        raise ValueError(
            f"--format {options.format} needs a run of {method}, not of {opened.method_name}"
        )
    write = _model_writer(opened)
    if options.dry_run:
        console.print(f"would write {out}")
        return
    write(out)
    console.print(f"model: {out}")


def _model_writer(opened: OpenRun) -> Callable[[Path], None]:
    """Check that the avatar can be written, and return what writes it."""
    if isinstance(opened.avatar, GaussianHead):
        model = gaussianhead_model(opened.avatar, opened.step)
        return lambda out: write_gaussianhead(out, model)
    if isinstance(opened.avatar, RelightableBlendshapes):
        published = blendshapes_model(opened.avatar, opened.step)
        return lambda out: write_blendshapes(out, published)
    assert isinstance(opened.avatar, SurfHead)
    is_white = opened.sequence.background == (1.0, 1.0, 1.0)
    official = official_from_avatar(opened.avatar, opened.step, white=is_white)
    return lambda out: write_official(out, official)

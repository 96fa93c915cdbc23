"""``vultus demo``: film a procedural head, learn it, measure it, let it speak."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import (
    DataOptions,
    OpenRun,
    check_run_folder,
    open_or_create_run,
    run_settings,
)
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.cli.render import path_cameras
from vultus.core.devices import find_device
from vultus.core.seeding import seed_everything
from vultus.core.video_io import write_video
from vultus.data.frame_store import FrameStore
from vultus.data.readers import read_sequence
from vultus.data.sequence import HeadSequence
from vultus.data.studio.capture import demo_config, film, plan_film
from vultus.engine.fit import fit
from vultus.export.avatar_mesh import FusionSettings, fuse_mesh
from vultus.export.films import comparison_film, path_film
from vultus.export.mesh_files import write_mesh
from vultus.export.pictures import side_by_side
from vultus.export.run_report import (
    evaluate_run,
    evaluation_tables,
    write_contact_sheet,
    write_run_report,
)
from vultus.gaussians.posed import thicken
from vultus.gaussians.splat_files import write_splats
from vultus.methods.registry import build_method, method_presets
from vultus.metrics.protocols import PROTOCOLS

__all__ = ["DemoOptions", "main"]

_METHOD, _PRESET, _PROTOCOL = "surfhead", "demo", "demo-v1"
_MESH_VIEWS, _MESH_RESOLUTION = 24, 192


@dataclass(frozen=True)
class DemoOptions:
    """Film an embedded subject in the virtual studio, train an avatar of it, show the result.

    Takes about five minutes on two CPU cores.
    """

    out: Path = Path("demo")
    """Folder for everything; a stopped demo continues where it was."""
    seed: int = 0
    """Subject, performance and training."""
    steps: int | None = None
    """Training steps; default: those of the demo preset."""
    device: str = "cpu"
    """What films, trains and renders: cpu, cuda, cuda:N, or auto, which takes a GPU where there is
    one."""
    fresh: bool = False
    """Delete an earlier demo in the folder first; other files stay."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Run the stages; each is skipped if its result is there."""
    options = parse_arguments(DemoOptions, arguments, prog="vultus demo", description=__doc__)
    config = method_presets(_METHOD)[_PRESET]
    if options.steps is not None:
        config = replace(config, steps=options.steps)
    capture, run_path = options.out / "capture", options.out / "run"
    data, device = DataOptions(capture), find_device(options.device)
    settings = run_settings(_METHOD, options.seed, data, config)
    if options.fresh and not options.dry_run:
        _clear(options.out)
    if not options.fresh:
        _check_folder(capture, run_path, settings)
    if options.dry_run:
        console.print(f"would film, train {config.steps} steps and write {options.out}")
        return
    film(demo_config(options.seed), capture, device=device)
    sequence = read_sequence(capture)
    run = open_or_create_run(run_path, settings)
    seed_everything(options.seed)
    avatar = build_method(_METHOD, config, sequence, options.seed, device)
    with run.stage("training"):
        fit(avatar, FrameStore(sequence, "train"), config, run, options.seed)
    opened = OpenRun(run, _METHOD, config, options.seed, data, sequence, avatar, config.steps)
    _show(opened, options.out)


def _check_folder(capture: Path, run: Path, settings: Any) -> None:
    """Raise if the folder holds a demo of other settings: it must not be mixed with this one."""
    try:
        plan_film(demo_config(settings.seed), capture)
        check_run_folder(run, settings)
    except ValueError as error:
        raise ValueError(f"{error}; --fresh deletes the earlier demo") from error


def _clear(out: Path) -> None:
    """Delete what a demo writes and nothing else."""
    for folder, mark in ((out / "capture", "studio.json"), (out / "run", "config.json")):
        if (folder / mark).is_file():
            shutil.rmtree(folder)
    for name in ("film.mp4", "report.html"):
        (out / name).unlink(missing_ok=True)


def _show(opened: OpenRun, out: Path) -> None:
    run, avatar, sequence = opened.folder, opened.avatar, opened.sequence
    with run.stage("evaluation"):
        results = evaluate_run(run, avatar, sequence, PROTOCOLS[_PROTOCOL])
        tables = evaluation_tables(results)
        sheet = write_contact_sheet(run, avatar, sequence, ("val", "test"))
    with run.stage("film"):
        movie = run.media_path / "film.mp4"
        write_video(movie, _film(opened, sequence), fps=25.0)
    with run.stage("mesh"):
        mesh_path = run.media_path / "mesh.ply"
        mesh = fuse_mesh(
            avatar,
            avatar.track[0],
            path_cameras(opened, "turntable", _MESH_VIEWS),
            FusionSettings(resolution=_MESH_RESOLUTION),
        )
        write_mesh(mesh_path, mesh)
        write_splats(run.media_path / "avatar.ply", thicken(avatar.splats(avatar.track[0])))
    report = write_run_report(
        run,
        "A head that this machine has just learned",
        "Filmed in the virtual studio, learned from three cameras, shown from the fourth. The "
        "last twelve moments were never seen in training.",
        [
            (movie, "truth · avatar · normals, from the held-out camera · avatar turning"),
            (sheet, "truth, avatar, error (brightest: 25 %), normals; held-out camera, then time"),
        ],
        tables,
        [
            (
                "Train on your own capture",
                "vultus train surfhead --preset small --data DIR --out RUN",
            ),
            ("Check a capture first", "vultus data check DIR"),
            ("Drive this avatar", f"vultus reenact --run {run.path} --track expressions"),
        ],
    )
    shutil.copyfile(report, out / "report.html")
    shutil.copyfile(movie, out / "film.mp4")
    for table in tables:
        print_table(table.title, table.columns, table.rows, table.note)
    console.print(f"film: {out / 'film.mp4'}\nreport: {out / 'report.html'}")


def _film(opened: OpenRun, sequence: HeadSequence) -> Iterator[Float[Tensor, "3 h w"]]:
    """Pictures of the moments after the turn that shows the back of the head."""
    held_out = sequence.split("val")[0].camera_index
    records = sorted(
        (record for record in sequence.frames if record.camera_index == held_out),
        key=lambda record: record.timestep,
    )[demo_config(opened.seed).turn_around :]
    cameras = path_cameras(opened, "turntable", len(records))
    poses = opened.avatar.track[torch.tensor([record.timestep for record in records])]
    turning = path_film(opened.avatar, poses, cameras)
    compared = comparison_film(opened.avatar, sequence, records)
    for left, right in zip(compared, turning, strict=True):
        yield side_by_side([left, right])

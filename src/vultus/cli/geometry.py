"""``vultus geometry``: fit the subject's own mesh to a capture, before Gaussians are trained."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from vultus.cli.avatar_run import (
    DataOptions,
    check_out_is_not,
    check_run_folder,
    open_or_create_run,
)
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.core.devices import find_device
from vultus.core.files import write_json
from vultus.core.image_io import write_image
from vultus.core.run_folder import RunFolder
from vultus.core.seeding import exact_on_cpu, make_deterministic, seed_everything
from vultus.core.srgb import linear_to_srgb
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.export.mesh_files import write_mesh
from vultus.export.mesh_pictures import mesh_overlay
from vultus.export.pictures import contact_sheet, normal_picture
from vultus.methods.relightable_blendshapes.geometry_config import (
    PRESETS,
    GeometryConfig,
    scale_schedule,
)
from vultus.methods.relightable_blendshapes.geometry_file import GEOMETRY_FILE
from vultus.methods.relightable_blendshapes.geometry_judging import pictured_normals
from vultus.methods.relightable_blendshapes.geometry_stage import GeometryFit, fit_geometry
from vultus.methods.relightable_blendshapes.geometry_trainer import check_capture

__all__ = ["GeometryOptions", "main"]

_MESH_FILE = "mesh_canonical.obj"
_SHEET_ROWS = 4


@dataclass(frozen=True)
class GeometryOptions:
    """Fit the mesh of a subject: the head model's, with offsets that pictures ask for."""

    data: Annotated[DataOptions, tyro.conf.arg(name="")]
    out: Path
    """Run folder; made if missing, continued if it holds a run of the same settings."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same mesh."""
    resume: bool = True
    """Continue a run that was stopped. With --no-resume an existing run is an error."""
    device: str = "cpu"
    """What computes: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    deterministic: bool = False
    """On a GPU, the same bits in every run; slower. A CPU gives the same bits with as many
    threads."""
    schedule: float = 1.0
    """Multiply every number of steps in the settings below."""
    identity: Literal["tracked", "mean"] = "tracked"
    """Shape to start from: the track's, or the head model's mean shape, which shows how much of a
    subject the stage finds by itself."""
    dry_run: bool = False
    """Check everything, write nothing."""


@dataclass(frozen=True)
class _RunConfig:
    """What ``config.json`` of a run holds."""

    method: str
    seed: int
    identity: str
    data: DataOptions
    config: GeometryConfig


def main(arguments: list[str]) -> None:
    """Parse ``--preset NAME options`` and fit."""
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scan.add_argument("--preset", default="standard")
    preset, rest = scan.parse_known_args(arguments)
    if preset.preset not in PRESETS:
        raise ValueError(f"--preset must be one of {', '.join(PRESETS)}, got {preset.preset!r}")
    default = PRESETS[preset.preset]
    options_type = make_dataclass(
        "Options",
        [
            ("run", Annotated[GeometryOptions, tyro.conf.arg(name="")]),
            ("config", Annotated[GeometryConfig, tyro.conf.arg(name="")], default),
        ],
        frozen=True,
    )
    parsed = parse_arguments(
        options_type,
        rest,
        prog="vultus geometry",
        description="Fit the subject's own mesh to a capture with mattes (stage 1 of Relightable "
        f"Gaussian Blendshapes). --preset: {', '.join(PRESETS)}; the defaults below are those of "
        f"{preset.preset!r}.",
    )
    _fit(parsed.config, parsed.run)


def _fit(config: GeometryConfig, options: GeometryOptions) -> None:
    config = scale_schedule(config, options.schedule)
    device = find_device(options.device)
    sequence = _with_identity(options.data.read(), options.identity)
    located = options.data.located()
    settings = _RunConfig("geometry", options.seed, options.identity, located, config)
    check_out_is_not(options.out, sequence.root, "capture")
    check_run_folder(options.out, settings, resume=options.resume)
    frames = FrameStore(sequence, "train")
    check_capture(sequence, frames)
    if options.dry_run:
        console.print(
            f"would fit a mesh for {config.steps} steps to {len(frames)} images of "
            f"{sequence.root} into {options.out}"
        )
        return
    run = open_or_create_run(options.out, settings, resume=options.resume)
    if options.deterministic:
        make_deterministic()
    seed_everything(options.seed)
    with run.stage("geometry"), exact_on_cpu(device):
        fit = fit_geometry(sequence, frames, config, run, options.seed, device)
    _finish(run, fit)


def _with_identity(sequence: HeadSequence, identity: str) -> HeadSequence:
    if identity == "tracked":
        return sequence
    return replace(sequence, pose=sequence.pose.of_mean_person())


def _finish(run: RunFolder, fit: GeometryFit) -> None:
    """Write the mesh and pictures of it, and print what was measured."""
    geometry = fit.geometry
    geometry.save(run.path / GEOMETRY_FILE)
    write_mesh(run.path / _MESH_FILE, geometry.canonical)
    write_image(run.media_path / "fit.png", _sheet(fit))
    light = geometry.radiance / geometry.radiance.max().clamp(min=1e-6)
    write_image(run.media_path / "light.png", linear_to_srgb(light))
    before, after = fit.before.facts(), fit.after.facts()
    write_json(
        run.path / "geometry_evaluation.json",
        {"split": fit.split, "head": before, "mesh": after},
    )
    count, faces = len(geometry.rest), len(geometry.faces)
    print_table(
        "The head model and the subject's own mesh",
        ["", "head model", "own mesh"],
        [[name.replace("_", " "), before[name], after[name]] for name in before],
        f"frames of {fit.split!r}; {count} vertices, {faces} faces; a dash: the capture does not "
        "know",
    )
    console.print(f"mesh: {run.path / GEOMETRY_FILE}, {run.path / _MESH_FILE}")


@torch.no_grad()
def _sheet(fit: GeometryFit) -> torch.Tensor:
    """Rows of training frames: picture, fit, mesh over the picture, normals before and after."""
    trainer, rows = fit.trainer, []
    mesh, offsets = trainer.mesh, trainer.model.offsets.detach()
    count = min(_SHEET_ROWS, len(trainer.frames))
    for row in torch.linspace(0, len(trainer.frames) - 1, count).round().long():
        batch = trainer.batch(row[None])
        picture = trainer.draw(batch)
        pose = trainer.pose[batch.timesteps]
        shown = []
        for moved in (torch.zeros_like(offsets), offsets):
            vertices = mesh.pose(moved, pose)
            fragments = trainer.rasterize(vertices, batch.camera)
            normals = pictured_normals(vertices, mesh, fragments)[0].cpu()
            shown.append(normal_picture(normals, fragments.is_covered[0].float().cpu()))
        vertices = mesh.pose(offsets, pose)[0].cpu()
        rgb = batch.rgb[0].cpu()
        overlay = mesh_overlay(rgb, vertices, mesh.faces.cpu(), batch.camera.to("cpu"))
        fitted = linear_to_srgb(picture.linear[0].cpu().clamp(0.0, 1.0))
        fitted = fitted + 1.0 - picture.coverage[0].cpu().clamp(0.0, 1.0)
        rows.append([rgb, fitted.clamp(0.0, 1.0), overlay, *shown])
    return contact_sheet(rows)

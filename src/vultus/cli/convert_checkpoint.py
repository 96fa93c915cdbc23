"""``vultus convert-checkpoint``: read models of published programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from tyro.conf import Positional

from vultus.cli.avatar_run import (
    DataOptions,
    check_new_run,
    create_run,
    output_path,
    run_settings,
)
from vultus.cli.console import console, print_table
from vultus.cli.convert_generator import GeneratorSource, convert_generator
from vultus.cli.option_parser import parse_arguments
from vultus.engine.checkpoint import take_checkpoint
from vultus.gaussians.posed import thicken
from vultus.gaussians.splat_files import write_splats
from vultus.geometry.deformation import ThirdEdge
from vultus.heads.registry import load_head
from vultus.methods.gaussianhead import official as gaussianhead
from vultus.methods.gaussianhead.model import GaussianHead
from vultus.methods.gaussianhead.official_avatar import avatar_from_official as gaussianhead_avatar
from vultus.methods.relightable_blendshapes import official as blendshapes
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.official_avatar import (
    avatar_from_official as blendshapes_avatar,
)
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.official import (
    OfficialAvatar,
    avatar_from_official,
    official_splats,
    read_gaussian_avatars,
    read_official,
    write_official,
)

__all__ = ["ConvertOptions", "main"]

_TARGETS = {
    "surfhead": ("surfhead", "ply", "run"),
    "gaussian_avatars": ("surfhead", "ply", "run"),
    "gaussianhead": ("run",),
    "gaussian_blendshapes": ("run",),
}
"""What avatars become; the first is the default."""
_OF_GENERATORS = ("half", "license", "note")
"""Options that mean nothing for avatars."""


@dataclass(frozen=True)
class ConvertOptions:
    """Convert a model folder; nothing in it is run, pickles are parsed."""

    model: Positional[Path]
    """Folder with point_cloud/iteration_K (and specular/, deform/, cfg_args), as the programs write
    it; pickle of a generator; run folder or file of a generator of ours."""
    out: Path
    """surfhead, run: new folder; ply: file to write; generator: file to write (.safetensors)."""
    source: (
        Literal["surfhead", "gaussian_avatars", "gaussianhead", "gaussian_blendshapes"]
        | GeneratorSource
    ) = "surfhead"
    """Which program wrote it. Gaussians of GaussianAvatars become surfels and lose the thickness
    along their thinnest axis. Models of gaussianhead and gaussian_blendshapes (the folder of
    fix_chkpnt<K>.pth) become runs (--data). Pickles of spherehead,
    panohead, eg3d and gsheadrelight become files for generate; so does generator_run, a run folder
    of train, or a file of invert or of this command."""
    to: Literal["surfhead", "ply", "run", "generator"] | None = None
    """surfhead: model folder in the layout of the program; ply: one moment posed in the world, for
    splat viewers (needs FLAME; without specular colour); run: a run folder for render, evaluate,
    reenact, mesh (needs FLAME and --data); generator: weights with their settings in one file.
    Default: what the source can become first."""
    iteration: int | None = None
    """Which one; default: the last. The step of a generator_run."""
    half: bool = False
    """generator: round weights to float16, for a file of half the size."""
    license: str | None = None
    """generator: what the file's header names as its licence, such as Apache-2.0."""
    note: str | None = None
    """generator: what the header says beside what a run knows of its training."""
    third_edge: ThirdEdge | None = None
    """Rule of the deformation gradient: unit for models of October 2024; default: sqrt_area."""
    rig: Literal["similarity", "jacobian", "jbs"] | None = None
    """Transport of the surfels; default: what the files say."""
    timestep: int = 0
    """Moment of ply."""
    bake_derivation: bool = False
    """gaussianhead: store the factors that the published derivation amounts to, so that the order
    of the Gaussians no longer matters; the pictures stay the same."""
    data: Path | None = None
    """Capture that the model was trained on, for run."""
    format: str = "auto"
    """Reader of the capture."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of the reader."""
    head_file: Path | None = None
    """Converted FLAME model, for ply; default: the imported asset."""
    dry_run: bool = False
    """Read and check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Read, say what was found, write."""
    options = parse_arguments(
        ConvertOptions, arguments, prog="vultus convert-checkpoint", description=__doc__
    )
    target = _target(options)
    _check_effects(options)
    if options.source in get_args(GeneratorSource):
        convert_generator(
            options.model,
            options.out,
            cast("GeneratorSource", options.source),
            step=options.iteration,
            is_half=options.half,
            about=_about(options),
            is_dry=options.dry_run,
        )
        return
    if options.source == "gaussianhead":
        _convert_gaussianhead(options)
        return
    if options.source == "gaussian_blendshapes":
        _convert_blendshapes(options)
        return
    if options.source == "gaussian_avatars":
        avatar, thickness = read_gaussian_avatars(options.model, options.iteration)
        share = f"{float(thickness.median()):.2f} of the next axis in the median"
        facts = {"thickness lost": share}
    else:
        avatar = read_official(
            options.model, options.iteration, third_edge=options.third_edge, rig=options.rig
        )
        facts = {}
    rows = [[name, value] for name, value in {**_facts(avatar), **facts}.items()]
    print_table(str(options.model), ["", ""], rows)
    if target == "ply":
        _write_ply(avatar, options)
    elif target == "run":
        _write_run(avatar, options)
    else:
        _write_folder(avatar, options)


def _check_effects(options: ConvertOptions) -> None:
    """Refuse for avatars what only files of generators have."""
    if options.source in get_args(GeneratorSource):
        return
    for name in _OF_GENERATORS:
        if getattr(options, name) not in (None, False):
            raise ValueError(f"--{name} is of generators, got --source {options.source}")


def _about(options: ConvertOptions) -> dict[str, str]:
    """What the user says of a generator's origin."""
    facts = {"license": options.license, "note": options.note}
    return {name: text for name, text in facts.items() if text is not None}


def _target(options: ConvertOptions) -> str:
    targets = _TARGETS.get(options.source, ("generator",))
    if options.to is not None and options.to not in targets:
        known = " or ".join(targets)
        raise ValueError(f"--source {options.source} needs --to {known}, got {options.to}")
    return options.to or targets[0]


def _write_ply(avatar: OfficialAvatar, options: ConvertOptions) -> None:
    out = output_path(options.out, options.out, [".ply"])
    head = load_head("flame", options.head_file, {"teeth": "published"}, avatar.flame_version)
    with torch.no_grad():
        splats = thicken(official_splats(avatar, head, options.timestep))
    if options.dry_run:
        console.print(f"would write {out}")
        return
    write_splats(out, splats)
    console.print(f"splats: {out} ({len(splats)} splats)")


def _convert_gaussianhead(options: ConvertOptions) -> None:
    data = _capture(options)
    model = gaussianhead.read_official(options.model, options.iteration)
    if options.bake_derivation:
        model = gaussianhead.bake_derivation(model)
    facts = {
        "Gaussians": str(model.gaussians["means"].shape[0]),
        "iteration": str(model.iteration),
        "tri-planes": str(len(model.appearance.planes)),
        "expression": f"{model.motion.driving_size} numbers",
        "size": f"{model.num_bytes / 1e6:.2f} MB",
    }
    print_table(str(options.model), ["", ""], [[name, value] for name, value in facts.items()])
    _save_run("gaussianhead", gaussianhead_avatar(model, data.read()), data, options)


def _convert_blendshapes(options: ConvertOptions) -> None:
    data = _capture(options)
    model = blendshapes.read_official(options.model, options.iteration)
    facts = {
        "Gaussians": str(model.face["means"].shape[0]),
        "on teeth": str(sum(strip["means"].shape[0] for strip in model.teeth)),
        "blendshapes": str(model.num_expressions),
        "iteration": str(model.iteration),
    }
    print_table(str(options.model), ["", ""], [[name, value] for name, value in facts.items()])
    avatar = blendshapes_avatar(model, data.read())
    _save_run("relightable_blendshapes", avatar, data, options)


def _write_run(official: OfficialAvatar, options: ConvertOptions) -> None:
    data = _capture(options)
    _save_run("surfhead", avatar_from_official(official, data.read()), data, options)


def _capture(options: ConvertOptions) -> DataOptions:
    if options.data is None:
        raise ValueError("--data must name the capture that the model was trained on")
    return DataOptions(options.data, options.format, options.options)


def _save_run(
    method: str,
    avatar: SurfHead | GaussianHead | RelightableBlendshapes,
    data: DataOptions,
    options: ConvertOptions,
) -> None:
    settings = run_settings(method, 0, data, avatar.config)
    check_new_run(options.out, settings)
    if options.dry_run:
        console.print(f"would write {options.out}")
        return
    run = create_run(options.out, settings)
    run.update_card(converted_from=str(options.model.resolve()), **avatar.summary())
    # Last: a run with a checkpoint is whole.
    run.save_checkpoint(take_checkpoint(avatar, avatar.config.steps))
    console.print(f"run: {options.out}")


def _write_folder(avatar: OfficialAvatar, options: ConvertOptions) -> None:
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise FileExistsError(f"--out: {options.out} must be a new or empty folder")
    if options.dry_run:
        console.print(f"would write {options.out}")
        return
    write_official(options.out, avatar)
    console.print(f"model: {options.out}")


def _facts(avatar: OfficialAvatar) -> dict[str, str]:
    specular = avatar.specular
    lobes = "none" if specular is None else f"{specular.lobe_type} on {avatar.shiny_surfels}"
    return {
        "surfels": str(len(avatar.surfels)),
        "iteration": str(avatar.iteration),
        "rig": f"{avatar.rig}, third edge {avatar.third_edge}",
        "colour": f"SH degree {avatar.surfels.sh_degree}",
        "specular": lobes,
        "head": f"FLAME {avatar.flame_version}, {len(avatar.track)} timesteps",
    }

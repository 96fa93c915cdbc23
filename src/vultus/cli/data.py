"""``vultus data``: film in the virtual studio; image sets; check, join and convert captures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from vultus.cli.avatar_run import output_path
from vultus.cli.console import console, print_error, print_table
from vultus.cli.data_collection import collection
from vultus.cli.data_convert import convert
from vultus.cli.data_crop import crop
from vultus.cli.data_lights import lights
from vultus.cli.data_pack import pack
from vultus.cli.data_patch import patch_dataset
from vultus.cli.option_parser import asks_for_help, parse_arguments, subcommand_help
from vultus.core.devices import find_device
from vultus.data.check import check_capture
from vultus.data.check_sheet import draw_check_sheet
from vultus.data.frame_store import FrameStore
from vultus.data.readers import READERS, read_sequence
from vultus.data.rig_files import write_rig_row
from vultus.data.studio.capture import StudioLayout, film, plan_film
from vultus.data.studio.config import PRESETS, StudioConfig
from vultus.data.unions import plan_union
from vultus.heads.expression_track import check_has_mesh
from vultus.heads.fitting import MaskFitConfig, fit_to_masks

__all__ = ["CheckOptions", "FitOptions", "StudioOptions", "UnionOptions", "main"]

_BAD_CAPTURE = 2
"""Exit code of ``check`` when it found errors, as for any wrong input."""


@dataclass(frozen=True)
class StudioOptions:
    """Where and how to film; what is filmed is a ``StudioConfig``."""

    out: Path
    """Folder; made if missing, continued if it holds a stopped filming of the same settings."""
    layout: StudioLayout = "studio"
    """studio: the rig and all ground truth, for methods that are driven by a rig. nerf_blendshape:
    a video of one camera with masks, parsing and expression vectors."""
    threads: int | None = None
    """Workers of the CPU's renderer; default: all cores."""
    device: str = "cpu"
    """Where pictures are made: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


@dataclass(frozen=True)
class CheckOptions:
    """Which capture to check."""

    data: Positional[Path]
    """Folder of the capture."""
    format: str = "auto"
    """Reader of the capture; auto looks into the folder's manifest files. `vultus data check
    --help` lists all."""
    options: dict[str, str] = field(default_factory=dict)
    """Reader options, for example ``--options head_file ict_face_model.npz light dir0``."""
    sheet: Path | None = None
    """Overlay sheet to write (.png); default: NAME_check.png in the current folder."""
    dry_run: bool = False
    """Check, but write no sheet."""


@dataclass(frozen=True)
class FitOptions:
    """Which capture to fit its head model to."""

    data: Positional[Path]
    """Folder of a capture of a still head."""
    out: Path
    """Pose of the head (.npz), for the reader's option ``fit``."""
    format: str = "auto"
    """Reader of the capture; auto looks into the folder's manifest files. `vultus data check
    --help` lists all."""
    options: dict[str, str] = field(default_factory=dict)
    """Reader options, for example ``--options head_file ict_face_model.npz``."""
    cut_height: float | None = None
    """World height in metres below which masks are not compared: the rig has no shoulders."""
    config: Annotated[MaskFitConfig, tyro.conf.arg(name="fit")] = field(
        default_factory=MaskFitConfig
    )
    """Steps and weights of the optimisation."""
    dry_run: bool = False
    """Check everything, fit and write nothing."""


@dataclass(frozen=True)
class UnionOptions:
    """Which sequences of one subject to join."""

    sequences: Positional[tuple[Path, ...]]
    """Folders with a transforms.json each, in the order of their moments."""
    out: Path
    """Folder for the manifests; pictures stay where they are."""
    test: tuple[str, ...] = ()
    """Names of the folders that are held out with all their cameras."""
    val_cameras: tuple[int, ...] | None = None
    """Cameras held out in the others; default: camera 8, or the last of several."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Parse ``SUBCOMMAND options`` and run it."""
    if asks_for_help(arguments):
        about = {name: line for name, (_, line) in sorted(_SUBCOMMANDS.items())}
        text = "Make, check and fit captures. `vultus data SUBCOMMAND --help` lists all options."
        console.print(subcommand_help("vultus data SUBCOMMAND [options]", text, about))
        raise SystemExit(0)  # As other help ends.
    parser = argparse.ArgumentParser(prog="vultus data", add_help=False, allow_abbrev=False)
    parser.add_argument("subcommand", choices=sorted(_SUBCOMMANDS))
    parsed, rest = parser.parse_known_args(arguments)
    _SUBCOMMANDS[parsed.subcommand][0](rest)


def _studio(arguments: list[str]) -> None:
    """Film a head. Defaults are those of the chosen preset."""
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scan.add_argument("--preset", default="demo")
    preset = scan.parse_known_args(arguments)[0].preset
    if preset not in PRESETS:
        raise ValueError(f"--preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    options_type = make_dataclass(
        "Options",
        [
            ("run", Annotated[StudioOptions, tyro.conf.arg(name="")]),
            ("config", Annotated[StudioConfig, tyro.conf.arg(name="")], PRESETS[preset]),
        ],
        frozen=True,
    )
    parsed = parse_arguments(
        options_type,
        arguments,
        prog="vultus data studio",
        description="Film a head with known cameras under known light, with ground truth. "
        f"Presets: {', '.join(PRESETS)}; the defaults below are those of {preset!r}.",
    )
    config, options = parsed.config, parsed.run
    device = find_device(options.device)
    if options.dry_run:
        plan = plan_film(config, options.out, layout=options.layout)
        rows = [[name, value] for name, value in plan.facts().items()]
        print_table(f"would film into {options.out}", ["", ""], rows)
        return
    count = film(config, options.out, threads=options.threads, device=device, layout=options.layout)
    console.print(f"{options.out}: {config.num_pictures} pictures, {count} of them new")
    console.print(f"look at it: vultus data check {options.out}")


def _check(arguments: list[str]) -> None:
    """Validate a capture and draw its overlay sheet."""
    options = parse_arguments(
        CheckOptions,
        arguments,
        prog="vultus data check",
        description="Read every file of a capture, test rig and cameras against the images, and "
        f"draw an overlay sheet. Formats: auto, {', '.join(READERS)}. Exit code 2 on errors.",
    )
    report = check_capture(options.data, options.format, **options.options)
    if report.facts:
        print_table(str(options.data), ["", ""], [[k, v] for k, v in report.facts.items()])
    if report.sequence is not None and not options.dry_run:
        sheet = options.sheet or Path(f"{options.data.resolve().name}_check.png")
        if report.errors:
            console.print("no sheet: the capture has errors")
        else:
            draw_check_sheet(report, sheet)
            console.print(f"sheet: {sheet}")
    for warning in report.warnings:
        console.print(f"warning: {warning}")
    for error in report.errors:
        print_error(error)
    if report.errors:
        raise SystemExit(_BAD_CAPTURE)
    console.print("no errors")


def _fit(arguments: list[str]) -> None:
    """Align the head of a still capture to the masks of its training cameras."""
    options = parse_arguments(
        FitOptions,
        arguments,
        prog="vultus data fit",
        description="Find rotation, translation, scale and identity of the rig from the masks of "
        "the training cameras of a still capture; nothing else of the capture is used.",
    )
    out = output_path(options.out, options.out, [".npz"])
    sequence = read_sequence(options.data, options.format, **options.options)
    check_has_mesh(sequence.head, "a fit")
    frames = FrameStore(sequence, "train")
    if bool((frames.timesteps != frames.timesteps[0]).any()):
        raise ValueError(f"{options.data}: shows a head that moves; a fit needs one timestep")
    images = frames.batch(range(len(frames)))
    if images.mask is None:
        raise ValueError(f"{options.data}: has no masks to fit to")
    if options.dry_run:
        console.print(f"would fit {sequence.head.name} to {len(frames)} masks: {options.out}")
        return
    found = fit_to_masks(
        sequence.head,
        images.mask,
        images.camera,
        cut_height=options.cut_height,
        config=options.config,
    )
    write_rig_row(out, found.world_pose(sequence.head), ())
    console.print(
        f"fit: {options.out} (scale {found.scale:.4f}; mask IoU of {len(frames)} views: mean "
        f"{float(found.iou.mean()):.4f}, least {float(found.iou.min()):.4f})"
    )


def _union(arguments: list[str]) -> None:
    """Join sequence folders into one capture."""
    options = parse_arguments(
        UnionOptions,
        arguments,
        prog="vultus data union",
        description="Write the manifests of a capture made of several sequences of one subject, "
        "holding out whole sequences (test) and cameras (val), as VHAP does.",
    )
    plan = plan_union(
        options.out,
        options.sequences,
        test_sequences=options.test,
        val_cameras=options.val_cameras,
    )
    for note in plan.lights.notes:
        console.print(f"note: {note}")
    frames = ", ".join(f"{count} {split}" for split, count in plan.counts.items())
    facts = f"{options.out}: {len(options.sequences)} sequences ({frames} frames)"
    if options.dry_run:
        console.print(f"would write {facts}")
        return
    plan.write()
    console.print(facts)


_SUBCOMMANDS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "check": (_check, "read every file of a capture and draw its rig over the images"),
    "collection": (collection, "make images of random people, to train generators with"),
    "convert": (convert, "write a video of one head with an expression vector per frame"),
    "crop": (crop, "crop photographs of heads and label them with cameras"),
    "fit": (_fit, "align a rig to the masks of a still capture"),
    "lights": (lights, "write the light of every picture into an image set's labels"),
    "pack": (pack, "check an image set and write it at one size"),
    "patch-dataset": (patch_dataset, "put label maps beside the pictures of tracked videos"),
    "studio": (_studio, "film a head that is made by code, with ground truth"),
    "union": (_union, "join sequences of one subject into one capture"),
}
"""Name -> (its function, one line for ``vultus data --help``)."""

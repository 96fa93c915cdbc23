"""``vultus train``: fit an avatar to a capture, or a generator to a set of images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vultus.cli.avatar_run import (
    DataOptions,
    check_out_is_not,
    check_run_folder,
    open_or_create_run,
    run_settings,
)
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import asks_for_help, parse_arguments, subcommand_help
from vultus.cli.train_generator import GeneratorTrainOptions, train_generator
from vultus.core.config import nan_fields
from vultus.core.devices import find_device
from vultus.core.run_folder import RunFolder
from vultus.core.seeding import make_deterministic, seed_everything
from vultus.data.frame_feed import FeedChoice
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence, Split
from vultus.engine.evaluate import check_frames, check_protocol, evaluate_split
from vultus.engine.fit import fit
from vultus.export.run_report import (
    evaluate_run,
    evaluation_tables,
    write_contact_sheet,
    write_run_report,
)
from vultus.heads.expression_track import check_has_mesh
from vultus.methods.base import ReconstructionMethod
from vultus.methods.registry import (
    GENERATORS,
    METHODS,
    build_method,
    method_presets,
    scale_schedule,
)
from vultus.metrics.protocols import PROTOCOLS, Protocol

__all__ = ["TrainOptions", "find_protocol", "main", "train"]


_ABOUT = """Fit an avatar to a capture, or a generator to a set of images. A preset (--preset NAME)
is a named set of all settings; other options change single ones. `vultus train METHOD --help` lists
all options with their defaults in the first preset, `vultus train METHOD --preset NAME --help` with
those of another one."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of every method's training."""

    data: Annotated[DataOptions, tyro.conf.arg(name="")]
    out: Path
    """Run folder; made if missing, continued if it holds a run of the same settings."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same avatar."""
    resume: bool = True
    """Continue a run that was stopped. With --no-resume an existing run is an error."""
    device: str = "cpu"
    """What trains: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    graph: bool = True
    """On a GPU, replay whole steps as CUDA graphs. Launching op by op is slower and shows in a
    debugger where something goes wrong."""
    images: FeedChoice = "auto"
    """On a GPU, where the images are: on the GPU as bytes (resident), or streamed from host memory
    while steps run. By default resident if they take less than half of the free GPU memory."""
    deterministic: bool = False
    """On a GPU, the same bits in every run; somewhat slower. A CPU gives the same bits
    with as many threads."""
    schedule: float = 1.0
    """Multiply every number of steps in the settings below: 0.1 takes the same course in a tenth of
    the time."""
    protocol: str = "surfhead-v1"
    """What is measured after training: surfhead-v1, held-out-v1 or demo-v1; every number
    carries this id."""
    dry_run: bool = False
    """Check everything, build the avatar, write nothing. Takes seconds."""


def main(arguments: list[str]) -> None:
    """Parse ``METHOD [--preset NAME] options`` and train."""
    if asks_for_help(arguments):
        console.print(subcommand_help("vultus train METHOD [options]", _ABOUT, _methods()))
        raise SystemExit(0)  # As other help ends.
    method, preset, rest = _method_and_preset(arguments)
    presets = method_presets(method)
    if preset not in presets:
        raise ValueError(f"--preset must be one of {', '.join(presets)}, got {preset!r}")
    default = presets[preset]
    entry = {**METHODS, **GENERATORS}[method]
    options_class = GeneratorTrainOptions if method in GENERATORS else TrainOptions
    options_type = make_dataclass(
        "Options",
        [
            ("run", Annotated[options_class, tyro.conf.arg(name="")]),
            ("config", Annotated[type(default), tyro.conf.arg(name="")], default),
        ],
        frozen=True,
    )
    parsed = parse_arguments(
        options_type,
        rest,
        prog=f"vultus train {method} --preset {preset}",
        description=f"{entry.description} ({entry.paper}). "
        f"Presets: {', '.join(presets)}; defaults below are those of {preset!r}.",
    )
    for name in nan_fields(parsed.config):
        raise ValueError(f"--{name.replace('_', '-')} must be a number, got nan")
    run = train_generator if method in GENERATORS else train
    run(method, parsed.config, parsed.run)


def train(method: str, config: Any, options: TrainOptions) -> None:
    """Train, evaluate the held-out splits and write the report."""
    protocol = find_protocol(options.protocol)
    config = scale_schedule(method, config, options.schedule)
    device = find_device(options.device)
    sequence = options.data.read()
    if METHODS[method].needs_mesh:
        check_has_mesh(sequence.head, method)
    settings = run_settings(method, options.seed, options.data, config)
    check_out_is_not(options.out, sequence.root, "capture")
    check_run_folder(options.out, settings, resume=options.resume)
    for split in _measured(sequence):
        check_protocol(sequence, split, protocol)
    frames = FrameStore(sequence, "train")
    for split in _held_out(sequence):
        check_frames(sequence, split)
    if options.deterministic:
        make_deterministic()
    seed_everything(options.seed)
    # Before the run folder is made: what cannot be built leaves none behind.
    avatar = build_method(method, config, sequence, options.seed, device)
    if options.dry_run:
        console.print(
            f"would train {method} for {config.steps} steps on {len(frames)} images of "
            f"{sequence.root} into {options.out}"
        )
        facts = ", ".join(f"{name.replace('_', ' ')} {x}" for name, x in avatar.summary().items())
        console.print(f"it would start with {facts}")
        return
    run = open_or_create_run(options.out, settings, resume=options.resume)

    def evaluate(step: int) -> None:
        for split in _held_out(sequence):
            mean = evaluate_split(avatar, sequence, split, protocol).mean
            run.log_metrics(step, {f"{split}.{name}": value for name, value in mean.items()})

    with run.stage("training"):
        fit(
            avatar,
            frames,
            config,
            run,
            options.seed,
            evaluate,
            graph=options.graph,
            images=options.images,
        )
    run.update_card(**avatar.summary())
    _finish(run, avatar, sequence, method, protocol)


def find_protocol(name: str) -> Protocol:
    """The protocol that ``--protocol`` names.

    Raises:
        ValueError: If there is none; lists the known ones.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"--protocol must be one of {', '.join(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]


def _held_out(sequence: HeadSequence) -> list[Split]:
    return [split for split in ("val", "test") if len(sequence.splits.get(split, ())) > 0]


def _measured(sequence: HeadSequence) -> list[Split]:
    return _held_out(sequence) or ["train"]


def _finish(
    run: RunFolder,
    avatar: ReconstructionMethod,
    sequence: HeadSequence,
    method: str,
    protocol: Protocol,
) -> None:
    """Measure the held-out splits, write pictures and the report, print the tables."""
    shown = _measured(sequence)
    results = evaluate_run(run, avatar, sequence, protocol, shown)
    tables = evaluation_tables(results)
    sheet = write_contact_sheet(run, avatar, sequence, shown)
    report = write_run_report(
        run,
        f"{METHODS[method].class_name} of {sequence.root.name}",
        METHODS[method].description,
        [(sheet, "truth, rendering, error (white: 25 %), normals")],
        tables,
        [
            ("Drive it with another track", f"vultus reenact --run {run.path} --track TRACK.npz"),
            ("Fuse a mesh", f"vultus mesh --run {run.path}"),
        ],
    )
    for table in tables:
        print_table(table.title, table.columns, table.rows, table.note)
    console.print(f"report: {report}")


def _methods() -> dict[str, str]:
    """Every method with its description and its presets, for help."""
    return {
        name: f"{entry.description}; presets: {', '.join(method_presets(name))}"
        for name, entry in {**METHODS, **GENERATORS}.items()
    }


def _method_and_preset(arguments: list[str]) -> tuple[str, str, list[str]]:
    parser = argparse.ArgumentParser(prog="vultus train", add_help=False, allow_abbrev=False)
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("--preset", default=None)
    parsed, rest = parser.parse_known_args(arguments)
    preset = parsed.preset or next(iter(method_presets(parsed.method)))
    return parsed.method, preset, rest

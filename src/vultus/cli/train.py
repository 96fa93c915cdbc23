"""``vultus train``: fit an avatar to a capture."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vultus.cli.avatar_run import DataOptions, run_config_class
from vultus.cli.console import console, print_table
from vultus.core.config import config_to_data
from vultus.core.files import read_json
from vultus.core.run_folder import RunFolder
from vultus.core.seeding import seed_everything
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence, Split
from vultus.engine.fit import fit
from vultus.export.run_report import (
    evaluate_run,
    evaluation_tables,
    write_contact_sheet,
    write_run_report,
)
from vultus.methods.base import ReconstructionMethod
from vultus.methods.registry import METHODS, build_method, method_presets
from vultus.metrics.protocols import PROTOCOLS

__all__ = ["TrainOptions", "main", "train"]


@dataclass(frozen=True)
class TrainOptions:
    """Options of every method's training."""

    data: DataOptions
    out: Path
    """Run folder; made if missing, continued if it holds a run of the same settings."""
    seed: int = 0
    resume: bool = True
    """Continue a run that was stopped. With --no-resume an existing run is an error."""
    protocol: str = "surfhead-v1"
    """Evaluation protocol."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Parse ``METHOD [--preset NAME] options`` and train."""
    method, preset, rest = _method_and_preset(arguments)
    presets = method_presets(method)
    if preset not in presets:
        raise ValueError(f"--preset must be one of {', '.join(presets)}, got {preset!r}")
    default = presets[preset]
    options_type = make_dataclass(
        "Options",
        [
            ("run", Annotated[TrainOptions, tyro.conf.arg(name="")]),
            ("config", Annotated[type(default), tyro.conf.arg(name="")], default),
        ],
        frozen=True,
    )
    parsed = tyro.cli(
        options_type,
        args=rest,
        prog=f"vultus train {method} --preset {preset}",
        description=f"{METHODS[method].description} ({METHODS[method].paper}). "
        f"Presets: {', '.join(presets)}; defaults below are those of {preset!r}.",
    )
    train(method, parsed.config, parsed.run)


def train(method: str, config: Any, options: TrainOptions) -> None:
    """Train, evaluate the held-out splits and write the report."""
    sequence = options.data.read()
    frames = FrameStore(sequence, "train")
    if options.dry_run:
        console.print(f"would train {method} on {len(frames)} images of {sequence.root}")
        return
    settings = run_config_class(method)(method, options.seed, options.data, config)
    run = _open_folder(options, settings)
    seed_everything(options.seed)
    avatar = build_method(method, config, sequence, options.seed)
    with run.stage("training"):
        fit(avatar, frames, config, run, options.seed)
    run.update_card(**avatar.summary())
    finish(run, avatar, sequence, method, options)


def finish(
    run: RunFolder,
    avatar: ReconstructionMethod,
    sequence: HeadSequence,
    method: str,
    options: TrainOptions,
) -> None:
    """Measure the held-out splits, write pictures and the report, print the tables."""
    held_out: list[Split] = [s for s in ("val", "test") if len(sequence.splits.get(s, ())) > 0]
    shown = held_out or ["train"]
    results = evaluate_run(run, avatar, sequence, PROTOCOLS[options.protocol], shown)
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
        print_table(table.title, table.columns, table.rows)
    console.print(f"report: {report}")


def _open_folder(options: TrainOptions, settings: Any) -> RunFolder:
    folder = RunFolder(options.out)
    if not folder.config_path.exists():
        return RunFolder.create(options.out, settings, seed=options.seed, method=settings.method)
    if not options.resume:
        raise ValueError(f"--out: {options.out} already holds a run")
    stored, wanted = read_json(folder.config_path), config_to_data(settings)
    if stored != wanted:
        changed = _first_difference(stored, wanted)
        raise ValueError(f"--out: {options.out} holds a run with other settings ({changed})")
    return RunFolder.open(options.out)


def _first_difference(old: Any, new: Any, path: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                return _first_difference(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    return f"{path}: {old!r} there, {new!r} here"


def _method_and_preset(arguments: list[str]) -> tuple[str, str, list[str]]:
    known = ", ".join(f"{name} ({entry.description})" for name, entry in METHODS.items())
    parser = argparse.ArgumentParser(
        prog="vultus train",
        description="Fit an avatar to a capture. `vultus train METHOD --help` lists all options.",
        add_help=not arguments or arguments[0] in ("-h", "--help"),
        allow_abbrev=False,
    )
    parser.add_argument("method", choices=sorted(METHODS), help=f"what to train: {known}")
    parser.add_argument("--preset", default=None, help="named settings to start from")
    parsed, rest = parser.parse_known_args(arguments)
    preset = parsed.preset or next(iter(method_presets(parsed.method)))
    return parsed.method, preset, rest

"""``vultus ablate``: train several presets of a method with several seeds and compare them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vultus.cli.avatar_run import DataOptions, check_run_folder, run_settings
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import asks_for_help, parse_arguments, subcommand_help
from vultus.cli.train import TrainOptions, find_protocol, train
from vultus.core.files import read_json, write_json, write_text
from vultus.core.run_folder import RunFolder
from vultus.data.frame_feed import FeedChoice
from vultus.methods.registry import METHODS, method_presets, scale_schedule

__all__ = ["AblateOptions", "main"]

_SPLIT_NAMES = {"val": "novel view", "test": "self-reenactment", "train": "training images"}

Scores = dict[str, dict[str, list[float]]]
"""Split -> metric -> a value per seed."""


@dataclass(frozen=True)
class AblateOptions:
    """Train presets one after the other and print one table; finished runs are not repeated."""

    data: Annotated[DataOptions, tyro.conf.arg(name="")]
    out: Path
    """Folder of the runs, OUT/PRESET-seedN, and of the table. Called again, it goes on."""
    presets: tuple[str, ...] | None = None
    """What is compared; by default the presets that differ in what the method's paper claims."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each preset is trained once with each."""
    schedule: float = 1.0
    """Multiply every number of steps; see train."""
    device: str = "cpu"
    """What trains: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    images: FeedChoice = "auto"
    """On a GPU, where the images are; see train."""
    protocol: str = "surfhead-v1"
    """What is measured: surfhead-v1, held-out-v1 or demo-v1; every number
    carries this id."""
    metrics: tuple[str, ...] = ()
    """Columns of the table; all that were measured by default."""
    dry_run: bool = False
    """Check everything, write nothing."""

    def __post_init__(self) -> None:
        """Reject nothing to compare."""
        if self.presets == () or not self.seeds:
            raise ValueError("--presets and --seeds must name at least one each")


def main(arguments: list[str]) -> None:
    """Parse ``METHOD options``, train what is missing, and print the table."""
    if not arguments or arguments[0].startswith("-"):
        known = ", ".join(METHODS)
        if arguments and not asks_for_help(arguments):
            raise ValueError(f"the method comes first: vultus ablate METHOD; known: {known}")
        about = {name: entry.description for name, entry in METHODS.items()}
        text = f"{AblateOptions.__doc__} `vultus ablate METHOD --help` lists options."
        console.print(subcommand_help("vultus ablate METHOD [options]", text, about))
        return
    method, *rest = arguments
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    presets = method_presets(method)
    options = parse_arguments(
        AblateOptions,
        rest,
        prog=f"vultus ablate {method}",
        description=f"{AblateOptions.__doc__} Presets: {', '.join(presets)}.",
    )
    chosen = METHODS[method].ablation if options.presets is None else options.presets
    unknown = [name for name in chosen if name not in presets]
    if unknown:
        raise ValueError(f"--presets must be among {', '.join(presets)}, got {unknown[0]!r}")
    measured = find_protocol(options.protocol).metrics
    unknown = [name for name in options.metrics if name not in measured]
    if unknown:
        raise ValueError(f"--metrics must be among {', '.join(measured)}, got {unknown[0]!r}")
    scores: dict[str, Scores] = {}
    for preset in chosen:
        runs = [_run(method, presets[preset], preset, seed, options) for seed in options.seeds]
        if not options.dry_run:
            scores[preset] = _collect(runs)
    if not options.dry_run:
        _show(scores, options)


def _run(method: str, config: Any, preset: str, seed: int, options: AblateOptions) -> Path:
    """Train and measure one run, unless that has been done."""
    path = options.out / f"{preset}-seed{seed}"
    scaled = scale_schedule(method, config, options.schedule)
    exists = check_run_folder(path, run_settings(method, seed, options.data, scaled))
    is_measured = exists and _is_measured(path, options.protocol)
    if is_measured and scaled.steps in RunFolder(path).checkpoint_steps():
        console.print(f"{path} is finished")
        return path
    train_options = TrainOptions(
        options.data,
        path,
        seed=seed,
        device=options.device,
        images=options.images,
        schedule=options.schedule,
        protocol=options.protocol,
        dry_run=options.dry_run,
    )
    train(method, config, train_options)
    return path


def _is_measured(path: Path, protocol: str) -> bool:
    """Whether a run holds numbers of this protocol; those of another do not compare."""
    file = path / "evaluation.json"
    return file.is_file() and all(result["protocol"] == protocol for result in read_json(file))


def _collect(runs: Sequence[Path]) -> Scores:
    scores: Scores = {}
    for path in runs:
        for result in read_json(path / "evaluation.json"):
            split = scores.setdefault(result["split"], {})
            for name, value in result["mean"].items():
                split.setdefault(name, []).append(value)
    return scores


def _show(scores: Mapping[str, Scores], options: AblateOptions) -> None:
    """Print a table per split, and write them as JSON and Markdown."""
    first = next(iter(scores.values()))
    seeds = ", ".join(map(str, options.seeds))
    texts = []
    for split, measured in first.items():
        names = [name for name in options.metrics or measured if name in measured]
        rows = [
            [preset, *(_spread(values[split][name]) for name in names)]
            for preset, values in scores.items()
        ]
        title = _SPLIT_NAMES.get(split, split)
        note = f"protocol {options.protocol}; mean ± standard deviation over seeds {seeds}"
        print_table(title, ["preset", *names], rows, note)
        texts.append(_markdown(title, ["preset", *names], rows, note))
    write_json(options.out / "ablation.json", {"seeds": list(options.seeds), "presets": scores})
    write_text(options.out / "ablation.md", "\n\n".join(texts) + "\n")
    console.print(f"tables: {options.out / 'ablation.md'}")


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.4g}"
    return f"{mean} ± {statistics.stdev(values):.2g}" if len(values) > 1 else mean


def _markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    lines = [f"{title.capitalize()}; {note}.", "", f"| {' | '.join(columns)} |"]
    lines.append(f"| {' | '.join('---' for _ in columns)} |")
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)

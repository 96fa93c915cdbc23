"""``vultus ablate``: train several presets of a method with several seeds and compare them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from vultus.cli.ablation_runs import AblationRun, finish_runs
from vultus.cli.avatar_run import DataOptions
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import asks_for_help, parse_arguments, subcommand_help
from vultus.cli.setting_overrides import with_settings
from vultus.cli.train import TrainOptions, find_protocol
from vultus.core.files import write_json, write_text
from vultus.data.frame_feed import FeedChoice
from vultus.methods.registry import METHODS, further_measurement, method_presets

__all__ = ["AblateOptions", "main"]

_SPLIT_NAMES = {"val": "novel view", "test": "self-reenactment", "train": "training images"}

Scores = dict[str, dict[str, list[float]]]
"""Split, or table of the method's own measurement -> metric -> a value per seed."""


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
    set: dict[str, str] = field(default_factory=dict)
    """Settings of all presets, for example ``--set model.num-points 20000 steps 500``."""
    vary: dict[str, str] = field(default_factory=dict)
    """Train every preset once more with each of these settings; a run with ``--vary
    materials.geometry FILE`` is OUT/PRESET-geometry-seedN."""
    schedule: float = 1.0
    """Multiply every number of steps; see train."""
    device: str = "cpu"
    """What trains: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    images: FeedChoice = "auto"
    """On a GPU, where the images are; see train."""
    jobs: int = 1
    """How many runs at a time. Above 1 each is a process of its own, which prints into
    OUT/PRESET-seedN.log."""
    protocol: str = "surfhead-v1"
    """What is measured: surfhead-v1, held-out-v1 or demo-v1; every number
    carries this id. A method may measure more, such as relighting, where the capture has the truth;
    that has tables of its own."""
    metrics: tuple[str, ...] = ()
    """Columns of the protocol's tables; all that were measured by default."""
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
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    chosen = METHODS[method].ablation if options.presets is None else options.presets
    unknown = [name for name in chosen if name not in presets]
    if unknown:
        raise ValueError(f"--presets must be among {', '.join(presets)}, got {unknown[0]!r}")
    measured = find_protocol(options.protocol).metrics
    unknown = [name for name in options.metrics if name not in measured]
    if unknown:
        raise ValueError(f"--metrics must be among {', '.join(measured)}, got {unknown[0]!r}")
    configs = _variants({name: presets[name] for name in chosen}, options)
    runs = _plan(method, configs, options)
    finish_runs([run for group in runs.values() for run in group], options.jobs)
    if not options.dry_run:
        _show(runs, options)


def _variants(presets: Mapping[str, Any], options: AblateOptions) -> dict[str, Any]:
    """Settings of everything that is compared, by its name."""
    variants: dict[str, Any] = {}
    for preset, default in presets.items():
        config = variants[preset] = with_settings(default, options.set, "--set")
        for setting, value in options.vary.items():
            varied = with_settings(config, {setting: value}, "--vary")
            name = f"{preset}-{setting.split('.')[-1].replace('_', '-')}"
            if varied == config:
                raise ValueError(f"--vary {setting}: preset {preset!r} has {value} as it is")
            if name in variants or name in presets:
                raise ValueError(f"--vary {setting}: two runs would be called {name!r}")
            variants[name] = varied
    return variants


def _plan(
    method: str, configs: Mapping[str, Any], options: AblateOptions
) -> dict[str, list[AblationRun]]:
    """All runs of every variant, one by seed."""
    measured = _measured_further(method, configs, options)
    runs: dict[str, list[AblationRun]] = {}
    for name, config in configs.items():
        for seed in options.seeds:
            train_options = TrainOptions(
                options.data,
                options.out / f"{name}-seed{seed}",
                seed=seed,
                device=options.device,
                images=options.images,
                schedule=options.schedule,
                protocol=options.protocol,
                dry_run=options.dry_run,
            )
            run = AblationRun(method, config, train_options, name in measured)
            runs.setdefault(name, []).append(run)
    return runs


def _measured_further(method: str, configs: Mapping[str, Any], options: AblateOptions) -> set[str]:
    """Variants to which the method's own measurement applies; reads the capture only for one."""
    measurement = further_measurement(method)
    if measurement is None:
        return set()
    sequence = options.data.read()
    return {name for name, config in configs.items() if measurement.applies(config, sequence)}


def _show(runs: Mapping[str, Sequence[AblationRun]], options: AblateOptions) -> None:
    """Print a table per split and per table of the method, and write them as JSON and Markdown."""
    scores = {name: _scores(group) for name, group in runs.items()}
    further = {name: _further_scores(group) for name, group in runs.items()}
    seeds = f"mean ± standard deviation over seeds {', '.join(map(str, options.seeds))}"
    note = f"protocol {options.protocol}; {seeds}"
    texts = [
        _table(_SPLIT_NAMES.get(split, split), split, scores, note, options.metrics)
        for split in next(iter(scores.values()))
    ]
    tables = dict.fromkeys(table for found in further.values() for table in found)
    texts += [_table(table, table, further, seeds) for table in tables]
    stored = {"seeds": list(options.seeds), "presets": scores}
    write_json(options.out / "ablation.json", stored | ({"further": further} if tables else {}))
    write_text(options.out / "ablation.md", "\n\n".join(texts) + "\n")
    console.print(f"tables: {options.out / 'ablation.md'}")


def _scores(runs: Sequence[AblationRun]) -> Scores:
    scores: Scores = {}
    for run in runs:
        for result in run.evaluation():
            _add(scores, result["split"], result["mean"])
    return scores


def _further_scores(runs: Sequence[AblationRun]) -> Scores:
    scores: Scores = {}
    for run in runs:
        for table, values in run.further_tables().items():
            _add(scores, table, values)
    return scores


def _add(scores: Scores, table: str, values: Mapping[str, float]) -> None:
    found = scores.setdefault(table, {})
    for name, value in values.items():
        found.setdefault(name, []).append(value)


def _table(
    title: str, table: str, scores: Mapping[str, Scores], note: str, metrics: Sequence[str] = ()
) -> str:
    """Print the rows of those that have such a table; returns it as Markdown."""
    found = {name: values[table] for name, values in scores.items() if table in values}
    measured = next(iter(found.values()))
    columns = [name for name in metrics or measured if name in measured]
    rows = [
        [name, *(_spread(values[column]) for column in columns)] for name, values in found.items()
    ]
    print_table(title, ["preset", *columns], rows, note)
    return _markdown(title, ["preset", *columns], rows, note)


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.4g}"
    return f"{mean} ± {statistics.stdev(values):.2g}" if len(values) > 1 else mean


def _markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    capitalized = title[:1].upper() + title[1:]
    lines = [f"{capitalized}; {note}.", "", f"| {' | '.join(columns)} |"]
    lines.append(f"| {' | '.join('---' for _ in columns)} |")
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)

"""The runs of ``vultus ablate``: each is trained and measured once, several at a time if wanted."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vultus.cli.avatar_run import check_run_folder, open_run, run_settings
from vultus.cli.console import console
from vultus.cli.train import TrainOptions, train
from vultus.core.files import read_json, write_json
from vultus.core.run_folder import RunFolder
from vultus.methods.base import FurtherMeasurement
from vultus.methods.registry import further_measurement, scale_schedule

__all__ = ["AblationRun", "finish_runs"]


@dataclass(frozen=True)
class AblationRun:
    """One training of a comparison."""

    method: str
    config: Any
    """Before its schedule is scaled."""
    options: TrainOptions
    is_measured_further: bool
    """Whether the method's own measurement applies, beside the protocol's metrics."""

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.options.out

    @property
    def log_path(self) -> Path:
        """What it prints, if it is one of several at a time."""
        return self.path.with_name(f"{self.path.name}.log")

    @property
    def _scaled(self) -> Any:
        return scale_schedule(self.method, self.config, self.options.schedule)

    @property
    def _measurement(self) -> FurtherMeasurement | None:
        return further_measurement(self.method) if self.is_measured_further else None

    def is_finished(self) -> bool:
        """Whether it is trained and measured, by the same protocol: others do not compare.

        Raises:
            NotADirectoryError: If there is a file of the folder's name.
            ValueError: If the folder holds a run of other settings.
        """
        return self._is_trained() and not self._lacks_further()

    def finish(self) -> None:
        """Do what is missing of it."""
        if self.options.dry_run or not self._is_trained():
            train(self.method, self.config, self.options)
        if self.options.dry_run or not self._lacks_further():
            return
        measurement = self._measurement
        assert measurement is not None
        opened = open_run(self.path, device=self.options.device)
        facts = measurement.measure(opened.avatar, opened.sequence, opened.step)
        write_json(self.path / measurement.file_name, facts)

    def evaluation(self) -> list[dict[str, Any]]:
        """Numbers of the protocol, by split."""
        return read_json(self.path / "evaluation.json")

    def further_tables(self) -> dict[str, dict[str, float]]:
        """What the method itself measures, by table and column; empty if nothing."""
        measurement = self._measurement
        if measurement is None:
            return {}
        return measurement.tables(read_json(self.path / measurement.file_name))

    def _is_trained(self) -> bool:
        options, scaled = self.options, self._scaled
        settings = run_settings(self.method, options.seed, options.data, scaled)
        if not check_run_folder(self.path, settings):
            return False
        file = self.path / "evaluation.json"
        is_measured = file.is_file() and all(
            result["protocol"] == options.protocol for result in read_json(file)
        )
        return is_measured and scaled.steps in RunFolder(self.path).checkpoint_steps()

    def _lacks_further(self) -> bool:
        measurement = self._measurement
        if measurement is None:
            return False
        file = self.path / measurement.file_name
        return not file.is_file() or read_json(file)["step"] != self._scaled.steps


def finish_runs(runs: Sequence[AblationRun], jobs: int) -> None:
    """Do what is missing of all runs; those that are finished are said to be.

    Args:
        runs: In the order in which they start.
        jobs: How many at a time, each in a process of its own that prints into its ``log_path``;
            1: one after the other, here.

    Raises:
        Exception: The first one of any run. Runs that have begun are finished, no other begins.
    """
    missing = []
    for run in runs:
        if run.is_finished() and not run.options.dry_run:
            console.print(f"{run.path} is finished")
        else:
            missing.append(run)
    if jobs == 1 or len(missing) < 2 or missing[0].options.dry_run:
        for run in missing:
            run.finish()
        return
    missing[0].path.parent.mkdir(parents=True, exist_ok=True)
    # A new process for every run: it gives back all of a GPU's memory, and a GPU's state cannot be
    # inherited by forks.
    pool = ProcessPoolExecutor(
        min(jobs, len(missing)), multiprocessing.get_context("spawn"), max_tasks_per_child=1
    )
    with pool:
        futures = {pool.submit(_finish_aside, run): run for run in missing}
        for future in as_completed(futures):
            run = futures[future]
            if future.exception() is not None:
                for other in futures:
                    other.cancel()
                console.print(f"{run.path} has failed; what it printed: {run.log_path}")
            future.result()
            console.print(f"{run.path} is finished; what it printed: {run.log_path}")


def _finish_aside(run: AblationRun) -> None:
    """Finish a run in a process that shares its terminal with others."""
    with (
        run.log_path.open("a", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        run.finish()

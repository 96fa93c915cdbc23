"""The folder of one run: config, card, metrics, media and checkpoints."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from vultus.core.bundles import load_bundle, save_bundle
from vultus.core.config import save_config
from vultus.core.environment import code_revision, describe_hardware, package_versions
from vultus.core.files import (
    atomic_directory,
    is_temporary,
    parse_json,
    read_json,
    write_bytes,
    write_json,
)
from vultus.core.locks import held

__all__ = ["Checkpoint", "RunFolder"]

_STEP_NAME = re.compile(r"step_(\d+)")
_CHECKPOINT_FILES = ("weights.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on as if it had not been interrupted."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """Optimizer moments and random states."""
    state: dict[str, Any]
    """JSON data: counters, names, schedules."""


@dataclass(frozen=True)
class RunFolder:
    """``config.json``, ``card.json``, ``metrics.jsonl``, ``media/`` and ``checkpoints/step_N/``.

    All writes are atomic, except that ``metrics.jsonl`` grows by whole lines; a kill at any moment
    leaves the last complete checkpoint usable.
    """

    path: Path

    @staticmethod
    def create(path: Path, config: object, *, seed: int, **facts: Any) -> RunFolder:
        """Start a run in a new or empty folder.

        Args:
            path: The folder.
            config: The resolved config dataclass.
            seed: The run's seed, for the card.
            **facts: Further JSON facts for the card (``data_id``, ``protocol_ids``, ``method``).

        Raises:
            FileExistsError: If the folder holds a run already.
        """
        run = RunFolder(path)
        if run.config_path.exists():
            raise FileExistsError(f"{path} holds a run already; resume it or choose another folder")
        path.mkdir(parents=True, exist_ok=True)
        run.media_path.mkdir(exist_ok=True)
        run.checkpoints_path.mkdir(exist_ok=True)
        card = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "seed": seed,
            "code_revision": code_revision(),
            "versions": package_versions(),
            "hardware": describe_hardware(),
            "timings": {},
        }
        write_json(run.card_path, card | facts)
        save_config(run.config_path, config)  # Last: it marks the folder as a run.
        return run

    @staticmethod
    def open(path: Path) -> RunFolder:
        """Open an existing run, which another process may be writing.

        Raises:
            FileNotFoundError: If the folder holds no run.
        """
        run = RunFolder(path)
        if not run.config_path.is_file():
            raise FileNotFoundError(f"{path} holds no run: {run.config_path.name} is missing")
        for folder in (path, run.media_path, run.checkpoints_path):
            folder.mkdir(exist_ok=True)
        return run

    @staticmethod
    def resume(path: Path) -> RunFolder:
        """Open a run to go on writing it; clears away what an interrupted write left behind.

        Raises:
            FileNotFoundError: If the folder holds no run.
            FileExistsError: If a process is in one of the run's stages.
        """
        run = RunFolder.open(path)
        with run._held():
            for folder in (path, run.media_path, run.checkpoints_path):
                for entry in filter(is_temporary, list(folder.iterdir())):
                    is_folder = entry.is_dir() and not entry.is_symlink()
                    shutil.rmtree(entry) if is_folder else entry.unlink()
        return run

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / "config.json"

    @property
    def card_path(self) -> Path:
        """Seed, versions, hardware and timings."""
        return self.path / "card.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def media_path(self) -> Path:
        """Images and films."""
        return self.path / "media"

    @property
    def checkpoints_path(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    def read_card(self) -> dict[str, Any]:
        """Read the card.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged; names the file.
        """
        card = read_json(self.card_path)
        if not isinstance(card, dict):
            raise ValueError(f"{self.card_path} must be an object, got {type(card).__name__}")
        return card

    def update_card(self, **facts: Any) -> None:
        """Set facts on the card."""
        write_json(self.card_path, self.read_card() | facts)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to the card's timing of that name; one at a time.

        Raises:
            FileExistsError: If a process is in one of the run's stages.
        """
        with self._held():
            start = time.perf_counter()
            try:
                yield
            finally:
                timings = dict(self.read_card().get("timings", {}))
                timings[name] = round(timings.get(name, 0.0) + time.perf_counter() - start, 3)
                self.update_card(timings=timings)

    def _held(self) -> AbstractContextManager[None]:
        # The config is there from the beginning to the end of a run, and never replaced.
        refusal = f"{self.path}: another process is writing this run; wait until it has ended"
        return held(self.config_path, refusal)

    def log_metrics(self, step: int, values: Mapping[str, float | int]) -> None:
        """Append one line of numbers.

        Non-finite numbers are written as ``NaN`` and ``Infinity``, which Python reads back: a
        diverged run must be visible in its log.
        """
        line = json.dumps({"step": step, **values}) + "\n"
        with self.metrics_path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(line)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read all lines; a last line that a kill cut short is left out.

        Raises:
            ValueError: If another line is damaged; names file and line.
        """
        if not self.metrics_path.exists():
            return []
        *lines, _tail = self.metrics_path.read_bytes().split(b"\n")
        return [self._metrics_row(line, number) for number, line in enumerate(lines, start=1)]

    def _metrics_row(self, line: bytes, number: int) -> dict[str, Any]:
        row = parse_json(line, str(self.metrics_path), number)
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            raise ValueError(f"{self.metrics_path}:{number}: must be an object with a whole step")
        return row

    def rewind_metrics(self, step: int) -> None:
        """Drop the lines beyond ``step`` and a torn last line: call it before resuming there."""
        kept = [row for row in self.read_metrics() if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_bytes(self.metrics_path, text.encode())

    def checkpoint_path(self, step: int) -> Path:
        """The folder of the checkpoint of a step."""
        return self.checkpoints_path / f"step_{step}"

    def save_checkpoint(self, checkpoint: Checkpoint) -> Path:
        """Publish a checkpoint atomically, in place of one of the same step."""
        target = self.checkpoint_path(checkpoint.step)
        with atomic_directory(target, replace=True) as folder:
            save_bundle(folder / "weights.safetensors", checkpoint.weights)
            save_bundle(folder / "optimizer.safetensors", checkpoint.optimizer)
            write_json(folder / "state.json", {"step": checkpoint.step, "data": checkpoint.state})
        return target

    def checkpoint_steps(self) -> list[int]:
        """Steps of all complete checkpoints, ascending."""
        if not self.checkpoints_path.is_dir():
            return []
        steps = []
        for folder in self.checkpoints_path.iterdir():
            match = _STEP_NAME.fullmatch(folder.name)
            if match and all((folder / name).is_file() for name in _CHECKPOINT_FILES):
                steps.append(int(match[1]))
        return sorted(steps)

    def latest_checkpoint(self) -> Path | None:
        """The folder of the last complete checkpoint, or None before the first."""
        steps = self.checkpoint_steps()
        return self.checkpoint_path(steps[-1]) if steps else None

    def load_checkpoint(self, step: int | None = None) -> Checkpoint:
        """Read the checkpoint of a step, by default the last complete one.

        Raises:
            FileNotFoundError: If there is none; the message lists those that exist.
            ValueError: If a file is damaged; names it.
        """
        steps = self.checkpoint_steps()
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            known = ", ".join(map(str, steps)) or "none"
            raise FileNotFoundError(f"{self.checkpoints_path}: {wanted}; complete steps: {known}")
        folder = self.checkpoint_path(steps[-1] if step is None else step)
        saved, data = _read_state(folder / "state.json")
        return Checkpoint(
            saved,
            load_bundle(folder / "weights.safetensors").tensors,
            load_bundle(folder / "optimizer.safetensors").tensors,
            data,
        )

    def keep_checkpoints(self, count: int) -> None:
        """Delete all but the last ``count`` complete checkpoints; 0 keeps every one.

        Raises:
            ValueError: If ``count`` is negative.
        """
        if count < 0:
            raise ValueError(f"count must not be negative, got {count}")
        if count == 0:
            return
        for step in self.checkpoint_steps()[:-count]:
            shutil.rmtree(self.checkpoint_path(step))


def _read_state(path: Path) -> tuple[int, dict[str, Any]]:
    """Step and data of a checkpoint."""
    state = read_json(path)
    is_state = isinstance(state, dict) and state.keys() == {"step", "data"}
    if not is_state or type(state["step"]) is not int or not isinstance(state["data"], dict):
        raise ValueError(f"{path} must hold step and data, a whole number and an object")
    return state["step"], state["data"]

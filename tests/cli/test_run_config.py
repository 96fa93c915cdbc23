"""Runs that were written before a setting was there, and runs of a newer version."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vultus.cli.main import run
from vultus.cli.run_config import (
    complete_run_config,
    default_settings,
    first_difference,
    note_defaults,
)
from vultus.core.config import JsonValue, config_to_data

Refuses = Callable[..., str]
TRAIN = ["--preset", "demo", "--steps", "6", "--checkpoint-every", "4", "--log-every", "2"]


@dataclass(frozen=True)
class Optim:
    rate: float = 0.1
    decay: float = 0.5


@dataclass(frozen=True)
class Config:
    optim: Optim = field(default_factory=lambda: Optim(decay=0.25))
    steps: int = 3
    seeds: int = 4


@dataclass(frozen=True)
class Place:
    folder: str


@dataclass(frozen=True)
class Settings:
    seed: int
    place: Place
    config: Config


SETTINGS = Settings(1, Place("x"), Config(steps=9))


def age(path: Path, **lost: str) -> None:
    """Take settings away from a run's config, each by its group and name."""
    data = json.loads(path.read_text())
    for group, name in lost.items():
        del data["config"][group][name]
    path.write_text(json.dumps(data))


def test_defaults_are_those_of_parts_that_have_all_of_them() -> None:
    assert default_settings(SETTINGS) == {"config": Config()}


def test_what_a_run_is_older_than_is_completed_and_nothing_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    defaults = default_settings(SETTINGS)
    stored = {"place": {}, "config": {"optim": {"rate": 0.2}, "steps": 9, "later": 1}}
    assert complete_run_config(stored, defaults) == {
        "place": {},
        "config": {"optim": {"rate": 0.2, "decay": 0.25}, "steps": 9, "seeds": 4, "later": 1},
    }
    assert stored["config"] == {"optim": {"rate": 0.2}, "steps": 9, "later": 1}
    note_defaults(tmp_path, stored, defaults)
    expected = f"note: {tmp_path} is older than config.optim.decay, config.seeds: defaults are"
    assert expected in capsys.readouterr().err
    assert complete_run_config({"seed": 1}, defaults) == {"seed": 1}
    note_defaults(tmp_path, complete_run_config(stored, defaults), defaults)
    assert capsys.readouterr().err == ""


OLDER = "the default as the run is older than this setting"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: None, None),
        (lambda c: c.update(seed=2), "seed: 2 there, 1 here"),
        (lambda c: c["config"].pop("seeds"), None),
        (lambda c: c["config"].pop("steps"), f"config.steps: 3 there, {OLDER}; 9 here"),
        (lambda c: c["config"].update(steps=3), "config.steps: 3 there, 9 here"),
        (
            lambda c: c["config"].pop("optim"),
            f"config.optim.decay: 0.25 there, {OLDER}; None here",
        ),
        (lambda c: c["config"].update(later=1), "config.later: 1 there, not known here"),
        (
            lambda c: c["config"].update(later={"rate": 1}),
            "config.later: a group of settings there, not known here",
        ),
        (lambda c: c.pop("start"), "start: not there, None here"),
        (lambda c: c.pop("place"), "place: not there, a group of settings here"),
        (lambda c: c.update(place=None), "place: None there, a group of settings here"),
    ],
)
def test_the_first_setting_that_differs_is_named(
    change: Callable[[dict], object], expected: str | None
) -> None:
    wanted = {**config_to_data(SETTINGS), "start": None}
    wanted["config"]["optim"]["decay"] = None
    stored = copy.deepcopy(wanted)
    change(stored)
    assert first_difference(stored, wanted, default_settings(SETTINGS)) == expected


def test_a_config_that_is_no_object_differs_as_a_whole() -> None:
    stored: JsonValue = [1]
    found = first_difference(stored, config_to_data(SETTINGS), default_settings(SETTINGS))
    assert found == "config.json: [1] there, a group of settings here"


def test_many_new_settings_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    note_defaults(tmp_path, {"a": {}, "b": {}}, {"a": Config(), "b": Optim()})
    assert "a.optim, a.steps, a.seeds and 2 more: defaults" in capsys.readouterr().err


def test_a_run_that_is_older_than_a_setting_is_read_with_its_default(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    age(own_run / "config.json", optim="pose_lr", losses="distortion_from")
    film = own_run / "film.mp4"
    assert run(["render", "--run", str(own_run), "--frames", "2", "--out", str(film)]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "note" in line]
    start = f"vultus: note: {own_run / 'config.json'} is older than config."
    names = line.removeprefix(start).removesuffix(": defaults are taken")
    assert names == "losses.distortion_from, config.optim.pose_lr"
    assert film.is_file()


def test_a_run_that_is_older_than_a_setting_continues_with_its_default_alone(
    own_run: Path, capture: Path, refuses: Refuses, capsys: pytest.CaptureFixture[str]
) -> None:
    age(own_run / "config.json", optim="pose_lr")
    command = ["train", "surfhead", *TRAIN, "--data", str(capture), "--out", str(own_run)]
    refuses(
        [*command, "--optim.pose-lr", "0.5"],
        "(config.optim.pose_lr: 1e-05 there, the default as the run is older than this setting; "
        "0.5 here)",
    )
    assert run(command) == 0
    assert "is older than config.optim.pose_lr: defaults are taken" in capsys.readouterr().err


def test_a_run_of_a_newer_version_is_refused_by_the_setting_that_is_not_known(
    own_run: Path, capture: Path, refuses: Refuses
) -> None:
    path = own_run / "config.json"
    data = json.loads(path.read_text())
    data["config"]["optim"]["later"] = 1
    path.write_text(json.dumps(data))
    refuses(["render", "--run", str(own_run)], f"{path}: config.config.optim.later is not known")
    command = ["train", "surfhead", *TRAIN, "--data", str(capture), "--out", str(own_run)]
    refuses(command, "other settings (config.optim.later: 1 there, not known here)")

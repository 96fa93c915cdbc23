"""A run folder survives kills at any moment and gives everything back."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import vultus
from vultus.core.config import load_config
from vultus.core.files import is_temporary
from vultus.core.run_folder import Checkpoint, RunFolder


@dataclass(frozen=True)
class _Config:
    steps: int = 3
    rate: float = 0.1


def _checkpoint(step: int) -> Checkpoint:
    weights = {"means": torch.full((4, 3), float(step))}
    optimizer = {"adam.m": torch.rand(4, generator=torch.Generator().manual_seed(step))}
    return Checkpoint(step, weights, optimizer, {"count": 4, "names": ["means"]})


def _assert_same(read: Checkpoint, expected: Checkpoint) -> None:
    assert read.step == expected.step
    assert read.state == expected.state
    assert read.weights.keys() == expected.weights.keys()
    assert torch.equal(read.weights["means"], expected.weights["means"])
    assert torch.equal(read.optimizer["adam.m"], expected.optimizer["adam.m"])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", _Config(steps=5), seed=7, data_id="abc")


def test_config_and_card_tell_what_was_run(run: RunFolder) -> None:
    opened = RunFolder.open(run.path)
    assert load_config(opened.config_path, _Config) == _Config(steps=5)
    card = opened.read_card()
    assert card["seed"] == 7
    assert card["data_id"] == "abc"
    assert card["versions"]["vultus"] == vultus.__version__
    assert torch.__version__.startswith(card["versions"]["torch"].partition("+")[0])
    assert card["hardware"]["threads"] >= 1
    assert run.media_path.is_dir()


def test_a_second_run_in_the_same_folder_is_refused(run: RunFolder) -> None:
    with pytest.raises(FileExistsError, match="holds a run already"):
        RunFolder.create(run.path, _Config(), seed=0)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no run: config\.json is missing"):
        RunFolder.open(tmp_path)


def test_stages_add_up_on_the_card(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.5, 20.0, 21.0])
    monkeypatch.setattr("vultus.core.run_folder.time.perf_counter", lambda: next(clock))
    for _ in range(2):
        with run.stage("training"):
            pass
    assert run.read_card()["timings"] == {"training": 3.5}
    assert run.read_card()["seed"] == 7


def test_metrics_come_back_line_by_line_also_when_they_diverge(run: RunFolder) -> None:
    run.log_metrics(1, {"loss": 0.1, "psnr": 20.0})
    run.log_metrics(2, {"loss": float("nan")})
    rows = run.read_metrics()
    assert rows[0] == {"step": 1, "loss": 0.1, "psnr": 20.0}
    assert math.isnan(rows[1]["loss"])


def test_a_torn_last_line_is_left_out_and_rewinding_removes_it(run: RunFolder) -> None:
    for step in range(1, 5):
        run.log_metrics(step, {"loss": 1 / step})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 5, "lo')
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3, 4]
    run.rewind_metrics(2)
    run.log_metrics(3, {"loss": 9.0})
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]
    assert run.read_metrics()[2]["loss"] == 9.0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not JSON"),
        (b'{"step": 2, "lo', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b'{"step": ' + b"9" * 400 + b"}", "whole numbers must fit 64 bits"),
        (b"[2]", "must be an object with a whole step"),
        (b'{"loss": 1.0}', "must be an object with a whole step"),
        (b'{"step": NaN}', "must be an object with a whole step"),
        (b'{"step": true}', "must be an object with a whole step"),
    ],
)
def test_a_damaged_line_in_the_middle_is_named(line: bytes, reason: str, run: RunFolder) -> None:
    run.metrics_path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    for read in (run.read_metrics, lambda: run.rewind_metrics(1)):
        with pytest.raises(ValueError, match=rf"metrics\.jsonl:2: {reason}") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_card_that_is_no_object_is_refused(run: RunFolder) -> None:
    run.card_path.write_text("[1]")
    with pytest.raises(ValueError, match=r"card\.json must be an object, got list"):
        run.update_card(data_id="b")


@pytest.mark.parametrize(
    "state",
    [
        b"[]",
        b'{"step": 3}',
        b'{"step": "3", "data": {}}',
        b'{"step": 3.0, "data": {}}',
        b'{"step": true, "data": {}}',
        b'{"step": 3, "data": [1]}',
        b'{"step": 3, "data": {}, "more": 1}',
    ],
)
def test_the_state_of_a_checkpoint_is_checked(state: bytes, run: RunFolder) -> None:
    run.save_checkpoint(_checkpoint(3))
    (run.checkpoint_path(3) / "state.json").write_bytes(state)
    with pytest.raises(ValueError, match=r"state\.json must hold step and data"):
        run.load_checkpoint()


def test_checkpoints_come_back_and_the_last_one_is_found_by_number(run: RunFolder) -> None:
    for step in (9, 10, 2):
        run.save_checkpoint(_checkpoint(step))
    assert run.latest_checkpoint() == run.checkpoint_path(10)
    _assert_same(run.load_checkpoint(), _checkpoint(10))
    _assert_same(run.load_checkpoint(2), _checkpoint(2))
    with pytest.raises(
        FileNotFoundError, match="no checkpoint of step 3; complete steps: 2, 9, 10"
    ):
        run.load_checkpoint(3)


def test_there_is_no_checkpoint_before_the_first(run: RunFolder) -> None:
    assert run.latest_checkpoint() is None
    with pytest.raises(FileNotFoundError, match="no checkpoint; complete steps: none"):
        run.load_checkpoint()


def test_incomplete_and_foreign_folders_are_ignored(run: RunFolder) -> None:
    run.save_checkpoint(_checkpoint(3))
    shutil.copytree(run.checkpoint_path(3), run.checkpoint_path(8))
    (run.checkpoint_path(8) / "optimizer.safetensors").unlink()
    (run.checkpoints_path / "step_9").mkdir()
    shutil.copytree(run.checkpoint_path(3), run.checkpoints_path / "step_12_backup")
    assert run.checkpoint_steps() == [3]


def test_a_step_can_be_saved_again(run: RunFolder) -> None:
    run.save_checkpoint(Checkpoint(3, {"means": torch.zeros(1)}, {}, {}))
    run.save_checkpoint(_checkpoint(3))
    _assert_same(run.load_checkpoint(3), _checkpoint(3))
    assert [path.name for path in run.checkpoints_path.iterdir()] == ["step_3"]


def test_only_the_last_checkpoints_are_kept(run: RunFolder) -> None:
    for step in (1, 2, 10):
        run.save_checkpoint(_checkpoint(step))
    run.keep_checkpoints(2)
    assert run.checkpoint_steps() == [2, 10]
    run.keep_checkpoints(0)
    assert run.checkpoint_steps() == [2, 10]
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        run.keep_checkpoints(-1)


def test_a_damaged_checkpoint_is_named(run: RunFolder) -> None:
    folder = run.save_checkpoint(_checkpoint(1))
    (folder / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"state\.json must hold step and data"):
        run.load_checkpoint()
    (folder / "state.json").write_text(json.dumps({"step": 1, "data": {}}))
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights\.safetensors: not a complete"):
        run.load_checkpoint()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("writes_before_kill", [0, 5, 9])
def test_a_kill_during_a_checkpoint_leaves_the_last_one_usable(
    run: RunFolder, writes_before_kill: int
) -> None:
    run.save_checkpoint(_checkpoint(1))
    program = f"""
import os, signal, torch
from pathlib import Path
from vultus.core import files
from vultus.core.run_folder import Checkpoint, RunFolder
count, sync = 0, files._sync
def killing_sync(path):
    global count
    if count == {writes_before_kill}:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    sync(path)
files._sync = killing_sync
run = RunFolder.resume(Path({str(run.path)!r}))
run.save_checkpoint(Checkpoint(2, {{"means": torch.ones(2)}}, {{"m": torch.ones(2)}}, {{}}))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    opened = RunFolder.resume(run.path)
    _assert_same(opened.load_checkpoint(), _checkpoint(1))
    assert [path.name for path in run.checkpoints_path.iterdir()] == ["step_1"]


@pytest.mark.skipif(os.name != "posix", reason="needs locks that end with a killed process")
def test_one_process_at_a_time_writes_a_run(run: RunFolder) -> None:
    program = f"""
import sys
from pathlib import Path
from vultus.core.run_folder import RunFolder
with RunFolder.resume(Path({str(run.path)!r})).stage("training"):
    print("training", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    left = run.media_path / ".vultus-tmp-1-film.mp4"
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "training\n"
        left.write_text("half")
        refusal = pytest.raises(FileExistsError, match="another process is writing this run")
        with refusal, run.stage("training"):
            pytest.fail("two processes were in a stage")
        with refusal:
            RunFolder.resume(run.path)
        assert RunFolder.open(run.path).read_card()["timings"] == {}
        assert left.exists()
        other.kill()
    with RunFolder.resume(run.path).stage("training"):
        assert not left.exists()


def test_reading_a_run_leaves_what_another_process_is_writing(run: RunFolder) -> None:
    under_way = run.checkpoints_path / ".vultus-tmp-1-step_2"
    under_way.mkdir()
    aside = run.path.parent / "aside"
    aside.mkdir()
    (run.path / ".vultus-tmp-2-link").symlink_to(aside)
    (run.media_path / ".vultus-tmp-3-film.mp4").write_text("half")
    RunFolder.open(run.path)
    assert under_way.is_dir()
    RunFolder.resume(run.path)
    assert not [path for path in run.path.rglob("*") if is_temporary(path)]
    assert aside.is_dir()

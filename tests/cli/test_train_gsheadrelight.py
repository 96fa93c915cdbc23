"""``vultus train gsheadrelight``: through the command line, with what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny_image_sets import labels_at, write_lit_set
from vultus.cli.main import run
from vultus.core.image_io import read_image_bytes
from vultus.core.run_folder import RunFolder

TINY = """--preset toy --generator.z-dim 8 --generator.w-dim 8 --generator.num-points 12
    --generator.channels 8 8 8 8 --generator.attention-heads 2 --generator.num-neighbors 4
    --generator.transformer-layers 1 --objective.compactness-neighbors 4
    --discriminator.channel-max 8 --discriminator.channel-base 64
    --training.batch 4 --training.pass-size 2 --training.images 16 --training.log-every 2
    --training.checkpoint-every 2 --training.picture-every 0 --training.evaluate-every 0
    --training.evaluate-images 6""".split()
LABELS = labels_at([0.0, 0.5, -0.5])

pytestmark = pytest.mark.usefixtures("one_thread")


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", "gsheadrelight", *TINY, "--data", str(data), "--out", str(out), *more]


def test_a_generator_is_trained_stopped_and_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_lit_set(tmp_path / "set", LABELS), tmp_path / "run"
    assert run(command(data, out, "--minutes", "0")) == 0
    assert "stopped after 2 of 4 steps (8 images)" in capsys.readouterr().out
    assert run(command(data, out)) == 0
    assert "finished after 4 of 4 steps" in capsys.readouterr().out
    folder = RunFolder(out)
    assert [row["step"] for row in folder.read_metrics()] == [2, 4, 4]
    assert "side_light" in folder.read_metrics()[-1]
    assert folder.read_card()["method"] == "gsheadrelight"
    assert read_image_bytes(folder.media_path / "fakes_lit_0000004.png").shape == (3, 128, 256)


def whole(folder: Path) -> None:
    write_lit_set(folder, LABELS)


def without_lights(folder: Path) -> None:
    path = write_lit_set(folder, LABELS) / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"labels": content["labels"]}))


def with_short_light(folder: Path) -> None:
    path = write_lit_set(folder, LABELS) / "dataset.json"
    content = json.loads(path.read_text())
    content["sh"][1][1] = [0.0] * 8
    path.write_text(json.dumps(content))


FAULTS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "no lights": (without_lights, [], 'dataset.json must hold {"sh"'),
    "short light": (with_short_light, [], "must have 9 numbers, got 8"),
    "no colours": (whole, ["--generator.light-channels", "3"], "light_dim must be 27"),
    "no masks": (lambda folder: write_lit_set(folder, LABELS, channels=3), [], "has no masks"),
    "size": (lambda folder: write_lit_set(folder, LABELS, 64), [], "must have 32 pixels a side"),
    "scenery": (whole, ["--objective.background", "scenery"], "background_points"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    prepare, options, message = FAULTS[fault]
    prepare(tmp_path / "set")
    assert run(command(tmp_path / "set", tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_describes_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_lit_set(tmp_path / "set", LABELS)
    assert run(command(data, tmp_path / "run", "--dry-run")) == 0
    assert "would train gsheadrelight for 4 steps of 4 on 3 images" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_of_torchrun_train_one_generator(tmp_path: Path) -> None:
    data = write_lit_set(tmp_path / "set", LABELS)
    launcher = "-m torch.distributed.run --standalone --nproc-per-node 2 -m vultus".split()
    subprocess.run(
        [sys.executable, *launcher, *command(data, tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert run(command(data, tmp_path / "one")) == 0
    folders = [RunFolder(tmp_path / name) for name in ("one", "two")]
    assert [folder.read_card()["processes"] for folder in folders] == [1, 2]
    one, two = (folder.load_checkpoint().weights for folder in folders)
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=1e-3, atol=1e-5), name

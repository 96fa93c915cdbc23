"""``vultus train``: what a run folder holds, and that a killed run goes on as if nothing was."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from vultus.cli.main import run
from vultus.core.image_io import image_size
from vultus.core.run_folder import RunFolder


def train(capture: Path, out: Path, *options: str) -> list[str]:
    settings = ["--preset", "demo", "--log-every", "1", *options]
    return ["train", "surfhead", "--data", str(capture), "--out", str(out), *settings]


def test_a_run_folder_holds_all_that_was_promised(trained: Path, capture: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert (config["method"], config["seed"]) == ("surfhead", 0)
    # Absolute: the commands after train are called from anywhere.
    assert config["data"]["data"] == str(capture.resolve())
    assert config["config"]["steps"] == 6
    card = json.loads((trained / "card.json").read_text())
    assert card["method"] == "surfhead"
    assert card["surfels"] > 10_000
    assert card["timings"]["training"] > 0
    assert {"versions", "hardware", "command", "created"} < card.keys()
    assert RunFolder(trained).checkpoint_steps() == [4, 6]
    assert [line["step"] for line in RunFolder(trained).read_metrics()] == [2, 4, 6]
    # Truth, rendering, error, normals of four images of each held-out split, 4 pixels between.
    assert image_size(trained / "media" / "contact_sheet.png") == (4 * 44 - 4, 8 * 44 - 4)


def test_the_held_out_splits_are_measured(trained: Path) -> None:
    val, test = json.loads((trained / "evaluation.json").read_text())
    assert (val["split"], test["split"]) == ("val", "test")
    # Camera 1 in four moments; all three cameras in the last one.
    assert (len(val["frames"]), len(test["frames"])) == (4, 3)
    for result in (val, test):
        assert result["protocol"] == "surfhead-v1"
        assert 5 < result["mean"]["psnr"] < 60
        assert all(math.isfinite(value) for value in result["mean"].values())
        rows = [row["psnr"] for row in result["frames"]]
        assert result["mean"]["psnr"] == pytest.approx(sum(rows) / len(rows), rel=1e-5)
    assert {row["image"] for row in test["frames"]} == {f"images/00004_0{c}.png" for c in range(3)}


def test_the_report_needs_no_other_file(trained: Path) -> None:
    page = (trained / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for outside in ("http:", "https:", "url(", "@import", "<script", "<link"):
        assert outside not in page
    for shown in ("psnr", "Novel view (held-out camera)", "Self-reenactment", "<polyline", "loss"):
        assert shown in page


def test_a_dry_run_writes_nothing(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*train(capture, tmp_path / "run", "--steps", "5"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("would train surfhead for 5 steps on 8 images of ")
    assert "it would start with surfels " in out
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_again_trains_no_step(
    own_run: Path, capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = own_run / "checkpoints" / "step_6" / "weights.safetensors"
    before, log = weights.stat().st_mtime_ns, (own_run / "metrics.jsonl").read_text()
    command = ["train", "surfhead", "--preset", "demo", "--steps", "6", "--checkpoint-every", "4"]
    command += ["--log-every", "2", "--data", str(capture), "--out", str(own_run)]
    assert run(command) == 0
    assert f"note: {own_run} continues after step 6\n" in capsys.readouterr().err
    assert weights.stat().st_mtime_ns == before
    assert (own_run / "metrics.jsonl").read_text() == log


def test_a_killed_training_continues_to_the_same_bits(capture: Path, tmp_path: Path) -> None:
    # Steps enough that a busy machine sees the first checkpoint before the last.
    options = ["--steps", "24", "--checkpoint-every", "2", "--optim.finetune-rig"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "vultus", *train(capture, killed, *options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not RunFolder(killed).checkpoint_steps():
            assert process.poll() is None, "the training ended without a checkpoint"
            assert time.monotonic() < deadline, "no checkpoint in two minutes"
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert RunFolder(killed).checkpoint_steps()[-1] < 24
    assert run(train(capture, killed, *options)) == 0
    assert run(train(capture, whole, *options)) == 0
    for name in ("weights", "optimizer"):
        file = Path("checkpoints") / "step_24" / f"{name}.safetensors"
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), name
    assert "rig.expression_coeffs" in load_file(killed / file.with_name("weights.safetensors"))
    assert RunFolder(killed).read_metrics() == RunFolder(whole).read_metrics()
    assert not [path for path in killed.rglob(".vultus-tmp-*")]


def test_a_capture_without_held_out_frames_is_measured_on_its_training_images(
    own_capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("val", "test"):
        (own_capture / f"transforms_{split}.json").unlink()
    assert run(train(own_capture, tmp_path / "run", "--steps", "1")) == 0
    assert "Training images" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (result["split"], len(result["frames"])) == ("train", 8)


def test_held_out_images_are_measured_on_the_way(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(train(capture, out, "--steps", "4", "--evaluate-every", "2")) == 0
    lines = RunFolder(out).read_metrics()
    for split in ("val", "test"):
        assert [line["step"] for line in lines if f"{split}.psnr" in line] == [2]


def test_any_kept_checkpoint_can_be_chosen(
    trained: Path, refuses: Callable[..., str], tmp_path: Path
) -> None:
    files = []
    for choice in (["--step", "4"], ["--step", "6"], []):
        files.append(tmp_path / f"{len(files)}.ply")
        command = ["export", "--run", str(trained), "--out", str(files[-1])]
        assert run([*command, *choice]) == 0
    first, last, default = (path.read_bytes() for path in files)
    assert first != last
    assert default == last
    known = "no checkpoint of step 5; complete steps: 4, 6"
    refuses(["export", "--run", str(trained), "--step", "5"], known)


def test_settings_that_are_no_numbers_are_refused_before_anything_begins(
    capture: Path, tmp_path: Path, refuses
) -> None:
    options = train(capture, tmp_path / "run", "--losses.alpha-weight", "nan")
    refuses(options, "--losses.alpha-weight must be a number, got nan")
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_into_its_capture(capture: Path, refuses: Callable[..., str]) -> None:
    before = sorted(capture.iterdir())
    refuses(train(capture, capture, "--steps", "5"), "is the capture; give the run a folder")
    assert sorted(capture.iterdir()) == before

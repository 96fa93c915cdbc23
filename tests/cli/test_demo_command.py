"""``vultus demo`` at a toy size: what it leaves behind, and that it continues where it stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_captures import TINY_STUDIO
from vultus.cli import demo
from vultus.cli.main import run
from vultus.core.run_folder import RunFolder
from vultus.core.video_io import read_video_frames
from vultus.export.mesh_files import read_mesh
from vultus.gaussians.splat_files import read_splats

Refuses = Callable[..., str]


@pytest.fixture
def filmed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the demo small; returns how many pictures each call films."""
    counts: list[int] = []
    original = demo.film

    def film(config: Any, out: Path, device: torch.device) -> int:
        counts.append(original(config, out, device=device))
        return counts[-1]

    monkeypatch.setattr(demo, "film", film)
    monkeypatch.setattr(demo, "demo_config", lambda seed: TINY_STUDIO)
    # The demo's protocol wants pictures of 256 x 256.
    monkeypatch.setattr(demo, "_PROTOCOL", "surfhead-v1")
    monkeypatch.setattr(demo, "_MESH_VIEWS", 4)
    monkeypatch.setattr(demo, "_MESH_RESOLUTION", 24)
    return counts


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_stopped_demo_continues_and_a_finished_one_repeats_nothing(
    filmed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    command = ["demo", "--out", str(out), "--steps", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(demo, "fit", stop)
        assert run(command) == 130
    assert (out / "run" / "config.json").is_file()
    assert not (out / "report.html").exists()
    with monkeypatch.context() as patch:
        patch.setattr(demo, "_show", stop)
        assert run(command) == 130
    checkpoint = out / "run" / "checkpoints" / "step_3" / "weights.safetensors"
    trained_at, log = checkpoint.stat().st_mtime_ns, (out / "run" / "metrics.jsonl").read_bytes()

    assert run(command) == 0
    assert filmed == [15, 0, 0]
    assert checkpoint.stat().st_mtime_ns == trained_at
    assert (out / "run" / "metrics.jsonl").read_bytes() == log
    _check_results(out)


def _check_results(out: Path) -> None:
    media = out / "run" / "media"
    assert (out / "film.mp4").read_bytes() == (media / "film.mp4").read_bytes()
    frames = list(read_video_frames(out / "film.mp4"))
    # Truth, avatar and normals from the held-out camera, and the avatar turning, in five moments.
    assert len(frames) == 5
    assert frames[0].shape == (3, 40, 4 * 40 + 3 * 4)
    assert len(read_mesh(media / "mesh.ply").faces) > 100
    assert len(read_splats(media / "avatar.ply")) > 10_000
    evaluation = json.loads((out / "run" / "evaluation.json").read_text())
    assert [result["split"] for result in evaluation] == ["val", "test"]
    timings = RunFolder(out / "run").read_card()["timings"]
    assert set(timings) == {"training", "evaluation", "film", "mesh"}
    page = (out / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert {source.split(";")[0] for source in sources} == {"data:video/mp4", "data:image/png"}
    assert "http" not in re.sub(r'src="[^"]*"', "", page)


def test_a_demo_of_other_settings_is_refused_and_fresh_deletes_it_alone(
    filmed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    monkeypatch.setattr(demo, "fit", stop)
    out = tmp_path / "demo"
    assert run(["demo", "--out", str(out), "--steps", "3"]) == 130
    (out / "notes.txt").write_text("mine")
    (out / "film.mp4").write_bytes(b"old")
    other = ["demo", "--out", str(out), "--steps", "4"]
    refuses(other, "config.steps: 3 there, 4 here", "--fresh deletes the earlier demo")
    assert run([*other, "--fresh"]) == 130
    assert filmed == [15, 15]
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "film.mp4").exists()
    assert json.loads((out / "run" / "config.json").read_text())["config"]["steps"] == 4


def test_a_dry_run_writes_nothing(
    filmed: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert run(["demo", "--out", str(out), "--steps", "3", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would film, train 3 steps and write {out}\n"
    assert filmed == []
    assert not out.exists()

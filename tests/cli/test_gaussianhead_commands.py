"""GaussianHead through the commands: a rig's capture, and a video with expression vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vultus.cli.main import run
from vultus.core.run_folder import RunFolder
from vultus.gaussians.splat_files import read_splats

TINY = ["--preset", "small", "--steps", "6", "--checkpoint-every", "4", "--log-every", "2"]
TINY += ["--model.num-gaussians", "200", "--model.width", "16", "--model.warm-up", "2"]
STUDIO = ["--frames", "8", "--size", "40", "--texture-size", "128", "--samples", "1"]
STUDIO += ["--num-lights", "16", "--test-share", "0.25", "--rig", "monocular", "--cameras", "1"]


@pytest.fixture(scope="module")
def avatar(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gaussianhead") / "run"
    assert run(["train", "gaussianhead", *TINY, "--data", str(capture), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gaussianhead") / "video"
    layout = ["--layout", "nerf_blendshape"]
    assert run(["data", "studio", "--out", str(out), *STUDIO, *layout]) == 0
    return out


def test_a_run_says_what_was_trained_and_measured(avatar: Path) -> None:
    card = json.loads((avatar / "card.json").read_text())
    assert card["method"] == "gaussianhead"
    assert card["gaussians"] == 200
    assert card["vgg_loss"] is False
    assert 0 < card["model_bytes"] < 12e6
    assert RunFolder(avatar).checkpoint_steps() == [4, 6]
    results = json.loads((avatar / "evaluation.json").read_text())
    assert [result["split"] for result in results] == ["val", "test"]
    assert all(5 < result["mean"]["psnr"] < 60 for result in results)
    assert (avatar / "report.html").is_file()


def test_the_other_commands_understand_a_run(avatar: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    views = ["--views", "rgb", "depth", "normals"]
    command = ["render", "--run", str(avatar), "--path", "arc", "--frames", "2", *views]
    assert run([*command, "--out", str(film)]) == 0
    assert film.stat().st_size > 0
    command = ["reenact", "--run", str(avatar), "--track", "expressions", "--frames", "2"]
    assert run([*command, "--out", str(tmp_path / "reenacted.mp4")]) == 0
    assert run(["evaluate", "--run", str(avatar)]) == 0


def test_exported_splats_have_a_volume(avatar: Path, tmp_path: Path) -> None:
    out = tmp_path / "avatar.ply"
    assert run(["export", "--run", str(avatar), "--out", str(out)]) == 0
    splats = read_splats(out)
    assert len(splats) == 200
    assert splats.log_scales.shape == (200, 3)


def test_formats_of_other_methods_are_refused(avatar: Path, refuses) -> None:
    command = ["export", "--run", str(avatar), "--format"]
    refuses([*command, "surfhead-ply"], "--format surfhead-ply needs a run of surfhead")
    refuses([*command, "surfhead"], "needs a run of surfhead, not of gaussianhead")
    refuses([*command, "gaussianhead"], "needs model.derivation 'official'")


def test_a_video_without_a_rig_trains_from_a_cube_of_points(
    video: Path, tmp_path: Path, refuses
) -> None:
    command = ["train", "gaussianhead", *TINY, "--data", str(video), "--out", str(tmp_path / "r")]
    refuses(command, "needs a head with a mesh")
    small = ["--preset", "small-video", *TINY[2:]]
    command = ["train", "gaussianhead", *small, "--data", str(video), "--out", str(tmp_path / "v")]
    assert run(command) == 0
    results = json.loads((tmp_path / "v" / "evaluation.json").read_text())
    assert [result["split"] for result in results] == ["test"]

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from official_models import official_avatar, write_flame_capture, write_flame_file
from vultus.cli.main import run
from vultus.gaussians.splat_files import read_splats, write_splats
from vultus.methods.surfhead.official import read_official, write_official


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official") / "model"
    write_official(folder, official_avatar("jbs"))
    return folder


def test_a_moment_becomes_a_file_for_splat_viewers(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flame, out = tmp_path / "flame.safetensors", tmp_path / "head.ply"
    write_flame_file(flame)
    command = ["convert-checkpoint", str(model), "--to", "ply", "--head-file", str(flame)]
    command += ["--timestep", "1", "--out", str(out)]
    assert run([*command, "--dry-run"]) == 0
    assert not out.exists()
    assert run(command) == 0
    text = capsys.readouterr().out
    assert "jbs, third edge unit" in text
    assert "lasg on eyeballs" in text
    splats = read_splats(out)
    assert splats.face_index is None
    assert splats.log_scales.shape == (400, 3)


def test_a_model_is_written_again_with_what_the_user_knows(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    command = ["convert-checkpoint", str(model), "--out", str(out), "--third-edge", "sqrt_area"]
    assert run(command) == 0
    again = read_official(out)
    assert again.third_edge == "sqrt_area"
    assert torch.equal(again.surfels.quats, official_avatar("jbs").surfels.quats)


def test_gaussians_become_surfels(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ga" / "point_cloud" / "iteration_7"
    folder.mkdir(parents=True)
    source = model / "point_cloud" / "iteration_300000"
    (folder / "flame_param.npz").write_bytes((source / "flame_param.npz").read_bytes())
    splats = read_splats(source / "point_cloud.ply")
    thin = torch.full((len(splats), 1), -3.0)
    solid = torch.cat([splats.log_scales.clamp(min=-2.0), thin], dim=1)
    write_splats(
        folder / "point_cloud.ply",
        replace(splats, log_scales=solid, blend_weight_logits=None, specular_features=None),
    )
    command = ["convert-checkpoint", str(tmp_path / "ga"), "--source", "gaussian_avatars"]
    assert run([*command, "--out", str(tmp_path / "surfels")]) == 0
    assert "thickness lost" in capsys.readouterr().out
    avatar = read_official(tmp_path / "surfels")
    assert (avatar.rig, avatar.iteration, len(avatar.surfels)) == ("similarity", 7, 400)


def test_wrong_input_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert run(["convert-checkpoint", *arguments]) == 2
        return capsys.readouterr().err

    assert "a model folder" in refused(str(tmp_path), "--out", str(tmp_path / "x"))
    assert "must be a new or empty folder" in refused(str(model), "--out", str(model))
    out = ["--out", str(tmp_path / "x.obj"), "--to", "ply"]
    assert "--out must end in .ply" in refused(str(model), *out)
    rig = ["--out", str(tmp_path / "x"), "--rig", "jacobian"]
    assert "contradicts" in refused(str(model), *rig)


@pytest.fixture(scope="module")
def run_of_model(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made of the model and the capture that it belongs to."""
    folder = tmp_path_factory.mktemp("runs")
    write_flame_file(folder / "flame.safetensors")
    write_flame_capture(folder / "capture", official_avatar("jbs").track)
    command = ["convert-checkpoint", str(model), "--to", "run", "--out", str(folder / "run")]
    command += ["--data", str(folder / "capture")]
    command += ["--options", "head_file", str(folder / "flame.safetensors")]
    assert run([*command, "--dry-run"]) == 0
    assert not (folder / "run").exists()
    assert run(command) == 0
    return folder / "run"


def test_a_model_becomes_a_run_that_other_commands_understand(
    run_of_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((run_of_model / "config.json").read_text())["config"]
    assert config["specular"]["official_quirks"]
    assert (config["model"]["rig"], config["model"]["third_edge"]) == ("jbs", "unit")
    assert run(["evaluate", "--run", str(run_of_model), "--splits", "train"]) == 0
    assert "psnr" in capsys.readouterr().out
    out = tmp_path / "posed.ply"
    assert run(["export", "--run", str(run_of_model), "--timestep", "1", "--out", str(out)]) == 0
    assert len(read_splats(out)) == 400


def test_a_run_becomes_the_same_model_again(run_of_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = ["export", "--run", str(run_of_model), "--format", "surfhead", "--out", str(out)]
    assert run(command) == 0
    found, given = read_official(out), official_avatar("jbs")
    assert (found.iteration, found.rig, found.third_edge) == (300_000, "jbs", "unit")
    for name, tensor in given.surfels.tensors().items():
        assert torch.equal(found.surfels.tensors()[name], tensor), name
    for name, tensor in given.track.tensors().items():
        assert torch.allclose(found.track.tensors()[name], tensor), name
    assert found.specular is not None
    assert given.specular is not None
    for name, tensor in given.specular.state_dict().items():
        assert torch.equal(found.specular.state_dict()[name], tensor), name


def test_a_model_is_refused_on_a_capture_of_somebody_else(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track = official_avatar("jbs").track
    other = track.replace(identity_coeffs=torch.zeros(1, 300))
    write_flame_capture(tmp_path / "other", other)
    write_flame_capture(tmp_path / "short", track[:2])
    write_flame_file(tmp_path / "flame.safetensors")
    for name, message in (("other", "another subject"), ("short", "has 2 timesteps, the model 3")):
        command = ["convert-checkpoint", str(model), "--to", "run", "--out", str(tmp_path / "run")]
        command += ["--data", str(tmp_path / name)]
        command += ["--options", "head_file", str(tmp_path / "flame.safetensors")]
        assert run(command) == 2
        assert message in capsys.readouterr().err
    command = ["convert-checkpoint", str(model), "--to", "run", "--out", str(tmp_path / "run")]
    assert run(command) == 2
    assert "--data must name the capture" in capsys.readouterr().err


def test_official_programs_need_flame(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    command = ["export", "--run", str(trained), "--format", "surfhead", "--out", str(out)]
    assert run(command) == 2
    assert "official programs need FLAME" in capsys.readouterr().err
    assert not out.exists()

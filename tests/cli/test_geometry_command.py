"""The command that fits a subject's own mesh: what it writes, continues and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vultus.cli.main import run
from vultus.core.image_io import read_image
from vultus.core.run_folder import RunFolder
from vultus.export.mesh_files import read_mesh
from vultus.methods.relightable_blendshapes.geometry_file import PersonalGeometry

SETTINGS = ["--preset", "toy", "--steps", "4", "--checkpoint-every", "2", "--log-every", "1"]
SETTINGS += ["--optim.batch-size", "1", "--optim.observed-frames", "2", "--model.light-height", "2"]


@pytest.fixture(scope="module")
def fitted(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("geometry") / "run"
    assert run(["geometry", *SETTINGS, "--data", str(capture), "--out", str(out)]) == 0
    return out


def test_the_mesh_is_written_with_pictures_and_measurements(fitted: Path) -> None:
    geometry = PersonalGeometry.load(fitted / "geometry.safetensors")
    assert geometry.head["name"] == "procedural"
    mesh = read_mesh(fitted / "mesh_canonical.obj")
    assert torch.allclose(mesh.vertices, geometry.canonical.vertices, atol=1e-6)
    assert read_image(fitted / "media" / "fit.png").shape[0] == 3
    assert read_image(fitted / "media" / "light.png").shape[1:] == (2, 4)
    found = json.loads((fitted / "geometry_evaluation.json").read_text())
    assert found["split"] == "test"
    # The studio's normals and depth are traced: the head model is its own truth.
    assert found["head"]["overlap"] > 0.98
    assert found["head"]["normal_degrees"] < 1.5
    assert found["head"]["depth_millimetres"] < 0.01
    assert found["mesh"]["overlap"] > 0.95
    assert RunFolder(fitted).checkpoint_steps() == [2, 4]


def test_a_finished_run_writes_its_results_again(fitted: Path, capture: Path) -> None:
    before = (fitted / "geometry.safetensors").read_bytes()
    (fitted / "geometry.safetensors").unlink()
    assert run(["geometry", *SETTINGS, "--data", str(capture), "--out", str(fitted)]) == 0
    assert (fitted / "geometry.safetensors").read_bytes() == before


def test_a_run_of_other_settings_is_not_continued(fitted: Path, capture: Path, refuses) -> None:
    command = ["geometry", *SETTINGS, "--data", str(capture), "--out", str(fitted)]
    refuses([*command, "--seed", "1"], "holds a run with other settings", "seed")
    refuses([*command, "--no-resume"], "already holds a run")


def test_the_mean_shape_may_be_the_start(capture: Path, tmp_path: Path) -> None:
    command = ["geometry", *SETTINGS, "--steps", "1", "--identity", "mean"]
    assert run([*command, "--data", str(capture), "--out", str(tmp_path / "run")]) == 0
    geometry = PersonalGeometry.load(tmp_path / "run" / "geometry.safetensors")
    assert geometry.subject.identity_coeffs is not None
    assert not bool(geometry.subject.identity_coeffs.any())
    found = json.loads((tmp_path / "run" / "geometry_evaluation.json").read_text())
    assert found["head"]["depth_millimetres"] > 0.1


def test_a_run_does_not_go_into_its_capture(capture: Path, refuses) -> None:
    command = ["geometry", *SETTINGS, "--data", str(capture), "--out", str(capture)]
    refuses(command, "is the capture; give the run a folder of its own")


def test_a_dry_run_writes_nothing(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["geometry", "--preset", "toy", "--data", str(capture), "--out", str(out)]
    assert run([*command, "--dry-run"]) == 0
    assert not out.exists()


def test_unknown_presets_are_named(capture: Path, tmp_path: Path, refuses) -> None:
    command = ["geometry", "--data", str(capture), "--out", str(tmp_path / "run")]
    refuses([*command, "--preset", "grand"], "--preset must be one of standard, toy", "'grand'")

"""Relightable Gaussian Blendshapes through the commands, and published models in and out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from official_models import official_avatar, write_flame_capture
from synthetic_flame import synthetic_flame
from vultus.cli.avatar_run import DataOptions, run_settings
from vultus.cli.main import run
from vultus.core.bundles import save_bundle
from vultus.core.run_folder import RunFolder
from vultus.gaussians.splat_files import read_splats
from vultus.heads.flame import FLAME_ARRAYS, FLAME_FORMAT, MASK_PREFIX, FlameData
from vultus.methods.relightable_blendshapes.config import PRESETS
from vultus.methods.relightable_blendshapes.official import (
    OfficialModel,
    read_official,
    write_official,
)
from vultus.methods.relightable_blendshapes.posing import Anchors

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ["--preset", "toy", "--steps", "6", "--checkpoint-every", "4", "--log-every", "2"]
TINY += ["--model.num-points", "200"]
FLAME_FACES, ITERATION, BLENDSHAPES = 9976, 7, 50


@pytest.fixture(scope="module")
def avatar(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("blendshapes") / "run"
    command = ["train", "relightable_blendshapes", *TINY, "--data", str(capture)]
    assert run([*command, "--out", str(out)]) == 0
    return out


def test_a_run_says_what_was_trained_and_measured(avatar: Path) -> None:
    card = json.loads((avatar / "card.json").read_text())
    assert card["method"] == "relightable_blendshapes"
    assert 120 < card["gaussians"] < 280
    assert card["blendshapes"] == 52
    assert card["lpips_loss"] is False
    assert RunFolder(avatar).checkpoint_steps() == [4, 6]
    results = json.loads((avatar / "evaluation.json").read_text())
    assert [result["split"] for result in results] == ["val", "test"]
    assert all(5 < result["mean"]["psnr"] < 60 for result in results)
    assert (avatar / "report.html").is_file()


def test_settings_that_cannot_be_built_leave_no_run_behind(
    capture: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    out, typo = tmp_path / "run", tmp_path / "typo.safetensors"
    command = ["train", "relightable_blendshapes", "--preset", "toy-pbr", "--steps", "6"]
    command += ["--model.num-points", "200", "--data", str(capture), "--out", str(out)]
    for options in (["--dry-run"], []):
        refuses([*command, *options, "--materials.geometry", str(typo)], "typo.safetensors")
    assert not out.exists()
    typo.write_bytes(b"nothing")
    refuses([*command, "--materials.geometry", str(typo)], "typo.safetensors")
    assert not out.exists()


def test_a_run_finds_its_files_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = PRESETS["toy-pbr"]
    files = {"geometry": Path("g.safetensors"), "visibility_file": Path("v.npz")}
    given = replace(config, materials=replace(config.materials, **files))
    data = DataOptions(Path("capture"))
    settings = run_settings("relightable_blendshapes", 0, data, given)
    stored = settings.config.materials
    assert settings.data.data == tmp_path / "capture"
    assert stored.geometry == tmp_path / "g.safetensors"
    assert stored.visibility_file == tmp_path / "v.npz"
    assert stored.light_file is None


def test_the_other_commands_understand_a_run(avatar: Path, tmp_path: Path) -> None:
    film, out = tmp_path / "film.mp4", tmp_path / "avatar.ply"
    views = ["--views", "rgb", "depth", "normals"]
    command = ["render", "--run", str(avatar), "--path", "arc", "--frames", "2", *views]
    assert run([*command, "--out", str(film)]) == 0
    assert film.stat().st_size > 0
    command = ["reenact", "--run", str(avatar), "--track", "expressions", "--frames", "2"]
    assert run([*command, "--out", str(tmp_path / "reenacted.mp4")]) == 0
    assert run(["evaluate", "--run", str(avatar)]) == 0
    assert run(["export", "--run", str(avatar), "--out", str(out)]) == 0
    assert read_splats(out).log_scales.shape[1] == 3


def test_a_head_with_teeth_of_its_own_is_no_model_for_the_published_program(
    avatar: Path, refuses: Callable[..., str]
) -> None:
    command = ["export", "--run", str(avatar), "--format", "gaussian_blendshapes"]
    refuses(command, "needs FLAME, the run has procedural")


def flame_of_full_size() -> FlameData:
    """A made-up FLAME with as many faces as the real one, whose back of the head is listed."""
    data = synthetic_flame(num_identity=300, num_expression=100)
    faces = torch.cat([data.faces, data.faces.flip(1)])[:FLAME_FACES]
    return replace(data, faces=faces, uv_faces=faces)


def published_model(num_face: int = 60, num_teeth: int = 8) -> OfficialModel:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 0.01) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    shapes = {
        "means": (3,),
        "sh_dc": (1, 3),
        "sh_rest": (15, 3),
        "log_scales": (3,),
        "quats": (4,),
        "opacity_logits": (),
    }

    def neutral(num: int) -> dict[str, torch.Tensor]:
        return {name: normal(num, *shape, scale=0.3) for name, shape in shapes.items()}

    deltas = {f"{n}_deltas": normal(num_face, *s, BLENDSHAPES) for n, s in shapes.items()}
    anchors = Anchors(
        skinning_weights=normal(num_face, 5, scale=1.0).softmax(dim=1),
        expression_mask=normal(num_face, BLENDSHAPES, scale=1.0).abs(),
        mean_deltas=normal(num_face, 3, BLENDSHAPES),
        quat_deltas=normal(num_face, 4, BLENDSHAPES),
        pose_shapes=normal(num_face, 3, 36),
        eyelid_shapes=normal(num_face, 3, 2),
    )
    teeth = neutral(num_teeth), neutral(num_teeth + 1)
    return OfficialModel(neutral(num_face) | deltas, teeth, anchors, ITERATION)


@pytest.fixture(scope="module")
def flame_capture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A capture tracked with FLAME, and the head's file."""
    folder = tmp_path_factory.mktemp("flame")
    data = flame_of_full_size()
    arrays = {name: getattr(data, name) for name in FLAME_ARRAYS}
    masks = {MASK_PREFIX + name: ids for name, ids in data.masks.items()}
    head = folder / "flame.safetensors"
    save_bundle(head, {**arrays, **masks}, {"format": FLAME_FORMAT, "version": "2023"})
    write_flame_capture(folder / "capture", official_avatar("jbs").track)
    return folder / "capture", head


def test_a_published_model_becomes_a_run_and_the_same_model_again(
    flame_capture: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture, head = flame_capture
    folder, out = tmp_path / "model", tmp_path / "run"
    write_official(folder, published_model())
    command = ["convert-checkpoint", str(folder), "--source", "gaussian_blendshapes"]
    command += ["--data", str(capture), "--options", "head_file", str(head), "--out", str(out)]
    assert run([*command, "--dry-run"]) == 0
    assert not out.exists()
    assert run(command) == 0
    assert "blendshapes" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert config["method"] == "relightable_blendshapes"
    assert config["config"]["model"]["official_quirks"]
    assert run(["evaluate", "--run", str(out), "--splits", "train"]) == 0
    again = tmp_path / "again"
    command = ["export", "--run", str(out), "--format", "gaussian_blendshapes"]
    assert run([*command, "--out", str(again), "--dry-run"]) == 0
    assert not again.exists()
    assert run([*command, "--out", str(again)]) == 0
    given, found = published_model(), read_official(again)
    assert found.iteration == ITERATION
    for ours, theirs in zip((given.face, *given.teeth), (found.face, *found.teeth), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, value in given.anchors.tensors().items():
        assert torch.equal(value, getattr(found.anchors, name)), name


def test_what_cannot_be_converted_is_refused(
    capture: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    command = ["convert-checkpoint", str(tmp_path), "--source", "gaussian_blendshapes"]
    command += ["--out", str(tmp_path / "run")]
    refuses(command, "--data must name the capture")
    refuses([*command, "--data", str(capture)], "has no fix_chkpnt<iteration>.pth")
    write_official(tmp_path, published_model())
    refuses([*command, "--data", str(capture), "--to", "ply"], "needs --to run, got ply")
    assert not (tmp_path / "run").exists()

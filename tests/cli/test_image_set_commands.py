"""The commands that make image sets, from the command line to the reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vultus.cli.main import run
from vultus.core.image_io import write_image
from vultus.data.image_set import open_image_set

TINY = ["--size", "16", "--views", "2", "--samples", "1", "--num-lights", "16"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collection") / "set"
    assert run(["data", "collection", "--out", str(out), "--count", "3", *TINY]) == 0
    return out


def test_a_collection_is_an_image_set(collected: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = open_image_set(collected, needs_masks=True)
    assert (len(found), found.size, found.num_channels) == (3, 16, 4)
    assert run(["data", "collection", "--out", str(collected), "--count", "3", *TINY]) == 0
    assert "3 pictures, 0 of them new" in capsys.readouterr().out
    more = ["data", "collection", "--out", str(collected), "--count", "9", *TINY, "--dry-run"]
    assert run(more) == 0
    # Whoever lacks a picture is taken again.
    assert "pictures to take  7" in capsys.readouterr().out
    assert run([*more, "--seed", "1"]) == 2
    assert "config.seed is 0 there, 1 here" in capsys.readouterr().err


def test_a_collection_is_packed(
    collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "packed"
    command = ["data", "pack", str(collected), "--out", str(out), "--mirror"]
    assert run([*command, "--dry-run"]) == 0
    assert not out.exists()
    assert run(command) == 0
    assert "dataset.json, dataset_rgb_sh_2.json" in capsys.readouterr().out
    packed, before = open_image_set(out), open_image_set(collected)
    assert len(packed) == 6
    assert torch.equal(packed.pixels(3), before.pixels(1).flip(2))
    assert run(command) == 2
    assert "exists; give a new folder" in capsys.readouterr().err


def test_photographs_are_cropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "crops"
    photos.mkdir()
    write_image(photos / "a.png", torch.rand(3, 80, 80, generator=torch.Generator().manual_seed(0)))
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": [10, 10, 70, 70]}))
    (tmp_path / "poses.json").write_text(json.dumps({"a.png": [180.0, 0.0, 0.0]}))
    command = [
        "data",
        "crop",
        str(photos),
        "--out",
        str(out),
        "--boxes",
        str(tmp_path / "boxes.json"),
    ]
    command += ["--size", "32", "--min-side", "64", "--min-crop-side", "20"]
    assert run(command) == 2
    assert "crops need landmarks, or boxes and poses" in capsys.readouterr().err
    command += ["--poses", str(tmp_path / "poses.json")]
    assert run([*command, "--dry-run"]) == 0
    assert "would crop 1 photographs" in capsys.readouterr().out
    assert run(command) == 0
    label = open_image_set(out).labels[0]
    assert label[[3, 7, 11]].tolist() == pytest.approx([0.0, 0.0, -2.7], abs=1e-5)
    assert run([*command, "--pose-model", "x.onnx"]) == 2
    assert "--poses and --pose-model exclude each other" in capsys.readouterr().err


def test_a_folder_without_heads_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "crops"
    photos.mkdir()
    write_image(photos / "a.png", torch.zeros(3, 80, 80))
    (tmp_path / "marks.json").write_text("{}")
    marks = ["--landmarks", str(tmp_path / "marks.json"), "--min-side", "64"]
    assert run(["data", "crop", str(photos), "--out", str(out), *marks]) == 2
    assert "no photograph has a crop; the first: no face was found" in capsys.readouterr().err
    assert not out.exists()

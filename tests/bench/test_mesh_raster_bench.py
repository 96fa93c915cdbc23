"""What is timed of the rasterizer of meshes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vultus.bench.mesh_raster import bench_mesh_raster
from vultus.cli.main import run


def test_pictures_and_gradients_are_timed() -> None:
    rows = bench_mesh_raster(200, 2, 16, 1)
    assert [row.implementation for row in rows] == ["rasterize", "picture", "picture, gradients"]
    assert {row.scene for row in rows} == {"200 faces, 2 x 16 x 16"}
    assert all(row.total.median > 0 for row in rows)


def test_the_command_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "mesh", "--num-faces", "100", "--batch", "1", "--size", "12"]
    assert run([*command, "--repeats", "1", "--json", str(tmp_path / "rows.json")]) == 0
    assert "picture, gradients" in capsys.readouterr().out
    assert json.loads((tmp_path / "rows.json").read_text())
    assert run([*command, "--dry-run"]) == 0
    assert "would draw 100 faces in 1 x 12 x 12 pixels" in capsys.readouterr().out

"""Prototypes are files that the user names; what they lack is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from vultus.bench.prototypes import load_gpu_prototypes, load_module, load_prototype

GPU_FUNCTIONS = "def pack_cam(view, intrinsics): return 1\ndef planar(scene): return scene\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}_for_the_prototype_test.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_prototype_may_import_its_neighbours(tmp_path: Path):
    write(tmp_path, "neighbour", "answer = 42\n")
    path = write(tmp_path, "own", "from neighbour_for_the_prototype_test import answer\n")
    assert load_module(path, ["answer"]).answer == 42


def test_every_kind_of_primitive_finds_the_file_that_has_its_rasterizer(tmp_path: Path):
    three = write(tmp_path, "three", GPU_FUNCTIONS + "class Raster3D: pass\n")
    two = write(tmp_path, "two", GPU_FUNCTIONS + "class Raster2D: pass\n")
    modules = load_gpu_prototypes([three, two], ["surfels", "gaussians"])
    assert hasattr(modules["surfels"], "Raster2D")
    assert hasattr(modules["gaussians"], "Raster3D")
    with pytest.raises(ValueError, match="must define Raster3D"):
        load_gpu_prototypes([two], ["gaussians"])


def test_a_file_that_is_missing_or_lacks_a_name_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"prototype .*nothing\.py does not exist"):
        load_prototype(tmp_path / "nothing.py")
    path = write(tmp_path, "empty", "")
    with pytest.raises(ValueError, match="must define Raster2D and camera_vector"):
        load_prototype(path)
    with pytest.raises(ValueError, match="must define pack_cam and planar"):
        load_gpu_prototypes([path], ["surfels"])
    with pytest.raises(ValueError, match="must be a Python file"):
        load_module(path.rename(path.with_suffix(".txt")), ["x"])

"""``vultus mesh --compare.scan``: the mesh of a run against a surface of known place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vultus.cli.main import run
from vultus.core.files import read_json
from vultus.export.mesh_files import read_mesh, write_mesh
from vultus.geometry.meshes import TriangleMesh

TINY = ["--resolution", "48", "--views", "6"]


@pytest.fixture(scope="module")
def own_mesh(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's mesh as a scan in millimetres whose origin lies 2 cm beside the world's."""
    folder = tmp_path_factory.mktemp("mesh")
    assert run(["mesh", "--run", str(trained), *TINY, "--out", str(folder / "mesh.ply")]) == 0
    mesh = read_mesh(folder / "mesh.ply")
    scan = mesh.vertices.clone()
    scan[:, 0] -= 0.02
    write_mesh(folder / "scan.ply", TriangleMesh(1000.0 * scan, mesh.faces))
    return folder / "scan.ply"


def compare(run_path: Path, scan: Path, out: Path, *options: str) -> dict[str, float]:
    arguments = ["mesh", "--run", str(run_path), *TINY, "--out", str(out)]
    arguments += ["--compare.scan", str(scan), "--compare.scale", "0.001", *options]
    assert run(arguments) == 0
    return read_json(run_path / "mesh_evaluation.json")


def test_a_scan_in_place_is_as_near_as_its_samples(own_run: Path, own_mesh: Path) -> None:
    out = own_run / "mesh.ply"
    in_place = compare(own_run, own_mesh, out, "--compare.offset", "0.02", "0", "0")
    assert in_place["chamfer_mm"] < 0.5
    assert in_place["cameras"] == 1
    assert 0.1 < in_place["share_of_mesh"] < 0.6
    beside = compare(own_run, own_mesh, out)
    assert beside["chamfer_mm"] > 4.0


def test_the_floor_cuts_the_share_that_counts(own_run: Path, own_mesh: Path) -> None:
    offset = ["--compare.offset", "0.02", "0", "0"]
    out = own_run / "mesh.ply"
    whole = compare(own_run, own_mesh, out, *offset)
    upper = compare(own_run, own_mesh, out, *offset, "--compare.floor", "0.0")
    assert upper["share_of_mesh"] < 0.8 * whole["share_of_mesh"]
    assert upper["floor"] == 0.0


def test_a_scan_that_is_not_there_is_one_line(trained: Path, refuses, tmp_path: Path) -> None:
    arguments = ["mesh", "--run", str(trained), "--compare.scan", str(tmp_path / "no.ply")]
    refuses(arguments, "no.ply")

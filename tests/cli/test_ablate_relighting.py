"""``vultus ablate`` on captures that tell their lights: tables of relighting, and of variants."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from vultus.cli.main import run

STUDIO = ["--frames", "5", "--cameras", "3", "--size", "40", "--texture-size", "128"]
STUDIO += ["--samples", "1", "--num-lights", "16", "--test-share", "0.2", "--film", "srgb"]
SETTINGS = ["model.num-points", "300", "model.num-expressions", "2", "steps", "3"]
SETTINGS += ["materials.map-rows", "4"]
WITH = ("toy-pbr", "toy-pbr-geometry")
TABLES = [
    "training light train",
    "light top",
    "light sky",
    "mean of the lights that are new to it",
    "surface and found light",
]


def ablate(data: Path, out: Path, *options: str) -> list[str]:
    command = ["ablate", "relightable_blendshapes", "--data", str(data), "--out", str(out)]
    return [*command, "--set", *SETTINGS, *options]


@pytest.fixture(scope="module")
def lit_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ablate") / "capture"
    assert run(["data", "studio", "--out", str(out), *STUDIO, "--test-lights", "top", "sky"]) == 0
    return out


@pytest.fixture(scope="module")
def mesh(lit_capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ablate") / "mesh"
    fit = ["geometry", "--preset", "toy", "--schedule", "0.01", "--data", str(lit_capture)]
    assert run([*fit, "--out", str(out)]) == 0
    return out / "geometry.safetensors"


@pytest.fixture(scope="module")
def compared(lit_capture: Path, mesh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds in calls of their own, as processes side by side do, then one over both."""
    out = tmp_path_factory.mktemp("ablate") / "out"
    options = ["--presets", "toy-pbr", "--vary", "materials.geometry", str(mesh)]
    for seeds in (["0"], ["5"], ["0", "5"]):
        assert run(ablate(lit_capture, out, *options, "--seeds", *seeds)) == 0
    return out


def test_every_variant_has_runs_of_its_own(compared: Path, mesh: Path) -> None:
    for name in WITH:
        for seed in (0, 5):
            config = json.loads((compared / f"{name}-seed{seed}" / "config.json").read_text())
            assert config["seed"] == seed
            assert config["config"]["model"]["num_points"] == 300
            geometry = str(mesh) if name == "toy-pbr-geometry" else None
            assert config["config"]["materials"]["geometry"] == geometry


def test_relighting_has_a_table_per_light_and_two_that_sum_up(compared: Path) -> None:
    further = json.loads((compared / "ablation.json").read_text())["further"]
    text = (compared / "ablation.md").read_text()
    for name in WITH:
        assert list(further[name]) == TABLES
        scores = [
            json.loads((compared / f"{name}-seed{seed}" / "relighting.json").read_text())
            for seed in (0, 5)
        ]
        assert {each["step"] for each in scores} == {3}
        for light in ("top", "sky"):
            values = [each["lights"][light]["psnr_aligned"] for each in scores]
            assert further[name][f"light {light}"]["psnr_aligned"] == values
            cell = f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g}"
            table = text.split(f"Light {light}; ")[1]
            (row,) = [line for line in table.split("\n\n")[1].splitlines() if f"| {name} |" in line]
            assert cell in row
        both = further[name]["mean of the lights that are new to it"]["ssim"]
        lights = [[each["lights"][light]["ssim"] for light in ("top", "sky")] for each in scores]
        assert both == pytest.approx([statistics.fmean(pair) for pair in lights])
        surface = further[name]["surface and found light"]
        assert surface["normal_degrees"] == [each["surface"]["normal_degrees"] for each in scores]
        assert {"albedo_psnr", "light_cosine", "lit_light_cosine"} < surface.keys()


def test_a_collecting_call_measures_nothing_anew(lit_capture, mesh, compared, capsys) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in compared.glob("*/**/*.[js]*")}

    before = times()
    options = ["--presets", "toy-pbr", "--vary", "materials.geometry", str(mesh)]
    assert run(ablate(lit_capture, compared, *options, "--seeds", "0", "5")) == 0
    printed = capsys.readouterr().out
    assert printed.count("is finished") == 4
    assert "light top" in printed
    assert times() == before


def test_lost_or_older_scores_of_relighting_are_measured_alone(lit_capture, compared) -> None:
    path = compared / "toy-pbr-seed0"
    scores = json.loads((path / "relighting.json").read_text())
    weights = {each: each.stat().st_mtime_ns for each in path.rglob("weights*")}
    (path / "relighting.json").write_text(json.dumps({**scores, "step": 2, "scale": [9, 9, 9]}))
    command = ablate(lit_capture, compared, "--presets", "toy-pbr", "--seeds", "0")
    assert run(command) == 0
    assert json.loads((path / "relighting.json").read_text()) == scores
    (path / "relighting.json").unlink()
    assert run(command) == 0
    assert json.loads((path / "relighting.json").read_text()) == scores
    assert {each: each.stat().st_mtime_ns for each in path.rglob("weights*")} == weights


def test_runs_side_by_side_give_the_same_numbers(lit_capture, compared, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    options = ["--presets", "toy", "toy-pbr", "--seeds", "5", "--jobs", "2"]
    assert run(ablate(lit_capture, out, *options)) == 0
    assert f"what it printed: {out / 'toy-pbr-seed5.log'}" in capsys.readouterr().out
    assert "Novel view" in (out / "toy-pbr-seed5.log").read_text()
    name = "toy-pbr-seed5"
    for file in ("relighting.json", "evaluation.json"):
        assert json.loads((out / name / file).read_text()) == json.loads(
            (compared / name / file).read_text()
        )
    # Colours without materials cannot be relit; they have no rows there.
    stored = json.loads((out / "ablation.json").read_text())
    assert stored["further"]["toy"] == {}
    assert list(stored["further"]["toy-pbr"]) == TABLES
    assert set(stored["presets"]) == {"toy", "toy-pbr"}


def test_a_dry_run_of_runs_side_by_side_writes_nothing(lit_capture, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    options = ["--presets", "toy", "toy-pbr", "--seeds", "5", "--jobs", "2", "--dry-run"]
    assert run(ablate(lit_capture, out, *options)) == 0
    assert capsys.readouterr().out.count("would train") == 2
    assert not out.exists()


def test_a_run_that_fails_aside_is_an_error_of_the_command(lit_capture, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    options = ["--presets", "toy-pbr", "--vary", "materials.geometry", str(tmp_path / "none")]
    command = ablate(lit_capture, out, *options, "--seeds", "0", "--jobs", "2")
    assert run(command) == 2
    captured = capsys.readouterr()
    assert str(tmp_path / "none") in captured.err
    assert "toy-pbr-geometry-seed0 has failed" in captured.out
    assert not (out / "ablation.json").exists()


def test_captures_without_known_lights_have_no_such_tables(capture, tmp_path, capsys) -> None:
    options = ["--presets", "toy-pbr", "--seeds", "0"]
    (tmp_path / "bare").mkdir()
    for entry in capture.iterdir():
        if entry.name != "light.json":
            (tmp_path / "bare" / entry.name).symlink_to(entry)
    assert run(ablate(tmp_path / "bare", tmp_path / "out", *options)) == 0
    assert "further" not in json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert not (tmp_path / "out" / "toy-pbr-seed0" / "relighting.json").exists()
    assert "found light" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "model.points", "3"], "--set model.points is not known; ModelConfig has: "),
        (["--vary", "materials.visibility", "cached"],
         "--vary materials.visibility: preset 'toy-pbr' has cached as it is"),
        (["--vary", "materials.no_visibility", "1"], "--vary materials.no_visibility is not known"),
        (["--vary", "materials.map-rows", "8", "materials.map_rows", "9"],
         "--vary materials.map_rows: two runs would be called 'toy-pbr-map-rows'"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["--set", "materials.tonemap", "none"],
         "materials.tonemap must be srgb or studio to compare light, got none"),
    ],
)  # fmt: skip
def test_what_cannot_be_varied_is_refused_before_training(
    lit_capture, tmp_path, refuses, options, message
) -> None:
    command = ["ablate", "relightable_blendshapes", "--data", str(lit_capture), "--seeds", "0"]
    command += ["--out", str(tmp_path / "out"), "--presets", "toy-pbr", *options]
    refuses(command, message)
    assert not (tmp_path / "out").exists()

"""``vultus ablate``: runs of several presets and seeds, and one table about them."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest

from vultus.cli.main import run
from vultus.core.run_folder import RunFolder
from vultus.methods.registry import METHODS, method_presets
from vultus.methods.surfhead.config import PRESETS, SurfHeadConfig, scale_schedule

# 6000 steps become three.
SCHEDULE = "0.0005"


def ablate(capture: Path, out: Path, *options: str) -> list[str]:
    presets = ["--presets", "small", "small-similarity", "--seeds", "0", "3"]
    settings = ["--data", str(capture), "--out", str(out), "--schedule", SCHEDULE]
    return ["ablate", "surfhead", *settings, *presets, *options]


@pytest.fixture(scope="module")
def compared(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ablation")
    assert run(ablate(capture, out)) == 0
    return out


def test_every_preset_is_trained_with_every_seed(compared: Path):
    for preset in ("small", "small-similarity"):
        for seed in (0, 3):
            folder = RunFolder(compared / f"{preset}-seed{seed}")
            assert folder.checkpoint_steps() == [3]
            config = json.loads(folder.config_path.read_text())
            assert config["seed"] == seed
            assert config["config"]["model"]["rig"] == PRESETS[preset].model.rig


def test_the_table_holds_means_and_spreads_of_the_runs(compared: Path):
    values = []
    for seed in (0, 3):
        val, _ = json.loads((compared / f"small-seed{seed}" / "evaluation.json").read_text())
        values.append(val["mean"]["psnr"])
    stored = json.loads((compared / "ablation.json").read_text())
    assert stored["seeds"] == [0, 3]
    assert stored["presets"]["small"]["val"]["psnr"] == values
    text = (compared / "ablation.md").read_text()
    cell = f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g}"
    (row,) = [line for line in text.split("Self-")[0].splitlines() if line.startswith("| small |")]
    assert cell in row
    assert "protocol surfhead-v1" in text


def test_a_second_call_trains_nothing_and_prints_the_same(capture, compared, capsys):
    before = {path: path.stat().st_mtime_ns for path in compared.rglob("weights*")}
    assert run(ablate(capture, compared, "--metrics", "psnr")) == 0
    printed = capsys.readouterr().out
    assert printed.count("is finished") == 4
    assert "Self-reenactment" not in printed.split("tables:")[0].split("novel view")[0]
    assert {path: path.stat().st_mtime_ns for path in compared.rglob("weights*")} == before


def test_numbers_of_another_protocol_are_measured_anew(capture, compared, tmp_path):
    out = tmp_path / "ablation"
    shutil.copytree(compared, out)
    assert run(ablate(capture, out, "--protocol", "held-out-v1")) == 0
    for path in out.glob("*/evaluation.json"):
        assert {result["protocol"] for result in json.loads(path.read_text())} == {"held-out-v1"}
    assert "protocol held-out-v1" in (out / "ablation.md").read_text()


def test_other_settings_are_refused_in_the_same_folder(capture, compared, capsys):
    assert run([*ablate(capture, compared), "--schedule", "0.001"]) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["ablate", "--data", "x"], "the method comes first"),
        (["ablate", "nerf"], "method must be one of surfhead, "),
        (["ablate", "surfhead", "--data", ".", "--out", "o", "--presets", "big"],
         "--presets must be among paper"),
        (["ablate", "surfhead", "--data", ".", "--out", "o", "--seeds"], "at least one"),
        (["ablate", "surfhead", "--data", ".", "--out", "o", "--metrics", "beauty"],
         "--metrics must be among psnr"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(options, message, capsys):
    assert run(options) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_writes_nothing(capture, tmp_path):
    assert run(ablate(capture, tmp_path / "out", "--dry-run")) == 0
    assert not (tmp_path / "out").exists()


def test_a_scaled_schedule_keeps_its_proportions():
    paper = SurfHeadConfig()
    tenth = scale_schedule(paper, 0.1)
    assert (tenth.steps, tenth.densify.stop_step, tenth.losses.distortion_from) == (
        30_000, 15_000, 3_000,
    )  # fmt: skip
    assert (tenth.model.sh_degree_interval, tenth.specular.lr_steps) == (100, 30_000)
    assert scale_schedule(PRESETS["small"], 0.1).densify.stop_step == 0
    with pytest.raises(ValueError, match="schedule must be positive"):
        scale_schedule(paper, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_presets_that_are_compared_by_default(method, capture, tmp_path, capsys):
    arguments = ["--data", str(capture), "--out", str(tmp_path), "--seeds", "1", "--dry-run"]
    assert set(METHODS[method].ablation) <= set(method_presets(method))
    assert run(["ablate", method, *arguments]) == 0
    out = capsys.readouterr().out
    for preset in METHODS[method].ablation:
        assert f"{preset}-seed1" in out.replace("\n", "")

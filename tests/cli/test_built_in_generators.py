"""Generators of the package: found without options, named by ``demo``, said to be used."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

import vultus
from relight_heads import write_relightable
from tiny_generators import write_tiny_generator, write_tiny_run
from tiny_image_sets import labels_at, write_image_set
from vultus.cli import built_in_generators
from vultus.cli.built_in_generators import DEMO, built_in_file
from vultus.cli.main import run
from vultus.core.bundles import load_bundle
from vultus.core.config import config_to_data
from vultus.core.environment import package_versions
from vultus.core.image_io import read_image_bytes
from vultus.core.run_folder import RunFolder
from vultus.methods.registry import GENERATORS, method_presets

Refuses = Callable[..., str]

MOST_BYTES = 15_000_000
LINE = "generator: the built-in one of {}"
OF_BOTH = ("generate", "generate-video", "generate-mesh", "mix-styles")
COMMANDS = [(name, method) for name in OF_BOTH for method in GENERATORS]
COMMANDS += [("generate-relit", "gsheadrelight"), ("generate-splats", "gsheadrelight")]


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that stands in for that of the package; the working folder is another."""
    folder, work = tmp_path / "assets", tmp_path / "work"
    folder.mkdir()
    work.mkdir()

    def lookup(method: str) -> Path:
        return folder / f"{method}.safetensors"

    monkeypatch.setattr(built_in_generators, "built_in_file", lookup)
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def tiny(assets: Path) -> Path:
    """The same with a tiny generator of each method."""
    write_tiny_generator(assets / "spherehead.safetensors")
    write_relightable(assets / "gsheadrelight.safetensors")
    return assets


@pytest.mark.parametrize(("name", "method"), COMMANDS)
@pytest.mark.parametrize("weights", [(), ("--weights", "demo")], ids=["left-out", "demo"])
def test_commands_take_the_built_in_generator_and_say_so(
    tiny: Path, capsys: pytest.CaptureFixture[str], name: str, method: str, weights: tuple[str]
) -> None:
    assert run([name, method, *weights, "--dry-run"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == LINE.format(method)
    assert second.startswith("would ")


@pytest.mark.parametrize("method", GENERATORS)
def test_photos_are_inverted_with_it(
    tiny: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    images = write_image_set(Path("set"), labels_at([0.0]), size=64) / "img"
    photo = next(images.rglob("*.png"))
    label = Path("label.json")
    label.write_text(json.dumps(labels_at([0.0])[0].tolist()))
    command = ["invert", method, "--photo", str(photo), "--label", str(label), "--out", "found"]
    for weights in ([], ["--weights", "demo"]):
        assert run([*command, *weights, "--dry-run"]) == 0
        assert capsys.readouterr().out.startswith(LINE.format(method))


def test_it_is_measured(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_image_set(Path("set"), labels_at([0.0, 1.0, 2.0]), size=64)
    command = ["evaluate-generator", "spherehead", "--data", str(images)]
    command += ["--metrics", "random_feature_distance", "--count", "2", "--dry-run"]
    assert run(command) == 0
    assert capsys.readouterr().out.startswith(LINE.format("spherehead"))


def test_its_pictures_are_those_of_its_file(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "spherehead"]) == 0
    assert "5 views of 1 person" in capsys.readouterr().out
    file = ["--weights", str(tiny / "spherehead.safetensors"), "--out", "same"]
    assert run(["generate", "spherehead", *file]) == 0
    assert "built-in" not in capsys.readouterr().out
    pictures = [read_image_bytes(Path(folder) / "seed0000.png") for folder in ("people", "same")]
    assert torch.equal(*pictures)


@pytest.mark.parametrize("method", GENERATORS)
def test_without_one_the_way_to_another_is_told(
    assets: Path, refuses: Refuses, method: str
) -> None:
    for weights in ([], ["--weights", "demo"]):
        refuses(
            ["generate", method, *weights],
            f"has no built-in generator of {method}",
            f"vultus train {method}",
            "vultus convert-checkpoint",
        )
    assert not Path("people").exists()


def test_demo_is_refused_where_it_may_mean_something_else(
    tiny: Path, refuses: Refuses, capsys: pytest.CaptureFixture[str]
) -> None:
    DEMO.mkdir()  # As ``make demo`` leaves it: no generator.
    assert run(["generate", "spherehead", "--weights", "demo", "--dry-run"]) == 0
    DEMO.rmdir()
    write_tiny_run(DEMO)
    path = str(DEMO.resolve())
    refuses(["generate", "spherehead", "--weights", "demo"], "is the built-in generator", path)
    capsys.readouterr()
    assert run(["generate", "spherehead", "--weights", path, "--dry-run"]) == 0
    assert "built-in" not in capsys.readouterr().out


def test_it_has_no_steps(tiny: Path, refuses: Refuses) -> None:
    refuses(["generate", "spherehead", "--step", "3"], "--step needs a run folder, got the built")


def test_runs_become_files_that_tell_where_they_come_from(
    assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"name": "people", "images": 7, "size": 64, "id": "abc", "collection": {"seed": 5}}
    training = write_tiny_run(Path("runs"))
    RunFolder(training).update_card(data=data, timings={"training": 12.5})
    out = assets / "spherehead.safetensors"
    command = ["convert-checkpoint", str(training), "--source", "generator_run", "--half"]
    command += ["--license", "Apache-2.0", "--note", "Made for a test.", "--out", str(out)]
    assert run(command) == 0
    facts = load_bundle(out).metadata
    origin = facts["origin"]
    assert facts["method"] == "spherehead"
    assert facts["config"]["z_dim"] == 8
    assert origin["run"] == "runs"
    assert (origin["step"], origin["images_seen"], origin["seed"]) == (4, 16, 0)
    assert (origin["license"], origin["note"]) == ("Apache-2.0", "Made for a test.")
    assert origin["data"] == data
    assert origin["seconds"] == 12.5
    assert origin["vultus"] == package_versions()["vultus"]
    assert origin["training"]["objective"]["neural_size_final"] == 12
    assert "generator" not in origin["training"]
    check_no_paths(facts)
    capsys.readouterr()
    assert run(["generate", "spherehead", "--dry-run"]) == 0
    line = f"{LINE.format('spherehead')}, which saw 16 images, Apache-2.0"
    assert capsys.readouterr().out.splitlines()[0] == line


def test_files_are_packed_again(assets: Path, refuses: Refuses) -> None:
    whole, half = write_relightable(assets / "whole.safetensors"), assets / "half.safetensors"
    command = ["convert-checkpoint", str(whole), "--source", "generator_run", "--out", str(half)]
    refuses([*command, "--iteration", "4"], "a generator's file holds one model, got 4")
    assert run([*command, "--half", "--license", "CC0-1.0"]) == 0
    before, after = load_bundle(whole), load_bundle(half)
    assert after.metadata == {**before.metadata, "origin": {"license": "CC0-1.0"}}
    assert all(torch.equal(after.tensors[n], t.half()) for n, t in before.tensors.items())


def check_no_paths(facts: Any) -> None:
    """Fail if a text in JSON data is an absolute path: files travel to other machines."""
    if isinstance(facts, dict):
        facts = list(facts.values())
    if isinstance(facts, list):
        for part in facts:
            check_no_paths(part)
    assert not (isinstance(facts, str) and Path(facts).is_absolute())


# What follows is about the files that the package has.


def test_a_wheel_takes_the_files_along() -> None:
    project = Path(vultus.__file__).parents[2] / "pyproject.toml"
    if not project.is_file():
        pytest.skip("the package was not installed from a checkout")
    package_data = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"]
    assert "assets/*" in package_data["vultus"]
    path = Path(str(built_in_file("spherehead")))
    assert path == Path(str(files("vultus"))) / "assets/spherehead.safetensors"


def built_in(method: str) -> Path:
    path = Path(str(built_in_file(method)))
    if not path.is_file():
        pytest.skip(f"the package has no generator of {method}")
    return path


@pytest.mark.parametrize("method", GENERATORS)
def test_built_in_files_are_small_and_tell_where_they_come_from(method: str) -> None:
    path = built_in(method)
    assert path.stat().st_size < MOST_BYTES
    facts = load_bundle(path).metadata
    origin = facts["origin"]
    assert facts["method"] == method
    assert facts["config"]
    assert origin["license"] == "Apache-2.0"
    assert origin["images_seen"] > 0
    assert {"step", "seed", "vultus", "training"} <= origin.keys()
    assert "data" in origin or "note" in origin
    check_no_paths(facts)


@pytest.mark.parametrize("method", GENERATORS)
def test_the_preset_demo_makes_networks_like_the_built_in_ones(method: str) -> None:
    facts = load_bundle(built_in(method)).metadata
    preset: Any = method_presets(method)["demo"]
    assert facts["config"] == config_to_data(preset.generator)


@pytest.mark.parametrize("method", GENERATORS)
def test_built_in_generators_show_different_heads(method: str, tmp_path: Path) -> None:
    built_in(method)
    command = ["generate", method, "--seeds", "0-1", "--views", "front", "--outputs", "rgb", "mask"]
    assert run([*command, "--layout", "images", "--out", str(tmp_path / "people")]) == 0
    rgb, mask = (
        torch.stack([read_image_bytes(path).float() for path in sorted(folder.glob("*.png"))])
        for folder in (tmp_path / "people/rgb", tmp_path / "people/mask")
    )
    side = rgb.shape[-1]
    middle = slice(3 * side // 8, 5 * side // 8)
    assert float(mask[..., middle, middle].mean()) > 0.8 * 255
    assert float(mask[..., : side // 8, : side // 8].mean()) < 0.2 * 255
    assert float((rgb[0] - rgb[1]).abs().mean()) > 2.0
    assert float(rgb.std()) > 20.0

"""``vultus evaluate-generator``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from relight_heads import write_relightable
from tiny_generators import TINY, write_tiny_generator
from tiny_image_sets import labels_at, write_image_set, write_lit_set
from tiny_onnx import write_mean_color_model
from vultus.cli import evaluate_generator
from vultus.cli.main import run
from vultus.core.image_io import image_size


def test_numbers_are_printed_and_written(
    tmp_path: Path, capsys: object, refuses: Callable[..., str]
) -> None:
    weights = write_tiny_generator(tmp_path / "generator.safetensors")
    data = write_image_set(tmp_path / "images", labels_at([0.0, 1.0, 2.0, 3.0]), 64)
    command = ["evaluate-generator", "spherehead", "--weights", str(weights), "--data", str(data)]
    command += ["--count", "5", "--batch", "3", "--swap-count", "0"]
    out = tmp_path / "quality.json"
    assert run([*command, "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written["protocol"] == "generator-all-rendered-5-v1"
    assert list(written["results"]) == ["random_feature_distance"]
    missing = "vultus assets import inception"
    refuses([*command, "--metrics", "fid", "--device", "cpu"], missing)
    refuses([*command, "--metrics", "fid", "--dry-run"], missing)
    refuses([*command, "--metrics", "pr", "--count", "3", "--dry-run"], "pr needs at least 4 real")
    small = write_image_set(tmp_path / "small", labels_at([0.0, 1.0]), 32)
    refuses([*command, "--data", str(small), "--dry-run"], "makes images of 64 pixels, these have")
    refuses([*command, "--count", "1"], "count must be at least 2")
    refuses([*command, "--out", str(tmp_path / "x.txt")], "--out must end in .json")


def test_heads_are_shown_before_other_backgrounds(
    tmp_path: Path, refuses: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_tiny_generator(tmp_path / "generator.safetensors")
    data = write_image_set(tmp_path / "images", labels_at([0.0, 1.0]), 64)
    command = ["evaluate-generator", "spherehead", "--data", str(data), "--count", "2"]
    command += ["--out", str(tmp_path / "quality.json"), "--weights"]
    few = ["--swap-count", "2"]
    own = [*command, str(weights), *few]
    assert run(own) == 0
    plain = json.loads((tmp_path / "quality.json").read_text())
    assert plain["protocol"] == "generator-all-rendered-2-v1, background-swap-2-v1"
    changes = ["background_swap_head", "background_swap_outside"]
    assert list(plain["results"]) == ["random_feature_distance", *changes]
    model = tmp_path / "matte.onnx"
    refuses([*own, "--matte-model", str(model)], "matte.onnx: no ONNX model here")
    model.write_bytes(b"weights")
    # Coverage is the redness that the network sees.
    monkeypatch.setattr(
        evaluate_generator, "open_network", lambda path: lambda pixels: [pixels[:, :1]]
    )
    assert run([*own, "--matte-model", str(model)]) == 0
    found = json.loads((tmp_path / "quality.json").read_text())
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    assert found["protocol"].endswith(f", background-swap-2-matte-{digest}-v1")
    assert found["results"].pop("background_swap_mask") > 0.0
    assert found["results"] == plain["results"]
    unused = ["--matte-model", str(model), "--swap-count", "0"]
    refuses([*own, *unused], "--matte-model needs --swap-count above 0")
    bare = replace(TINY, has_background=False)
    without = [*command, str(write_tiny_generator(tmp_path / "bare.safetensors", bare))]
    assert run(without) == 0
    bare_results = json.loads((tmp_path / "quality.json").read_text())
    assert bare_results["protocol"] == "generator-all-rendered-2-v1"
    assert list(bare_results["results"]) == ["random_feature_distance"]
    nothing = "this generator paints nothing behind heads"
    refuses([*without, "--matte-model", str(model)], f"--matte-model: {nothing}")
    refuses([*without, *few], f"--swap-count: {nothing}")
    assert run([*without, "--swap-count", "0", "--dry-run"]) == 0


def test_lights_are_measured_of_generators_that_have_them(
    tmp_path: Path, refuses: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_relightable(tmp_path / "lit.safetensors")
    data = write_lit_set(tmp_path / "set", labels_at([0.01 * k for k in range(40)]))
    command = ["evaluate-generator", "gsheadrelight", "--weights", str(weights)]
    command += ["--data", str(data), "--count", "5", "--batch", "5"]
    lit = ["--light-count", "4", "--light-views", "2"]
    out = tmp_path / "quality.json"
    sheet = tmp_path / "lights.png"
    assert run([*command, *lit, "--out", str(out), "--light-sheet", str(sheet)]) == 0
    assert image_size(sheet) == (4 * 32 + 3 * 4, 3 * 32 + 2 * 4)
    written = json.loads(out.read_text())
    assert written["protocol"] == "generator-all-rendered-5-black-v1, light-probe-4x2-v2"
    assert list(written["results"])[:2] == ["random_feature_distance", "light_error"]

    # Numbers are there though their pictures cannot be written.
    def fail(path: Path, image: Tensor) -> None:
        raise OSError(f"{path}: no space left")

    out.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_generator, "write_image", fail)
        assert run([*command, *lit, "--out", str(out), "--light-sheet", str(sheet)]) != 0
    assert json.loads(out.read_text()) == written
    asked = [*command, "--light-sheet"]
    refuses([*asked, str(sheet), "--light-count", "0"], "--light-sheet needs --light-count above 0")
    refuses([*asked, str(tmp_path / "x.mp4")], "--light-sheet must end in .png, .jpg, .jpeg")
    refuses([*asked, str(tmp_path / "no/x.png")], "no does not exist")
    refuses([*command, "--light-views", "1"], "light_views at least 2")
    few = write_lit_set(tmp_path / "few", labels_at([0.01 * k for k in range(39)]))
    refuses([*command, "--data", str(few), "--dry-run"], "lights need at least 40 real images")
    bare = write_image_set(tmp_path / "bare", labels_at([0.0, 1.0]), 32)
    refuses([*command[:4], "--data", str(bare / "img")], "has no masks")
    refuses([*command[:4], "--data", str(bare)], 'must hold {"sh"')
    refuses(["evaluate-generator", "--data", str(bare)], "the method comes first")
    # Alpha says nothing where backgrounds are seen.
    whole = write_lit_set(tmp_path / "whole", labels_at([0.0, 1.0]), channels=4)
    scenery = ["--data", str(whole), "--scenery", "--light-count", "0", "--out", str(out)]
    scenery += ["--count", "5"]
    assert run([*command[:4], *scenery, "--swap-count", "2"]) == 0
    written = json.loads(out.read_text())
    assert written["protocol"] == "generator-all-rendered-5-v1, background-swap-2-v1"
    swapped = ["background_swap_head", "background_swap_outside"]
    assert list(written["results"]) == ["random_feature_distance", *swapped]
    assert run([*command[:4], *scenery, "--swap-count", "0"]) == 0
    assert json.loads(out.read_text())["protocol"] == "generator-all-rendered-5-v1"
    black = "--swap-count: heads are measured over black; give --scenery"
    refuses([*command, "--swap-count", "2"], black)


def test_likeness_in_several_lights_needs_a_network_that_the_user_has(
    tmp_path: Path, refuses: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_ASSETS", str(tmp_path / "store"))
    weights = write_relightable(tmp_path / "lit.safetensors")
    data = write_lit_set(tmp_path / "set", labels_at([0.0, 0.1]))
    command = ["evaluate-generator", "gsheadrelight", "--weights", str(weights), "--data"]
    command += [str(data), "--count", "4", "--light-count", "0", "--batch", "4"]
    asked = [*command, "--identity-count", "3", "--identity-lights", "2"]
    refuses(asked, "vultus assets import face_recognition FILE")
    model = write_mean_color_model(tmp_path / "face.onnx")
    refuses([*command, "--identity-model", str(model)], "needs --identity-count above 0")
    refuses([*asked, "--identity-model", str(tmp_path / "no.onnx")], "no ONNX model here")
    monkeypatch.setattr(
        evaluate_generator, "open_network", lambda path: lambda pixels: [pixels.mean(axis=(2, 3))]
    )
    many = ["--identity-model", str(model), "--identity-lights", "3", "--dry-run"]
    refuses([*asked, *many], "identity_lights must be at most 2")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()[:8]
    written = []
    for place in (["--identity-model", str(model)], []):
        out = tmp_path / "quality.json"
        assert run([*asked, *place, "--out", str(out)]) == 0
        written.append(json.loads(out.read_text()))
        assert run(["assets", "import", "face_recognition", str(model)]) == 0
    assert written[0] == written[1]
    known = f"generator-all-rendered-4-black-v1, identity-3x2-face-{digest}-v2"
    views = f"identity-views-3x30-face-{digest}-v1"
    assert written[0]["protocol"] == f"{known}, {views}"
    results = written[0]["results"]
    names = ["identity_similarity", "identity_similarity.others"]
    names += ["identity_over_views", "identity_over_views.others"]
    assert list(results) == ["random_feature_distance", *names]
    assert all(-1.0 <= results[name] <= 1.001 for name in names)
    assert results["identity_over_views"] < 1.0
    assert run([*asked, "--identity-yaw", "0", "--out", str(tmp_path / "lit.json")]) == 0
    lit = json.loads((tmp_path / "lit.json").read_text())
    assert lit["protocol"] == known
    assert lit["results"] == {name: results[name] for name in list(results)[:3]}

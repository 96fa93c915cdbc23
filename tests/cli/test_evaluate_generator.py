"""``vultus evaluate-generator``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tiny_generators import write_tiny_generator
from tiny_image_sets import labels_at, write_image_set
from vultus.cli.main import run


def test_numbers_are_printed_and_written(
    tmp_path: Path, capsys: object, refuses: Callable[..., str]
) -> None:
    weights = write_tiny_generator(tmp_path / "generator.safetensors")
    data = write_image_set(tmp_path / "images", labels_at([0.0, 1.0, 2.0, 3.0]), 64)
    command = ["evaluate-generator", "--weights", str(weights), "--data", str(data)]
    command += ["--count", "5", "--batch", "3"]
    out = tmp_path / "quality.json"
    assert run([*command, "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written["protocol"] == "generator-all-rendered-5-v1"
    assert list(written["results"]) == ["random_feature_distance"]
    missing = "vultus assets import inception"
    refuses([*command, "--metrics", "fid", "--device", "cpu"], missing)
    refuses([*command, "--count", "1"], "count must be at least 2")
    refuses([*command, "--out", str(tmp_path / "x.txt")], "--out must end in .json")

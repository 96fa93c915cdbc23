"""``vultus bench raster`` prints what it timed, and refuses what it cannot time."""

from __future__ import annotations

from pathlib import Path

import pytest

from vultus.cli.main import run

SMALL = ["--num", "40", "--size", "16", "--reference-num", "20", "--reference-size", "8"]
PROTOTYPE = """
import numpy as np


def camera_vector(*args, **kwargs):
    return args, kwargs


class Raster3D:
    def __init__(self, num, width, height, channels, threads):
        self.size = num, width, height
        self.col = np.zeros((num, channels))

    def forward(self, view, arrays, degree):
        assert len(arrays[0]) == self.size[0]

    def backward(self, view, arrays, degree, grads, grad_alpha):
        assert grads.shape == (self.col.shape[1], *grad_alpha.shape)


class Raster2D:
    def __init__(self, num, width, height, threads):
        self.size = num, width, height

    def forward(self, view, arrays, degree):
        assert len(arrays[0]) == self.size[0]

    def backward(self, view, arrays, degree, grads):
        assert grads.shape == (9, self.size[2], self.size[1])
"""


def test_oracle_kernels_and_prototype_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prototype = tmp_path / "prototype_for_the_bench_test.py"
    prototype.write_text(PROTOTYPE, encoding="utf-8")
    arguments = ["bench", "raster", *SMALL, "--repeats", "1", "--num-features", "2"]
    arguments += ["--prototype", str(prototype)]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    for part in (
        "20 Gaussians, 8 x 8, 3 channels",
        "40 Gaussians, 16 x 16, 5 channels",
        "20 surfels, 8 x 8",
        "40 surfels, 16 x 16",
        "median / ref",
        "median / prototype",
    ):
        assert part in out
    for name in ("\nref ", "\ncpu ", "\ncpu, all outputs ", "\nprototype "):
        assert name in out


def test_rays_and_training_steps_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "rays", "--num-faces", "200", "--size", "9", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    for part in ("200 faces, 9 x 9", "Mrays/s", "\nrefit ", "\ncamera ", "\nshadow "):
        assert part in out
    assert run(["bench", "training", "--num", "20", "--size", "9", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    for part in ("SSIM of 1 RGB images, 9 x 9", "\ncpu ", "Adam, 20 Gaussians on cpu", "\ntorch "):
        assert part in out


def test_a_dry_run_times_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "raster", "--dry-run"]) == 0
    assert capsys.readouterr().out == "would time 20000 gaussians and surfels at 256 x 256\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["volume"], "vultus bench volume does not exist"),
        (["raster", "--repeats", "0"], "--repeats must be positive, got 0"),
        (["raster", "--num-features", "-1"], "--num-features must not be negative, got"),
        (["rays", "--num-faces", "0"], "--num-faces must be positive, got 0"),
        (["training", "--batch", "0"], "--batch must be positive, got 0"),
        (["raster", "--primitives"], "--primitives must not be empty"),
        (["raster", "--prototype", "nowhere.py"], "prototype nowhere.py does not exist"),
    ],
)
def test_wrong_arguments_exit_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err

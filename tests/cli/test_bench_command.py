"""``vultus bench raster`` prints what it timed, and refuses what it cannot time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vultus.bench import start
from vultus.bench.results import BOTH, FORWARD, Row
from vultus.bench.scenes import RasterScene
from vultus.bench.spherehead import psnr_of_half_precision
from vultus.bench.timing import Timing
from vultus.cli import bench_raster
from vultus.cli.main import run
from vultus.core.files import read_json
from vultus.methods.spherehead.config import GeneratorConfig

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
    arguments = ["bench", "raster", *SMALL, "--repeats", "1", "--channels", "3", "5"]
    arguments += ["--prototype", str(prototype), "--threads", "1", "2"]
    arguments += ["--json", str(tmp_path / "rows.json")]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    for part in (
        "20 Gaussians, 8 x 8, 3 channels",
        "40 Gaussians, 16 x 16, 3 channels",
        "40 Gaussians, 16 x 16, 5 channels",
        "20 surfels, 8 x 8, 3 channels",
        "40 surfels, 16 x 16, 5 channels",
        "to ref",
        "to prototype",
        "2 to 1 threads",
    ):
        assert part in out
    for name in ("\nref ", "\ncpu ", "\ncpu, all outputs ", "\nprototype "):
        assert name in out
    rows = read_json(tmp_path / "rows.json")["rows"]
    # The oracle beside the kernels, then three implementations with one and two threads.
    assert len(rows) == 2 * (2 + 2 * 3 * 2)
    assert {row["channels"] for row in rows} == {3, 5}


def test_rays_and_training_steps_are_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "rays", "--num-faces", "200", "--size", "9", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    for part in ("200 faces, 9 x 9", "Mrays/s", "\nrefit ", "\ncamera ", "\nshadow "):
        assert part in out
    file = tmp_path / "rows.json"
    arguments = ["--num", "20", "--size", "9", "--repeats", "1", "--json", str(file)]
    assert run(["bench", "training", *arguments]) == 0
    out = capsys.readouterr().out
    for part in (
        "L1 and SSIM of 1 RGB images, 9 x 9",
        "Adam on 20 Gaussians",
        "training step, 20 Gaussians, 9 x 9",
        "\ncpu ",
        "\ntorch ",
    ):
        assert part in out
    assert {row["bench"] for row in read_json(file)["rows"]} == {
        "l1 and ssim", "adam", "training step",
    }  # fmt: skip


def test_pictures_of_the_studio_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "studio", "--size", "9", "--samples", "2", "--frames", "1"]) == 0
    out = capsys.readouterr().out
    for part in ("studio, 9 x 9, 4 rays a pixel", "pictures/s", "\nbaked_seen ", "\ntraced "):
        assert part in out
    assert run(["bench", "studio", "--frames", "0"]) == 2
    assert "--frames must be positive, got 0" in capsys.readouterr().err


def test_first_passes_are_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(start, "_run", lambda primitive, folder: (2.0, 1.0))
    assert run(["bench", "start", "--primitives", "surfels"]) == 0
    out = capsys.readouterr().out
    assert "first pass of 500 surfels" in out
    assert "cpu filled cache 2 1 1" in " ".join(out.split())


def test_steps_of_a_whole_method_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--num", "50", "--width", "20", "--height", "30"]
    assert run(["bench", "surfhead", *arguments, "--dry-run"]) == 0
    assert "would train SurfHead, 50 surfels, 20 x 30 on" in capsys.readouterr().out
    assert run(["bench", "surfhead", *arguments]) == 0
    out = capsys.readouterr().out
    assert "SurfHead, 50 surfels, 20 x 30, milliseconds" in out
    assert " eager " in out


def test_images_and_gradients_of_spherehead_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--neural-size 16 --super-resolution 2x_64 --plane-size 16 --channel-max 8"
    arguments += " --repeats 1 --device cpu"
    assert run(["bench", "spherehead", *arguments.split(), "--dry-run"]) == 0
    assert "would make 1 images of 64 x 64 on cpu" in capsys.readouterr().out
    assert run(["bench", "spherehead", *arguments.split(), "--training-batch", "1"]) == 0
    printed = capsys.readouterr().out
    for row in ("planes, single", "image of planes, single", "image, single", "all weights"):
        assert row in printed


def test_precisions_are_the_same_where_no_kernels_run() -> None:
    config = replace(
        GeneratorConfig(), neural_size=16, super_resolution="2x_64", plane_size=16, channel_max=8
    )
    assert psnr_of_half_precision(config, 1, "cpu") == 120.0


def test_relighting_and_gradients_of_gsheadrelight_are_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = "bench gsheadrelight --preset toy --batch 2 --repeats 1 --device cpu".split()
    assert run([*arguments, "--dry-run"]) == 0
    assert "at 32 x 32 on cpu" in " ".join(capsys.readouterr().out.split())
    assert run([*arguments, "--lights", "3", "--training-batch", "1"]) == 0
    printed = capsys.readouterr().out
    for row in (
        "one head, ",
        "2 heads relit, ",
        "one head in 3 lights, ",
        "to one by one",
        "gradients of 1 pictures, ",
    ):
        assert row in printed


def test_pictures_and_steps_of_gaussianhead_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--num", "60", "--size", "20", "--repeats", "1", "--device", "cpu"]
    assert run(["bench", "gaussianhead", *arguments, "--dry-run"]) == 0
    assert "would draw and train 60 Gaussians, 20 x 20, on cpu" in capsys.readouterr().out
    assert run(["bench", "gaussianhead", *arguments, "--derivation", "official"]) == 0
    out = capsys.readouterr().out
    for part in ("20 x 20, official, pictures", "motion network", "decoders", "official, training"):
        assert part in out


def test_a_dry_run_times_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "raster", "--devices", "cpu", "--num", "5", "6", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"would time {num} {name}, 256 x 256, 3 channels on cpu"
        for name in ("Gaussians", "surfels")
        for num in (5, 6)
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("option", [["--grid"], ["--peer", "gsplat"], ["--devices", "gpu"]])
def test_what_needs_a_gpu_says_so(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "raster", *option, "--dry-run"]) == 2
    assert f"{' '.join(option[:1])}" in capsys.readouterr().err


def test_a_missing_peer_is_replaced_by_its_published_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The GPU's part is stood in for: what is tested is the table around it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    monkeypatch.setitem(sys.modules, "FasterGSCudaBackend", None)

    def timed(scene: RasterScene, *args: object, **options: object) -> list[Row]:
        timing = Timing(5e-4, 4e-4)
        return [Row(str(scene), "gpu", "eager", {FORWARD: timing, BOTH: timing}, 2**20)]

    monkeypatch.setattr(bench_raster, "bench_on_gpu", timed)
    monkeypatch.setattr(bench_raster, "bench_reference", lambda *_args, **_options: [])
    monkeypatch.setattr(bench_raster, "print_rows", skip_empty(bench_raster.print_rows))
    arguments = ["--devices", "gpu", "--num", "100000", "--size", "512"]
    peers = ["--peer", "gsplat", "--peer", "faster-gs"]
    assert run(["bench", "raster", "--primitives", "gaussians", *arguments, *peers]) == 0
    captured = capsys.readouterr()
    assert "peer gsplat cannot be imported" in captured.err
    lines = [" ".join(line.split()) for line in captured.out.splitlines()]
    assert "gpu eager 0.5 0.5 0.4 0.25 0.5263 1" in lines
    assert "gsplat published, H100 0.7 2 2 1 2.105 -" in lines


def skip_empty(function: Callable[..., None]) -> Callable[..., None]:
    def print_some(rows: list[Row], *args: object) -> None:
        if rows:
            function(rows, *args)

    return print_some


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sound"], "vultus bench sound does not exist"),
        (["raster", "--repeats", "0"], "--repeats must be positive, got 0"),
        (["raster", "--num", "5", "0"], "--num must be positive, got 0"),
        (["raster", "--num"], "--num must not be empty"),
        (["raster", "--channels", "2"], "--channels must be at least 3, got 2"),
        (["raster", "--threads", "0"], "--threads must be positive, got 0"),
        (["rays", "--num-faces", "0"], "--num-faces must be positive, got 0"),
        (["training", "--batch", "0"], "--batch must be positive, got 0"),
        (["surfhead", "--width", "0"], "--width must be positive, got 0"),
        (["start", "--repeats", "0"], "--repeats must be positive, got 0"),
        (["volume", "--batch", "0"], "--batch must be positive, got 0"),
        (["gsheadrelight", "--preset", "huge"], "--preset must be one of ffhq512"),
        (["gsheadrelight", "--lights", "22"], "--lights must be at most 21, got 22"),
        (["gsheadrelight", "--training-batch", "-1"], "--training-batch must be at least 0"),
        (["shading", "--height", "0"], "--height must be positive, got 0"),
        (["raster", "--primitives"], "--primitives must not be empty"),
        (["raster", "--prototype", "nowhere.py"], "prototype nowhere.py does not exist"),
    ],
)
def test_wrong_arguments_exit_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err

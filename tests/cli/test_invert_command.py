"""``vultus invert`` on a photo that the generator has made itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_generators import TINY, tiny_generator, write_tiny_generator
from vultus.cli.main import run
from vultus.core.image_io import image_size, read_image, write_image
from vultus.core.run_folder import RunFolder
from vultus.core.video_io import read_video_frames
from vultus.data.photo import square_photo
from vultus.methods.head_views import ViewRig
from vultus.methods.inversion import InversionConfig
from vultus.methods.spherehead.generator_file import load_generator
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings

QUICK = ["--steps", "12", "--tuning-steps", "4", "--mean-samples", "50", "--frames", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo wider than high, its label among others, a mask and the generator."""
    folder = tmp_path_factory.mktemp("invert")
    write_tiny_generator(folder / "generator.safetensors")
    sampler = HeadSampler(tiny_generator(), ViewRig(), SamplingSettings())
    label = ViewRig().label(0.3)
    image = 0.5 * sampler.view(sampler.head(sampler.people([4])), label).image[0] + 0.5
    wide = torch.nn.functional.pad(image.clamp(0, 1), (8, 8))
    write_image(folder / "photo.png", wide)
    write_image(folder / "mask.png", (wide.mean(0, keepdim=True) > 0.2).float())
    labels = [["photo.png", label[0].tolist()], ["other.png", ViewRig().label()[0].tolist()]]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "invert", "--photo", str(folder / "photo.png"), "--label", str(folder / "dataset.json"),
        "--weights", str(folder / "generator.safetensors"), "--out", str(out), *QUICK, *more,
    ]  # fmt: skip


def test_an_inversion_writes_all_that_was_promised(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    masked = ["--distance", "pyramid", "--mask", str(folder / "mask.png")]
    masked += ["--camera-offset", "mean"]
    assert run(command(folder, out, *masked)) == 0
    for name in ("target.png", "pivot.png", "tuned.png"):
        assert image_size(out / "media" / name) == (64, 64)
    for name, count in (("search", 3), ("tuning", 2), ("before", 4), ("after", 4)):
        assert len(list(read_video_frames(out / "media" / f"{name}.mp4"))) == count, name
    results = json.loads((out / "results.json").read_text())
    assert results["tuned"]["distance"] < results["pivot"]["distance"]
    styles = np.load(out / "projected_w.npz")["w"]
    tuned = load_generator(out / "generator.safetensors").generator
    assert styles.shape == (1, tuned.num_ws, 8)
    before = load_generator(folder / "generator.safetensors").generator
    assert not torch.equal(tuned.backbone.mapping.mean_w, torch.zeros(8))
    weights = zip(tuned.parameters(), before.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in weights)
    lines = RunFolder(out).read_metrics()
    assert [line["step"] for line in lines] == [10, 12, 16]
    assert RunFolder(out).read_card()["distance"] == "pyramid"


def test_a_real_photo_is_inverted_from_its_files(data_dir: Path, tmp_path: Path) -> None:
    """A photo of FFHQ in EG3D's crop with EG3D's label; nobody has trained the generator."""
    weights = write_tiny_generator(tmp_path / "generator.safetensors")
    photo, label = (data_dir / "ffhq_samples" / n for n in ("eg3d_00018.png", "dataset.json"))
    out = tmp_path / "run"
    files = ["--photo", str(photo), "--label", str(label), "--weights", str(weights)]
    longer = ["--steps", "25", "--tuning-steps", "40", "--mean-samples", "50", "--frames", "4"]
    quiet = ["--distance", "pyramid", "--tuning-rate", "0.003", "--out", str(out)]
    assert run(["invert", *files, *longer, *quiet]) == 0
    media, target = out / "media", square_photo(photo, 64)[0]
    assert float((read_image(media / "target.png") - target).abs().max()) < 0.003
    # Mean head, found styles, tuned weights: each is closer to the photo than the one before.
    start = next(read_video_frames(media / "search.mp4"))[:, :, 64:] / 255.0
    pictures = [start, *(read_image(media / f"{name}.png") for name in ("pivot", "tuned"))]
    errors = [float((picture - target).square().mean()) for picture in pictures]
    assert errors[2] < 0.5 * errors[1]
    assert errors[1] < 0.8 * errors[0]
    results = json.loads((out / "results.json").read_text())
    assert results["tuned"]["psnr"] == pytest.approx(-10.0 * math.log10(errors[2]), abs=0.1)
    films = [list(read_video_frames(media / f"{name}.mp4")) for name in ("before", "after")]
    assert [len(film) for film in films] == [4, 4]
    before, after = (film[0].float() for film in films)
    assert float((before - after).abs().mean()) > 5.0
    # The files are all that other commands need to show the same picture.
    shown = tmp_path / "shown"
    files = ["--weights", str(out / "generator.safetensors"), "--cameras", str(label)]
    files += ["--styles", str(out / "projected_w.npz"), "--layout", "images", "--out", str(shown)]
    assert run(["generate", "spherehead", *files]) == 0
    (again,) = (shown / "rgb").glob("*.png")
    assert torch.equal(read_image(again), pictures[2])


def test_an_inversion_goes_on_with_the_tuning(folder: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out in (whole, parts):
        assert run(command(folder, out)) == 0
    searched = (parts / "media" / "search.mp4").stat().st_mtime_ns
    (parts / "generator.safetensors").unlink()
    assert run(command(folder, parts)) == 0
    assert (parts / "media" / "search.mp4").stat().st_mtime_ns == searched
    results = [(each / "results.json").read_text() for each in (whole, parts)]
    assert results[0] == results[1]
    assert RunFolder(whole).read_metrics() == RunFolder(parts).read_metrics()


def test_what_cannot_be_inverted_is_refused_in_one_line(
    folder: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    out = tmp_path / "run"
    (folder / "short.json").write_text("[1, 2, 3]")
    (folder / "words.json").write_text('["a"]')
    bad = torch.eye(5).flatten().tolist()
    bad[0] = 2.0
    (folder / "skewed.json").write_text(json.dumps(bad))
    (folder / "others.json").write_text('{"labels": [["a.png", []], ["b.png", []]]}')
    one = json.loads((folder / "dataset.json").read_text())["labels"][0][1]
    (folder / "another.json").write_text(json.dumps({"labels": [["a.png", one]]}))
    for name, message in (
        ("short.json", "the label must have 25 numbers, got 3"),
        ("words.json", "words.json: the label must hold numbers: could not convert string"),
        ("skewed.json", "camera_to_world"),
        ("others.json", "must hold one label for photo.png, got 0; it lists a.png, b.png"),
        ("another.json", "must hold one label for photo.png, got 0; it lists a.png"),
        ("photo.png", "photo.png"),
    ):
        refuses(command(folder, out, "--label", str(folder / name)), message)
    refuses(command(folder, out, "--steps", "0"), "steps must be at least 1, got 0")
    refuses(command(folder, out, "--film-every", "0"), "--film-every at least 1")
    bare = write_tiny_generator(tmp_path / "bare", replace(TINY, has_camera_offset=False))
    offset = ["--camera-offset", "mean", "--weights", str(bare)]
    refuses(command(folder, out, *offset), "which has learned no offset, got 'mean'")
    refuses(command(folder, out, "--distance", "lpips"), "vultus assets import")
    write_image(folder / "small.png", torch.ones(1, 8, 8))
    refuses(command(folder, out, "--mask", str(folder / "small.png")), "as large as the photo")
    assert not out.exists()
    (tmp_path / "file").write_text("")
    refuses([*command(folder, tmp_path / "file"), "--dry-run"], "--out:", "must be a folder")
    RunFolder.create(out, InversionConfig(), seed=0)
    refuses([*command(folder, out), "--dry-run"], "holds a run with other settings")


def test_a_mask_without_white_is_refused(
    folder: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    size = image_size(folder / "photo.png")
    write_image(folder / "black.png", torch.zeros(1, size[1], size[0]))
    black = ["--mask", str(folder / "black.png")]
    refuses(command(folder, tmp_path / "run", *black), "black.png must have white pixels")
    assert not (tmp_path / "run").exists()


def test_rays_that_cannot_begin_there_are_refused_before_the_run_is_made(
    folder: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    refuses(command(folder, tmp_path / "run", "--nearest", "9"), "limits must rise")
    assert not (tmp_path / "run").exists()


def test_the_method_may_be_named(folder: Path, tmp_path: Path, refuses: Callable[..., str]) -> None:
    named = ["invert", "spherehead", *command(folder, tmp_path / "run")[1:], "--dry-run"]
    assert run(named) == 0
    other = ["invert", "gsheadrelight", *named[2:]]
    refuses(other, "must be a generator of gsheadrelight, got one of 'spherehead'")
    refuses(["invert", "surfhead"], "method must be one of spherehead, gsheadrelight")

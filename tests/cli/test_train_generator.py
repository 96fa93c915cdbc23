"""``vultus train`` for generators: through the command line, with what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny_image_sets import image_files, labels_at, write_files, write_image_set
from vultus.cli.main import run
from vultus.core.config import config_to_data
from vultus.core.image_io import read_image_bytes
from vultus.core.run_folder import RunFolder
from vultus.methods.head_views import mean_rig

TINY = """--preset small --generator.channel-max 8 --generator.channel-base 64
    --generator.z-dim 8 --generator.w-dim 8 --generator.plane-size 8 --generator.plane-channels 4
    --generator.sphere-channels 8 4 --generator.decoder-width 8 --generator.neural-size 8
    --generator.volume.coarse-samples 4 --generator.volume.fine-samples 2
    --discriminator.channel-max 8 --discriminator.channel-base 64
    --training.batch 4 --training.images 16 --training.log-every 2 --training.checkpoint-every 2
    --training.picture-every 0 --training.evaluate-images 6
    --augmentation.mode adaptive""".split()
LABELS = labels_at([0.0, 1.0, -2.0, 3.0, 0.5])

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_set(tmp_path_factory.mktemp("generator") / "set", LABELS, size=64)


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", "spherehead", *TINY, "--data", str(data), "--out", str(out), *more]


def test_a_generator_is_trained_stopped_and_continued(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(command(images, out, "--minutes", "0")) == 0
    text = capsys.readouterr().out
    assert "stopped after 2 of 4 steps (8 images)" in text
    assert "the same command continues" in text
    assert run(command(images, out)) == 0
    assert "finished after 4 of 4 steps" in capsys.readouterr().out
    folder = RunFolder(out)
    assert [row["step"] for row in folder.read_metrics()] == [2, 4, 4]
    last = folder.read_metrics()[-1]
    distances = {"random_feature_distance", "random_feature_distance.free"}
    assert last.keys() == {"step", "mirroring", *distances}
    assert folder.read_card()["protocol_ids"] == ["random-feature-distance-v1"]
    assert {"augmentation", "neural_size"} < folder.read_metrics()[0].keys()
    assert folder.read_card()["method"] == "spherehead"
    data_id = folder.read_card()["data_id"]
    assert len(data_id) == 16
    assert folder.read_card()["data"] == {"name": "set", "images": 5, "size": 64, "id": data_id}
    assert folder.read_card()["rig"] == config_to_data(mean_rig(LABELS), "rig")
    # Eight people from four sides; the first five real images with repetitions.
    assert read_image_bytes(folder.media_path / "fakes_0000004.png").shape == (3, 256, 512)
    assert read_image_bytes(folder.media_path / "reals.png").shape == (3, 256, 512)
    assert run(command(images, out, "--seed", "1")) == 2
    assert "holds a run with other settings (seed: 0 there, 1 here)" in capsys.readouterr().err
    assert run(command(images, out, "--no-resume")) == 2


def test_a_second_stage_begins_with_the_networks_of_the_first(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, slow = tmp_path / "first", tmp_path / "second", "--training.generator-rate"
    assert run(command(images, first)) == 0
    still = ["--start", str(first), slow, "0", "--training.average-half-life", "0"]
    assert run(command(images, second, *still)) == 0
    weights = [RunFolder(path).load_checkpoint().weights for path in (first, second)]
    names = [name for name in weights[0] if name.startswith("generator.decoder")]
    assert names
    for name in names:
        assert torch.equal(weights[0][name], weights[1][name])
        assert not torch.equal(weights[0][name], weights[0][name.replace("generator", "average")])
    other = ["--start", str(first), "--generator.decoder-width", "16"]
    assert run(command(images, tmp_path / "third", *other)) == 2
    assert "generator does not fit the configuration: decoder.hidden" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()
    assert run(command(images, tmp_path / "third", "--start", str(tmp_path))) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_of_torchrun_train_one_generator(images: Path, tmp_path: Path) -> None:
    launcher = "-m torch.distributed.run --standalone --nproc-per-node 2 -m vultus".split()
    whole = ["--training.pass-size", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *launcher, *command(images, tmp_path / "two", *whole)],
        env=environment,
        check=True,
        capture_output=True,
    )
    assert run(command(images, tmp_path / "one", *whole)) == 0
    folders = [RunFolder(tmp_path / name) for name in ("one", "two")]
    assert [folder.read_card()["processes"] for folder in folders] == [1, 2]
    one, two = (folder.load_checkpoint().weights for folder in folders)
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=1e-4, atol=1e-5), name


def test_a_dry_run_describes_the_work_and_writes_nothing(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(images, tmp_path / "run", "--dry-run", "--schedule", "0.5")) == 0
    text = capsys.readouterr().out
    assert "would train spherehead for 2 steps of 4 on 5 images" in text
    assert "10 with repetitions and mirrored ones" in text
    assert not (tmp_path / "run").exists()


def test_semantic_maps_of_a_collection_are_learned_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "people", tmp_path / "run"
    few = ["--count", "4", "--views", "4", "--size", "64", "--samples", "1", "--num-lights", "16"]
    assert run(["data", "collection", "--out", str(data), *few, "--device", "cpu"]) == 0
    parts = ["--discriminator.kind", "parsing", "--generator.parsing-classes"]
    assert run(command(data, out, *parts, "20", "--training.images", "8")) == 0
    folder = RunFolder(out)
    assert folder.read_metrics()[0]["loss.penalty.r1_parsing"] > 0.0
    for name in ("parts", "fakes_parts_0000002"):
        assert len(read_image_bytes(folder.media_path / f"{name}.png").unique()) > 2
    people = ["generate", "spherehead", "--weights", str(out), "--views", "front", "--seeds", "1"]
    shown = ["--layout", "images", "--outputs", "rgb", "parts", "--out", str(tmp_path / "shown")]
    assert run([*people, *shown]) == 0
    assert len(list((tmp_path / "shown/parts").glob("*.png"))) == 1
    capsys.readouterr()
    assert run(command(data, tmp_path / "x", *parts, "0")) == 2
    assert "must be the same and at least 19" in capsys.readouterr().err
    assert run(command(data, tmp_path / "x", "--generator.parsing-classes", "20")) == 2
    assert "generator.parsing_classes must be 0 where" in capsys.readouterr().err
    assert run(command(data / "img", tmp_path / "x", *parts, "20")) == 2
    assert "img: has no semantic maps; it must be a folder" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def without_masks(folder: Path) -> None:
    files, _ = image_files(LABELS, 64)
    write_files(folder / "img", files)


def too_small(folder: Path) -> None:
    write_image_set(folder, LABELS, size=32)


def short_label(folder: Path) -> None:
    write_image_set(folder, LABELS, size=64)
    path = folder / "img/dataset.json"
    content = json.loads(path.read_text())
    content["labels"][0][1] = content["labels"][0][1][:24]
    path.write_text(json.dumps(content))


def damaged_note(folder: Path) -> None:
    write_image_set(folder, LABELS, size=64)
    (folder / "collection.json").write_text('{"format": "vultus-collection-1"}')


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "masks": (without_masks, "has no masks; say where they are with --masks"),
    "size": (too_small, "images must have 64 pixels a side, as the settings make them, got 32"),
    "label": (short_label, "must have 25 numbers, got 24"),
    "collection": (damaged_note, "collection.json must hold the settings of a collection"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_unfit_images_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    damage, message = FAULTS[fault]
    damage(tmp_path / "set")
    assert run(command(tmp_path / "set", tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("folder", "relation"), [(".", "is"), ("img", "is"), ("seg/run", "is in")])
def test_a_run_does_not_go_among_its_images(
    images: Path, folder: str, relation: str, refuses: Callable[..., str]
) -> None:
    before = sorted(images.rglob("*"))
    refuses(command(images, images / folder), f"{relation} the image set; give the run a folder")
    assert sorted(images.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--training.pass-size", "3"], "pass_size must divide batch"),
        (["--discriminator.image-size", "128"], "discriminator.image_size must be that of the"),
        (["--choice.max-pitch", "1.0"], "no image has a yaw of 0.0 to 180.0"),
        (["--generator.plane-size", "12"], "resolution must be a power of two"),
        (["--augmentation.probability", "2"], "probability must be in [0, 1]"),
    ],
)
def test_contradictory_settings_are_refused(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert run(command(images, tmp_path / "run", *options)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_commands_say_that_a_generator_is_no_avatar(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(command(images, out, "--training.images", "4", "--training.log-every", "1")) == 0
    capsys.readouterr()
    assert run(["render", "--run", str(out)]) == 2
    assert "method must be one of surfhead, gaussianhead, " in (capsys.readouterr().err)
    assert run(["ablate", "spherehead"]) == 2
    assert "method must be one of surfhead, gaussianhead" in capsys.readouterr().err

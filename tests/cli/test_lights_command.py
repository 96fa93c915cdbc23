"""``vultus data lights``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny_image_sets import labels_at, write_image_set, write_lit_set
from vultus.cli.main import run
from vultus.core.image_io import write_image
from vultus.core.srgb import LUMINANCE
from vultus.data.image_set import open_image_set
from vultus.data.light_labels import head_to_camera_lights, read_head_lights

SIZE = 16
LABELS = labels_at([0.0, 0.5, -0.5])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """White masks, grey pictures of a sphere's front, and its normals."""
    write_image_set(tmp_path / "set", LABELS, SIZE)
    x = (torch.arange(SIZE) + 0.5) / SIZE * 1.2 - 0.6
    up, right = torch.meshgrid(-x, x, indexing="ij")
    toward = (1.0 - right.square() - up.square()).sqrt()
    # Brighter to the right.
    grey = (0.5 + 0.3 * right).expand(3, SIZE, SIZE)
    for path in sorted((tmp_path / "set/img").rglob("*.png")):
        name = path.relative_to(tmp_path / "set/img")
        write_image(path, grey)
        write_image(tmp_path / "set/seg" / name, torch.ones(1, SIZE, SIZE))
        (tmp_path / "normals" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "normals" / name, 0.5 + 0.5 * torch.stack([right, up, toward]))
    return tmp_path


def test_lights_are_written_into_both_label_files(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "lights", str(pictures / "set"), "--normals", str(pictures / "normals")]
    assert run([*command, "--dry-run"]) == 0
    assert "would estimate the lights of 3 images" in capsys.readouterr().out
    assert "sh" not in json.loads((pictures / "set/img/dataset.json").read_text())
    assert run(command) == 0
    assert "lights of 3 images, which explain" in capsys.readouterr().out
    written = json.loads((pictures / "set/img/dataset.json").read_text())
    assert written["sh_frame"] == "camera"
    light = torch.tensor(written["sh"][0][1])
    # From the right, X, and not from above.
    assert float(light[3]) > 0.1
    assert abs(float(light[2])) < 0.02
    images = open_image_set(pictures / "set")
    mono, colored = (read_head_lights(images, channels) for channels in (1, 3))
    expected = colored.unflatten(1, (9, 3)) @ torch.tensor(LUMINANCE)
    assert torch.allclose(mono, expected, atol=1e-5)
    # The heads turn before the same light: in their axes it comes from elsewhere.
    assert float((mono[0] - mono[1]).abs().max()) > 0.05


def write_texts(folder: Path, names: list[str], lights: torch.Tensor) -> Path:
    """Text files as DPR writes them: a number a line."""
    for name, light in zip(names, lights.tolist(), strict=True):
        path = (folder / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{number:.18e}\n" for number in light))
    return folder


@pytest.mark.parametrize("count", [9, 27])
def test_lights_of_estimators_are_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    source = write_image_set(tmp_path / "set", LABELS, SIZE)
    names = list(open_image_set(source).names)
    lights = torch.randn(len(LABELS), count, generator=torch.Generator().manual_seed(0))
    texts = write_texts(tmp_path / "texts", names, lights)
    command = ["data", "lights", str(source), "--labels", str(texts)]
    assert run([*command, "--dry-run"]) == 0
    assert f"would take over the lights of 3 images, {count} numbers" in capsys.readouterr().out
    assert "sh" not in json.loads((source / "img/dataset.json").read_text())
    assert run(command) == 0
    images = open_image_set(source)
    # In axes of the camera, as they are seen: what turns with it is the head.
    channels = 1 if count == 9 else 3
    found = head_to_camera_lights(read_head_lights(images, channels), images.labels)
    assert torch.allclose(found, lights, atol=1e-5)
    mono = head_to_camera_lights(read_head_lights(images), images.labels)
    weights = torch.tensor(LUMINANCE) if channels == 3 else torch.ones(1)
    assert torch.allclose(mono, lights.unflatten(1, (9, channels)) @ weights, atol=1e-5)
    assert run([*command, "--frame", "head", "--replace"]) == 0
    assert torch.allclose(read_head_lights(open_image_set(source), channels), lights)


@pytest.mark.parametrize("count", [9, 27])
def test_lights_of_a_label_file_are_taken_over(tmp_path: Path, count: int) -> None:
    """Such as that of the release's split lights, in any order and in nested lists."""
    source = write_image_set(tmp_path / "set", LABELS, SIZE)
    names = list(open_image_set(source).names)
    lights = torch.randn(len(LABELS), count, generator=torch.Generator().manual_seed(0))
    stored = lights.unflatten(1, (9, -1)).tolist() if count == 27 else lights.tolist()
    rows = [[name, light] for name, light in zip(names, stored, strict=True)]
    path = tmp_path / "dataset_sh_2_ldr.json"
    path.write_text(json.dumps({"labels": [], "sh": rows[::-1]}))
    command = ["data", "lights", str(source), "--labels", str(path)]
    assert run(command) == 0
    images, channels = open_image_set(source), count // 9
    found = head_to_camera_lights(read_head_lights(images, channels), images.labels)  # pyright: ignore[reportArgumentType]
    assert torch.allclose(found, lights, atol=1e-5)
    path.write_text(json.dumps({"sh": rows, "sh_frame": "head"}))
    assert run([*command, "--replace"]) == 0
    assert torch.allclose(read_head_lights(open_image_set(source), channels), lights)  # pyright: ignore[reportArgumentType]
    assert run([*command, "--replace", "--frame", "head"]) == 0


def test_label_files_without_the_lights_of_a_set_are_refused(
    tmp_path: Path, refuses: Callable[..., str]
) -> None:
    source = write_image_set(tmp_path / "set", LABELS, SIZE)
    names = list(open_image_set(source).names)
    path = tmp_path / "lights.json"
    command = ["data", "lights", str(source), "--labels", str(path)]
    refuses(command, "lights.json does not exist")
    rows = [[name, [1.0] * 9] for name in names]

    def stored(*last: object, **facts: object) -> None:
        path.write_text(json.dumps({"sh": [*rows[:2], *last], **facts}))

    path.write_text("[]")
    refuses(command, 'lights.json must hold {"labels"')
    path.write_text("{}")
    refuses(command, 'lights.json must hold {"sh"')
    stored()
    refuses(command, f"lights.json has no light for the image {names[2]}")
    for light, message in (
        ([1.0] * 27, "must have 9 numbers, got 27"),
        ([1.0] * 8, "must have 9 numbers, got 8"),
        (["x"] * 9, "must hold numbers"),
        (1.0, "must be a list of 9 numbers"),
        ([float("nan")] * 9, "must have finite lights"),
    ):
        stored([names[2], light])
        refuses(command, "lights.json", message)
    stored(rows[2], sh_frame="left")
    refuses(command, "sh_frame must be one of camera, head, got 'left'")
    stored(rows[2], sh_frame="camera")
    refuses([*command, "--frame", "head"], "frame must be camera, as", "states it, got head")
    assert "sh" not in json.loads((source / "img/dataset.json").read_text())


def test_lights_of_one_colour_replace_those_of_three(tmp_path: Path) -> None:
    source = write_image_set(tmp_path / "set", LABELS, SIZE)
    names = list(open_image_set(source).names)
    colored = write_texts(tmp_path / "colored", names, torch.ones(3, 27))
    lights = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    grey = write_texts(tmp_path / "grey", names, lights)
    command = ["data", "lights", str(source), "--labels"]
    assert run([*command, str(colored)]) == 0
    assert (source / "img/dataset_rgb_sh_2.json").is_file()
    assert run([*command, str(grey), "--frame", "head", "--replace"]) == 0
    assert torch.allclose(read_head_lights(open_image_set(source)), lights)
    assert not (source / "img/dataset_rgb_sh_2.json").exists()


def test_lights_that_cannot_be_taken_over_are_refused(
    pictures: Path, refuses: Callable[..., str]
) -> None:
    source, normals = pictures / "set", str(pictures / "normals")
    names = list(open_image_set(source).names)
    texts = write_texts(pictures / "texts", names, torch.ones(3, 9))
    command = ["data", "lights", str(source)]
    labels = [*command, "--labels", str(texts)]
    refuses(command, "--normals or --labels must say where lights come from")
    refuses([*labels, "--normals", normals], "and not both")
    refuses([*labels, "--axes", "world"], "--axes needs --normals")
    refuses([*command, "--normals", normals, "--frame", "head"], "--frame needs --labels")
    refuses([*command, "--labels", str(pictures / "none")], "none does not exist")
    last = (texts / names[2]).with_suffix(".txt")
    for text, message in (
        ("1 " * 8, "must hold 9 or 27 numbers, got 8"),
        ("1 " * 10, "must hold 9 or 27 numbers, got 10"),
        ("1 " * 27, "must hold 9 numbers, got 27"),
        ("a " * 9, "must hold the numbers of a light"),
        ("inf " * 9, "must hold finite numbers"),
    ):
        last.write_text(text)
        refuses(labels, last.name, message)
    last.unlink()
    refuses(labels, f"has no .txt for the image {names[2]}")
    last.write_text("1\n" * 9)
    (source / "img/dataset_rgb_sh_2.json").write_text("{}")
    refuses(labels, "dataset_rgb_sh_2.json is there already; ask for its replacement")
    (source / "img/dataset_rgb_sh_2.json").unlink()
    assert "sh" not in json.loads((source / "img/dataset.json").read_text())
    assert run(labels) == 0
    refuses(labels, "has lights already; --replace")


def test_what_cannot_be_labelled_is_refused(
    pictures: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    normals = pictures / "normals"
    command = ["data", "lights", str(pictures / "set"), "--normals"]
    lit = write_lit_set(tmp_path / "lit", LABELS, SIZE)
    refuses(["data", "lights", str(lit), "--normals", str(normals)], "has lights already")
    refuses([*command, str(tmp_path / "none")], "does not exist")
    first = min(normals.rglob("*.png"))
    write_image(first, torch.zeros(3, 8, 8))
    refuses([*command, str(normals)], f"{first.name} must have 3 channels of 16 x 16")
    first.unlink()
    refuses([*command, str(normals)], "has no picture of normals for the image")
    zipped = write_image_set(tmp_path / "zipped", LABELS, SIZE, ".zip")
    refuses(["data", "lights", str(zipped), "--normals", str(normals)], "must be a folder")
    assert "sh" not in json.loads((pictures / "set/img/dataset.json").read_text())

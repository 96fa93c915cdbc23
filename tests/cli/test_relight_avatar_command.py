"""``vultus relight`` and ``evaluate-relighting``: films, pictures, scores, and refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from vultus.cli.main import run
from vultus.core.image_io import read_image, write_radiance
from vultus.core.video_io import read_video_frames
from vultus.render.lighting.envmap import envmap_directions

STUDIO = ["--frames", "5", "--cameras", "3", "--size", "40", "--texture-size", "128"]
STUDIO += ["--samples", "1", "--num-lights", "16", "--test-share", "0.2"]
TRAIN = ["--preset", "toy-pbr", "--steps", "4", "--checkpoint-every", "4", "--log-every", "2"]
TRAIN += ["--model.num-points", "400", "--model.num-expressions", "2"]
TRAIN += ["--materials.map-rows", "4"]


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps; its capture's last moment was filmed under another light, too."""
    folder = tmp_path_factory.mktemp("relight")
    studio = ["data", "studio", "--out", str(folder / "capture"), *STUDIO, "--test-lights", "top"]
    assert run(studio) == 0
    train = ["train", "relightable_blendshapes", *TRAIN, "--data", str(folder / "capture")]
    assert run([*train, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def lit_through(avatar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with visibility switched off."""
    path = shutil.copytree(avatar, tmp_path_factory.mktemp("relight") / "lit_through")
    config = json.loads((path / "config.json").read_text())
    config["config"]["materials"]["visibility"] = "none"
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def lamp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Light from the subject's left."""
    glow = 40.0 * (10.0 * (envmap_directions(16, 32)[..., 0] - 1.0)).exp() + 0.02
    path = tmp_path_factory.mktemp("light") / "lamp.exr"
    write_radiance(path, glow.expand(3, -1, -1).contiguous())
    return path


def num_frames(path: Path) -> int:
    return sum(1 for _ in read_video_frames(path))


def test_a_light_goes_around_a_still_head(avatar, lamp, tmp_path) -> None:
    command = ["relight", "--run", str(avatar), "--envmap", str(lamp), "--timestep", "0"]
    command += ["--frames", "4", "--spin", "360", "--background", "black", "--layers", "albedo"]
    images = tmp_path / "images"
    out = tmp_path / "film.mp4"
    assert run([*command, "--out", str(out), "--images", str(images)]) == 0
    assert num_frames(out) == 4
    assert next(iter(read_video_frames(out))).shape[2] >= 2 * 40
    lit = [read_image(images / "image" / f"{index:05d}.png") for index in range(4)]
    albedo = [read_image(images / "albedo" / f"{index:05d}.png") for index in range(4)]
    assert all(torch.equal(each, albedo[0]) for each in albedo)
    assert len({float(each.mean()) for each in lit}) == 4


def test_a_single_expression_is_seen_from_all_sides(avatar, tmp_path) -> None:
    images = tmp_path / "images"
    command = ["relight", "--run", str(avatar), "--envmap", "constant", "--path", "arc"]
    command += ["--frames", "2", "--one-hot", "jawOpen", "--weight", "0.8"]
    command += ["--light-space", "head"]
    for name, more in {"open": [], "shut": ["--weight", "0"]}.items():
        out = ["--out", str(tmp_path / f"{name}.mp4"), "--images", str(images / name)]
        assert run([*command, *more, *out]) == 0
    for index in range(2):
        opened, shut = (
            read_image(images / name / "image" / f"{index:05d}.png") for name in ("open", "shut")
        )
        assert not torch.equal(opened, shut)
        assert torch.equal(opened[:, :10], shut[:, :10])


def test_exposure_multiplies_the_light(avatar, lamp, tmp_path) -> None:
    command = ["relight", "--run", str(avatar), "--envmap", str(lamp), "--timestep", "1"]
    command += ["--frames", "1", "--background", "black", "--out", str(tmp_path / "film.mp4")]
    means = []
    for exposure in ("0.25", "1"):
        images = tmp_path / exposure
        assert run([*command, "--exposure", exposure, "--images", str(images)]) == 0
        means.append(read_image(images / "image" / "00000.png").mean())
    assert means[1] > 1.3 * means[0]


def test_held_out_frames_are_shown_in_the_trained_light(avatar, tmp_path, capsys) -> None:
    command = ["relight", "--run", str(avatar), "--path", "dataset", "--background", "capture"]
    assert run([*command, "--dry-run"]) == 0
    assert "would write 3 frames" in capsys.readouterr().out
    assert run(command) == 0
    assert num_frames(avatar / "media" / "relight_dataset.mp4") == 3


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--envmap", "moon"], ["--envmap must be one of trained, constant", "got 'moon'"]),
        (["--envmap", "none.exr"], ["none.exr does not exist"]),
        (["--exposure", "0"], ["--exposure must be positive, got 0.0"]),
        (["--frames", "0"], ["--frames and --fps must be positive, got 0"]),
        (["--lobe", "-1"], ["--lobe must be 0 or more and finite, got -1.0"]),
        (["--lobe", "inf"], ["--lobe must be 0 or more and finite, got inf"]),
        (["--lobe", "nan"], ["--lobe must be 0 or more and finite, got nan"]),
        (["--occluder-faces", "0"], ["--occluder-faces must be positive, got 0"]),
        (["--map-rows", "0"], ["--map-rows must be positive, got 0"]),
        (["--split", "val"], ["--split is for --path dataset, got --path still"]),
        (["--path", "dataset", "--frames", "3"], ["--frames is not for --path dataset"]),
        (["--path", "dataset", "--timestep", "0"], ["--timestep is not for --path dataset"]),
        (["--path", "dataset", "--camera", "0"], ["--camera is not for --path dataset"]),
        (["--path", "arc", "--camera", "0"], ["--camera is of --path still, got --path arc"]),
        (["--path", "dataset", "--one-hot", "0"], ["--one-hot is not for --path dataset"]),
        (["--one-hot", "mouthFrownLeft"], ["expression mouthFrownLeft (", "moves nothing of this"]),
        (["--envmap", "sun", "--layout", "mirrored"], ["--layout is of maps that are read"]),
        (["--out", "film.gif"], ["--out must end in .mp4"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(avatar, refuses, options, parts) -> None:
    refuses(["relight", "--run", str(avatar), *options], *parts)


def test_avatars_without_materials_are_refused(trained, refuses) -> None:
    refuses(["relight", "--run", str(trained)], "an avatar must have materials")


def test_scores_of_known_lights_are_printed_and_written(avatar, capsys, refuses) -> None:
    command = ["evaluate-relighting", "--run", str(avatar)]
    refuses([*command, "--occluder-faces", "0"], "--occluder-faces must be positive, got 0")
    assert run([*command, "--occluder-faces", "1"]) == 0
    printed = capsys.readouterr().out
    assert not (avatar / "relighting.json").exists()
    scores = json.loads((avatar / "relighting_1_faces.json").read_text())
    assert list(scores["lights"]) == ["train", "top"]
    assert (scores["step"], scores["occluder_faces"]) == (4, 1)
    assert scores["num_occluder_faces"] > 1
    assert f"{scores['num_occluder_faces']} faces hide light, not 1:" in printed
    for name, values in scores["lights"].items():
        assert name in printed
        assert 3 < values["psnr_aligned"] < 60
        assert 0 < values["ssim_aligned"] <= 1
    cosines = {"light_cosine", "lit_light_cosine"}
    assert {"albedo_psnr", "normal_degrees", *cosines} == set(scores["surface"])
    assert scores["surface"]["normal_degrees"] < 60


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "relighting.json"),
        (["--occluder-faces", "8000"], "relighting_8000_faces.json"),
        (["--step", "4", "--occluder-faces", "9"], "relighting_9_faces_step_4.json"),
    ],
)
def test_scores_of_other_settings_have_files_of_their_own(avatar, capsys, options, name) -> None:
    assert run(["evaluate-relighting", "--run", str(avatar), *options, "--dry-run"]) == 0
    assert f"/{name}" in "".join(capsys.readouterr().out.split())


def test_fewer_faces_need_an_avatar_that_casts_shadows(lit_through, capsys, refuses) -> None:
    for command in ("relight", "evaluate-relighting"):
        few = [command, "--run", str(lit_through), "--occluder-faces", "9000"]
        for more in ([], ["--dry-run"]):
            refuses([*few, *more], "--occluder-faces is of avatars that cast shadows", "got 9000")


def test_frames_that_no_other_light_was_on_are_refused_before_rendering(avatar, refuses) -> None:
    command = ["evaluate-relighting", "--run", str(avatar), "--split", "train"]
    for options in ([], ["--dry-run"]):
        refuses([*command, *options], "no frame of the split was also taken under light 'top'")


def test_scores_need_materials_and_known_lights(trained, refuses) -> None:
    refuses(["evaluate-relighting", "--run", str(trained)], "an avatar must have materials")


def test_edited_hair_shows_in_a_run_of_its_own(avatar, tmp_path, capsys) -> None:
    out, command = tmp_path / "red", ["edit-materials", "--run", str(avatar), "--label", "hair"]
    command += ["--color", "0.9", "0.05", "0.05", "--specular", "0.2", "--out", str(out)]
    assert run([*command, "--dry-run"]) == 0
    counted = re.search(r"would change (\d+) Gaussians", capsys.readouterr().out)
    assert counted is not None
    assert not out.exists()
    assert run(command) == 0
    assert f"({counted[1]} Gaussians changed)" in capsys.readouterr().out
    sheet = read_image(out / "media" / "before_after.png")
    before, after = sheet[:, :, :40], sheet[:, :, -40:]
    redder = (after[0] - after[2]) - (before[0] - before[2])
    assert redder.min() > -0.01
    assert redder[:40].max() > 0.1
    # Killed before its checkpoint: the same command starts anew, with a card of its own.
    shutil.rmtree(out / "checkpoints")
    (out / "card.json").write_text('{"seed": "of the killed run"}')
    assert run(command) == 0
    assert len(list((out / "checkpoints").iterdir())) == 1
    card = json.loads((out / "card.json").read_text())
    assert card["seed"] == 0
    assert card["edited_from"] == str(avatar)
    assert card["edit"]["labels"] == ["hair"]
    film = ["relight", "--run", str(out), "--envmap", "constant", "--frames", "1"]
    assert run([*film, "--background", "black", "--images", str(tmp_path / "images")]) == 0
    relit = read_image(tmp_path / "images" / "image" / "00000.png")
    assert (relit[0] - relit[2]).max() > 0.2


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--label", "hair"], ["nothing to edit: give --color, --hue"]),
        (["--label", "hair", "--hue", "-360"], ["nothing to edit: give --color, --hue"]),
        (["--label", "--hue", "30"], ["--label must name at least one label"]),
        (["--label", "hair", "--roughness", "0.1"], ["roughness must be at least the avatar's"]),
        (["--label", "hair", "--saturation", "-1"], ["saturation must be 0 or more"]),
        (["--label", "hair", "--hue", "30", "--camera", "9"], ["--camera must be one of 0, 1, 2"]),
        (["--label", "hair", "--hue", "30", "--timestep", "9"], ["--timestep must be 0 to 4"]),
    ],
)
def test_edits_that_cannot_be_are_refused_before_anything_is_written(
    avatar, tmp_path, refuses, options, parts
) -> None:
    refuses(
        ["edit-materials", "--run", str(avatar), "--out", str(tmp_path / "e"), *options], *parts
    )
    assert not (tmp_path / "e").exists()


def test_edits_need_materials_and_a_folder_without_a_run(
    avatar, trained, refuses, tmp_path
) -> None:
    edit = ["--label", "hair", "--hue", "30"]
    command = ["edit-materials", "--run", str(trained), "--out", str(tmp_path / "e"), *edit]
    refuses(command, "an avatar must have materials")
    command = ["edit-materials", "--run", str(avatar), "--out", str(avatar), *edit]
    refuses(command, "already holds a run")

"""Videos with expression vectors through the commands: film, convert, check; garbage is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vultus.cli.main import run
from vultus.core.image_io import write_image

Refuses = Callable[..., str]

VIDEO = ["--layout", "nerf_blendshape", "--preset", "video", "--frames", "4", "--size", "40"]
VIDEO += ["--texture-size", "128", "--samples", "1", "--num-lights", "16", "--test-share", "0.25"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("command") / "video"
    assert run(["data", "studio", "--out", str(out), *VIDEO]) == 0
    return out


@pytest.fixture
def own_video(video: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(video, tmp_path / "own_video")


def test_a_filmed_video_is_checked(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "check", str(video), "--sheet", str(tmp_path / "sheet.png")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "format nerf_blendshape" in text
    assert "no errors" in text
    assert (tmp_path / "sheet.png").is_file()


def test_a_dry_filming_says_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "studio", "--out", str(tmp_path / "new"), *VIDEO, "--dry-run"]) == 0
    assert "nerf_blendshape" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_a_capture_with_a_rig_is_converted(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "video"
    command = ["data", "convert", str(capture), "--from", "rig", "--camera", "0"]
    assert run([*command, "--out", str(out), "--dry-run"]) == 0
    assert not out.exists()
    assert run([*command, "--out", str(out)]) == 0
    assert "5 frames, 61 expression coefficients" in capsys.readouterr().out
    assert run(["data", "check", str(out), "--dry-run"]) == 0


def test_tracking_of_ad_nerf_is_converted(tmp_path: Path) -> None:
    source, out = tmp_path / "adnerf", tmp_path / "video"
    (source / "ori_imgs").mkdir(parents=True)
    (source / "parsing").mkdir()
    for number in range(3):
        write_image(source / "ori_imgs" / f"{number}.jpg", torch.rand(3, 8, 8))
        write_image(source / "parsing" / f"{number}.png", torch.zeros(3, 8, 8))
    track = {"exp": torch.ones(3, 79), "euler": torch.zeros(3, 3), "focal": torch.tensor([9.0])}
    track["trans"] = torch.tensor([[0.0, 0.0, -7.0]]).expand(3, 3).contiguous()
    torch.save(track, source / "track_params.pt")
    command = ["data", "convert", str(source), "--from", "adnerf", "--out", str(out)]
    assert run([*command, "--masks-from-parsing"]) == 0
    assert run(["data", "check", str(out), "--dry-run", "--options", "held_out", "1"]) == 0


def test_what_needs_a_mesh_is_refused(video: Path, tmp_path: Path, refuses: Refuses) -> None:
    out = str(tmp_path / "fit.npz")
    refuses(["data", "fit", str(video), "--out", out], "a fit needs a head with a mesh")
    run_folder = tmp_path / "run"
    command = ["train", "surfhead", "--data", str(video), "--out", str(run_folder)]
    refuses(command, "surfhead needs a head with a mesh, the capture's is 'expression'")
    assert not run_folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "rig", "--masks-from-parsing"], "--masks-from-parsing is for --from adnerf"),
        (["--from", "adnerf", "--camera", "1"], "--camera, --format and --options are for"),
        (["--from", "rig", "--camera", "7"], "camera must be one of 0, 1, 2, got 7"),
        (["--from", "adnerf"], "ori_imgs: no such folder"),
    ],
)
def test_wrong_conversions_are_refused(
    capture: Path, tmp_path: Path, refuses: Refuses, options: list[str], message: str
) -> None:
    out = tmp_path / "video"
    refuses(["data", "convert", str(capture), "--out", str(out), *options], message)
    assert not out.exists()


def test_several_cameras_do_not_fit_the_layout(tmp_path: Path, refuses: Refuses) -> None:
    out = tmp_path / "new"
    command = ["data", "studio", "--layout", "nerf_blendshape", "--out", str(out)]
    refuses(command, "layout nerf_blendshape has one camera, got 4")
    assert not out.exists()


def _no_expressions(root: Path) -> None:
    _edit(root, lambda frame: frame.pop("exp_ori"))


def _an_expression_too_short(root: Path) -> None:
    _edit(root, lambda frame: frame["exp_ori"].pop() if frame["img_id"] == 2 else None)


def _a_missing_mask(root: Path) -> None:
    (root / "mask" / "3.png").unlink()


def _an_image_of_another_size(root: Path) -> None:
    write_image(root / "ori_imgs" / "3.jpg", torch.zeros(3, 8, 9))


def _a_coloured_mask(root: Path) -> None:
    write_image(root / "mask" / "3.png", torch.rand(3, 40, 40))


def _an_empty_mask(root: Path) -> None:
    write_image(root / "mask" / "3.png", torch.zeros(1, 40, 40))


def _too_much_held_out(root: Path) -> None:
    path = root / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "held_out_frames": 4}))


def _manifest_cut_short(root: Path) -> None:
    path = root / "transforms.json"
    path.write_text(path.read_text()[:200])


def _edit(root: Path, change: Callable[[dict], object]) -> None:
    path = root / "transforms.json"
    data = json.loads(path.read_text())
    for frame in data["frames"]:
        change(frame)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_expressions, "frames have img_id but no exp_ori; vultus data convert"),
        (_an_expression_too_short, "frames[2].exp_ori must have 61 numbers"),
        (_a_missing_mask, "mask has no file of the number 3"),
        (_an_image_of_another_size, "3.jpg: must have the camera's size 40 x 40, got 9 x 8"),
        (_a_coloured_mask, "mask/3.png: a mask must be grey"),
        (_an_empty_mask, "mask/3.png: mask is empty"),
        (_too_much_held_out, "4 frames leave none for training when the last 4 are held out"),
        (_manifest_cut_short, "transforms.json:"),
    ],
)
def test_the_check_names_what_is_wrong(
    own_video: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    message: str,
) -> None:
    damage(own_video)
    assert run(["data", "check", str(own_video), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

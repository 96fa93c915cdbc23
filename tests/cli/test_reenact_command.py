"""Cross-reenactment: another subject's capture or run drives the avatar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vultus.cli.avatar_run import open_run
from vultus.cli.main import run
from vultus.core.image_io import read_image
from vultus.core.video_io import read_video_frames
from vultus.data.readers import read_sequence

STUDIO = ["--frames", "4", "--cameras", "2", "--size", "40", "--texture-size", "128"]
STUDIO += ["--samples", "1", "--num-lights", "16", "--test-share", "0.25", "--seed", "3"]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four moments of another person from two cameras."""
    out = tmp_path_factory.mktemp("other") / "capture"
    assert run(["data", "studio", "--out", str(out), *STUDIO]) == 0
    return out


def film(path: Path) -> Tensor:
    return torch.stack(list(read_video_frames(path))).float() / 255


def test_another_capture_drives_from_its_own_cameras(
    trained: Path, other: Path, tmp_path: Path
) -> None:
    out = tmp_path / "film.mp4"
    command = ["reenact", "--run", str(trained), "--track", str(other), "--out", str(out)]
    command += ["--camera-of", "driver", "--camera", "1", "--show-driver", "--views", "rgb"]
    assert run(command) == 0
    frames = film(out)
    assert frames.shape == (4, 3, 40, 40 + 4 + 40)
    opened, driver = open_run(trained), read_sequence(other)
    identity = opened.avatar.track.identity_coeffs
    assert identity is not None
    records = [record for record in driver.frames if record.camera_index == 1]
    for frame, record in zip(frames, sorted(records, key=lambda r: r.timestep), strict=True):
        pose = driver.pose[record.timestep].replace(identity_coeffs=identity[:1])
        avatar = opened.avatar.render(pose, record.camera).image[0].clamp(0, 1)
        # H.264 halves the resolution of colour; a wrong picture differs by more than 0.1.
        assert float((frame[:, :, :40] - read_image(record.image_path)).abs().mean()) < 0.03
        assert float((frame[:, :, 44:] - avatar).abs().mean()) < 0.03


def test_another_run_drives_in_the_place_of_the_avatar(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    command = ["reenact", "--run", str(trained), "--track", str(trained), "--out", str(out)]
    command += ["--views", "rgb", "--images", str(tmp_path / "images")]
    assert run([*command, "--frames", "2", "--stride", "3"]) == 0
    frames = film(out)
    opened = open_run(trained)
    camera = opened.sequence.split("train")[0].camera
    assert len(frames) == 2
    for index, moment in enumerate((0, 3)):
        expected = opened.avatar.render(opened.avatar.track[moment], camera).image[0].clamp(0, 1)
        assert float((frames[index] - expected).abs().mean()) < 0.02
        written = read_image(tmp_path / "images" / "rgb" / f"{index:05d}.png")
        torch.testing.assert_close(written, expected, atol=0.51 / 255, rtol=0)


def test_rebasing_changes_the_face(trained: Path, other: Path, tmp_path: Path) -> None:
    films = []
    for choice in ("none", "motion"):
        out = tmp_path / f"{choice}.mp4"
        command = ["reenact", "--run", str(trained), "--track", str(other), "--out", str(out)]
        command += ["--rebase", choice, "--neutral", "0", "--own-neutral", "0", "--views", "rgb"]
        assert run(command) == 0
        films.append(film(out))
    opened = open_run(trained)
    camera = opened.sequence.split("train")[0].camera
    own = opened.avatar.render(opened.avatar.track[0], camera).image[0].clamp(0, 1)
    assert float((films[1][0] - own).abs().mean()) < 0.02
    assert float((films[0][0] - own).abs().mean()) > 0.02


def test_what_cannot_drive_is_refused_in_one_line(
    trained: Path, other: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    command = ["reenact", "--run", str(trained), "--dry-run", "--track"]
    refuses([*command, str(tmp_path)], "no known capture")
    refuses([*command, str(tmp_path / "none.npz")], "none.npz")
    refuses([*command, str(other), "--camera-of", "driver", "--camera", "7"], "camera 7")
    refuses([*command, "talking", "--camera-of", "driver"], "has no cameras of its own")
    refuses([*command, "talking", "--show-driver"], "--camera-of driver")
    refuses([*command, "talking", "--frames", "0"], "--frames must be positive, got 0")
    refuses([*command, str(other), "--neutral", "9"], "neutral must be 0 to 3, got 9")
    flame = tmp_path / "flame.npz"
    widths = {"expr": 100, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6}
    zeros = {k: np.zeros((2, n), np.float32) for k, n in {**widths, "translation": 3}.items()}
    np.savez(flame, allow_pickle=False, **zeros)
    refuses([*command, str(flame)], "shares no expression with the motion of 'flame'")

"""Published GaussianHead models through the command line: into runs, and out of runs again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vultus.cli import convert_checkpoint, export
from vultus.cli.avatar_run import open_run
from vultus.data.head_video import HeadVideoFolder, VideoTrack
from vultus.geometry.cameras import Camera, look_at
from vultus.methods.gaussianhead.model import GaussianHead
from vultus.methods.gaussianhead.official import pose_official, read_official

EXPRESSIONS = 46
FRAMES = 6


def make_video(root: Path, num_expressions: int) -> None:
    """A video of nothing in particular, with expression vectors."""
    folder = HeadVideoFolder(root)
    folder.make()
    generator = torch.Generator().manual_seed(0)
    for image_id in range(FRAMES):
        rgb = torch.rand(3, 40, 40, generator=generator)
        folder.write_frame(image_id, rgb, torch.ones(1, 40, 40), None)
    eyes = torch.tensor([[0.1 * i, 0.0, 3.0] for i in range(FRAMES)])
    up = torch.tensor([0.0, 1.0, 0.0]).expand(FRAMES, 3)
    intrinsics = torch.tensor([[60.0, 0, 20], [0, 60, 20], [0, 0, 1]]).expand(FRAMES, 3, 3)
    camera = Camera(look_at(eyes, torch.zeros(FRAMES, 3), up), intrinsics, 40, 40)
    expressions = torch.randn(FRAMES, num_expressions, generator=generator)
    folder.write_track(VideoTrack(tuple(range(FRAMES)), camera, expressions))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("video") / "id1"
    make_video(root, EXPRESSIONS)
    return root


@pytest.fixture
def model(golden_dir: Path) -> Path:
    path = golden_dir / "gaussianhead" / "official_ckpt"
    if not path.is_dir():
        pytest.skip(f"no golden fixture {path}")
    return path


def convert(model: Path, video: Path, out: Path, *more: str) -> None:
    arguments = [str(model), "--out", str(out), "--source", "gaussianhead", "--to", "run"]
    held_out = ["--options", "held_out", "2"]
    convert_checkpoint.main([*arguments, "--data", str(video), *held_out, *more])


@pytest.mark.parametrize("baking", [[], ["--bake-derivation"]])
def test_a_converted_model_is_a_run_that_shows_the_same(
    model: Path, video: Path, tmp_path: Path, baking: list[str]
) -> None:
    convert(model, video, tmp_path / "run", *baking)
    opened = open_run(tmp_path / "run")
    assert opened.step == 80_000
    pose, camera = opened.pose(3), opened.sequence.frames[3].camera
    center = camera.camera_to_world[:, :3, 3]
    assert isinstance(opened.avatar, GaussianHead)
    posed = opened.avatar.posed_gaussians(pose, camera)
    assert pose.expression_coeffs is not None
    expected = pose_official(read_official(model), pose.expression_coeffs, center)
    for name in ("means", "quats", "scales", "opacities", "sh_coeffs"):
        torch.testing.assert_close(getattr(posed, name), getattr(expected, name))


def test_a_run_is_written_as_the_model_that_it_was(
    model: Path, video: Path, tmp_path: Path
) -> None:
    convert(model, video, tmp_path / "run")
    folder = tmp_path / "model"
    export.main(["--run", str(tmp_path / "run"), "--format", "gaussianhead", "--out", str(folder)])
    first, again = read_official(model), read_official(folder)
    assert again.iteration == first.iteration
    for name, value in first.gaussians.items():
        assert torch.equal(value, again.gaussians[name]), name
    for name, value in first.appearance.state_dict().items():
        assert torch.equal(value, again.appearance.state_dict()[name]), name


def test_what_the_published_program_cannot_express_is_not_written(
    model: Path, video: Path, tmp_path: Path
) -> None:
    convert(model, video, tmp_path / "run", "--bake-derivation")
    with pytest.raises(ValueError, match=r"needs model\.derivation 'official'"):
        export.main(["--run", str(tmp_path / "run"), "--format", "gaussianhead"])


def test_a_capture_with_other_expressions_is_refused(model: Path, tmp_path: Path) -> None:
    make_video(tmp_path / "video", 5)
    with pytest.raises(ValueError, match="expressions must have 46 numbers as in the model, got 5"):
        convert(model, tmp_path / "video", tmp_path / "run")


def test_a_model_needs_a_capture_to_become_a_run(model: Path, tmp_path: Path) -> None:
    arguments = [str(model), "--out", str(tmp_path / "run"), "--source", "gaussianhead"]
    with pytest.raises(ValueError, match="needs --to run, got ply"):
        convert_checkpoint.main([*arguments, "--to", "ply"])
    with pytest.raises(ValueError, match="--data must name the capture"):
        convert_checkpoint.main(arguments)


def test_a_converted_model_exports_splats_that_viewers_read(
    model: Path, video: Path, tmp_path: Path
) -> None:
    convert(model, video, tmp_path / "run")
    out = tmp_path / "avatar.ply"
    export.main(["--run", str(tmp_path / "run"), "--out", str(out)])
    assert out.stat().st_size > 130 * 4 * 62

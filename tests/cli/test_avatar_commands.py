"""The commands that follow training: what they write, by default and on request."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vultus.cli.avatar_run import open_run
from vultus.cli.main import run
from vultus.cli.render import path_cameras, random_cameras
from vultus.core.image_io import read_image
from vultus.core.video_io import read_video_frames, video_info
from vultus.export.mesh_files import read_mesh
from vultus.gaussians.splat_files import read_splats
from vultus.geometry.cameras import Camera, camera_centers
from vultus.heads.base import HeadPose
from vultus.heads.expression_track import ExpressionTrack

Snapshot = Callable[[Path], dict[str, tuple[int, int]]]


def film(path: Path) -> Tensor:
    return torch.stack(list(read_video_frames(path))).float() / 255


def head_points(run_path: Path, timestep: int) -> Tensor:
    opened = open_run(run_path)
    return opened.sequence.head.vertices(opened.avatar.track[timestep])[0]


def nearest(points: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(points, others).amin(dim=1)


def test_evaluate_measures_again_and_prints_what_it_measured(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_run / "evaluation.json"
    before = json.loads(path.read_text())
    path.unlink()
    assert run(["evaluate", "--run", str(own_run), "--per-image"]) == 0
    assert json.loads(path.read_text()) == before
    out = capsys.readouterr().out
    for part in ("Novel view (held-out camera)", "protocol surfhead-v1, 4 images", "not available"):
        assert part in out
    assert "images/00004_02.png" in out
    assert "mean of per-image values; masked: foreground\n" in out
    results = json.loads((own_run / "results.json").read_text())
    assert list(results) == ["val", "test"]
    assert results["val"]["psnr_masked"] == before[0]["mean"]["psnr_masked"]
    assert results["test"]["images"] == 3
    with (own_run / "per_view.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["split"] for line in lines] == 4 * ["val"] + 3 * ["test"]
    assert [line["image"] for line in lines[:4]] == [row["image"] for row in before[0]["frames"]]
    assert float(lines[0]["psnr"]) == before[0]["frames"][0]["psnr"]
    assert lines[0]["lpips_vgg"] == ""
    assert f"psnr                     {before[0]['mean']['psnr']:.4g}\n" in out


def test_evaluate_takes_the_splits_that_are_named(own_run: Path) -> None:
    assert run(["evaluate", "--run", str(own_run), "--splits", "train"]) == 0
    (result,) = json.loads((own_run / "evaluation.json").read_text())
    assert (result["split"], len(result["frames"])) == ("train", 8)
    assert math.isfinite(result["mean"]["psnr"])


@pytest.mark.parametrize("path", ["turntable", "arc", "yaw"])
def test_render_films_along_a_path(own_run: Path, path: str) -> None:
    assert run(["render", "--run", str(own_run), "--path", path, "--frames", "5"]) == 0
    frames = film(own_run / "media" / f"render_{path}.mp4")
    assert frames.shape == (5, 3, 40, 40)
    # The head is in every picture, the white background around it.
    assert (frames.amin(dim=(1, 2, 3)) < 0.7).all()
    assert (frames[:, :, 0, 0] > 0.9).all()
    assert not torch.equal(frames[0], frames[2])


def test_render_shows_single_expressions_in_turns(trained: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    command = ["render", "--run", str(trained), "--out", str(tmp_path / "film.mp4")]
    command += ["--one-hot", "jawOpen", "0", "--frames", "6", "--images", str(images)]
    assert run([*command, "--path", "still", "--camera", "2"]) == 0
    shown = [read_image(images / "rgb" / f"{index:05d}.png") for index in range(6)]
    # Each rises and falls: the first is as far as the third, and the middle one is farthest.
    assert torch.equal(shown[0], shown[2])
    assert torch.equal(shown[3], shown[5])
    opened = open_run(trained)
    camera, place = opened.camera(2), opened.pose(0)
    for index, (name, weight) in {0: ("jawOpen", 0.25), 1: ("jawOpen", 1.0)}.items():
        coeffs = torch.zeros(1, 52)
        coeffs[0, opened.sequence.head.expression_names.index(name)] = weight
        pose = place.replace(expression_coeffs=coeffs, jaw_pose=None, eye_pose=None)
        expected = opened.avatar.render(pose, camera).image[0].clamp(0, 1)
        torch.testing.assert_close(shown[index], expected, atol=0.51 / 255, rtol=0)
    assert not torch.equal(shown[1], shown[4])


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--one-hot", "grin"], "expression must be all, 0 to 51 or one of"),
        (["--one-hot", "all", "--frames", "9"], "--frames must be at least 52"),
        (["--one-hot", "0", "--path", "dataset"], "--one-hot is not for --path dataset"),
        (["--weight", "2"], "--weight is of --one-hot"),
        (["--camera", "2"], "--camera is of --path still, got --path turntable"),
        (["--camera", "2", "--path", "dataset"], "--camera is of --path still, got --path dataset"),
        (["--camera", "7", "--path", "still"], "--camera must be one of 0, 1, 2, got 7"),
        (["--one-hot", "0", "--weight", "nan"], "--weight must be finite"),
    ],
)
def test_what_paths_cannot_show_is_refused(trained, refuses, options, part) -> None:
    refuses(["render", "--run", str(trained), *options], part)


def test_render_shows_views_side_by_side_at_the_size_and_rate_asked_for(
    trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "film.mp4"
    command = ["render", "--run", str(trained), "--out", str(out), "--frames", "3", "--size", "32"]
    command += ["24", "--timestep", "4", "--fps", "10", "--views", "rgb", "normals", "depth"]
    assert run([*command, "alpha"]) == 0
    info = video_info(out)
    assert (info.width, info.height) == (4 * 32 + 3 * 4, 24)
    assert info.fps == pytest.approx(10)
    assert info.duration == pytest.approx(0.3, abs=0.02)


def test_render_puts_truth_and_avatar_beside_each_other(
    trained: Path, capture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "film.mp4"
    command = ["render", "--run", str(trained), "--out", str(out), "--path", "dataset"]
    assert run([*command, "--split", "val"]) == 0
    frames = film(out)
    assert frames.shape == (4, 3, 40, 3 * 40 + 2 * 4)
    opened = open_run(trained)
    for frame, record in zip(frames, opened.sequence.split("val"), strict=True):
        truth = read_image(record.image_path)
        avatar = opened.avatar.render(opened.avatar.track[record.timestep], record.camera).image[0]
        # H.264 halves the resolution of colour; a wrong picture differs by more than 0.1.
        assert float((frame[:, :, :40] - truth).abs().mean()) < 0.03
        assert float((frame[:, :, 44:84] - avatar.clamp(0, 1)).abs().mean()) < 0.03


def test_render_also_writes_the_views_one_by_one(trained: Path, tmp_path: Path) -> None:
    out, images = tmp_path / "film.mp4", tmp_path / "images"
    command = ["render", "--run", str(trained), "--out", str(out), "--images", str(images)]
    views = ["depth", "normals", "depth_normals", "mesh", "true_normals"]
    assert run([*command, "--path", "dataset", "--split", "test", "--views", *views]) == 0
    assert film(out).shape == (3, 3, 40, 5 * 40 + 4 * 4)
    assert sorted(path.name for path in images.iterdir()) == sorted(views)
    names = [f"00004_0{camera}" for camera in range(3)]
    assert sorted(path.stem for path in (images / "mesh").iterdir()) == names
    opened = open_run(trained)
    record = opened.sequence.split("test")[2]
    output = opened.avatar.render(opened.avatar.track[record.timestep], record.camera)
    stored = np.load(images / "normals" / "00004_02.npy")
    np.testing.assert_array_equal(stored, output.require("normals")[0].numpy())


def test_evaluate_saves_what_every_image_shows(own_run: Path) -> None:
    command = ["evaluate", "--run", str(own_run), "--splits", "test", "--save-images"]
    assert run([*command, "--views", "rgb", "truth", "alpha"]) == 0
    folder = own_run / "media" / "images" / "test"
    assert sorted(path.name for path in folder.iterdir()) == ["alpha", "rgb", "truth"]
    record = open_run(own_run).sequence.split("test")[1]
    truth = read_image(folder / "truth" / "00004_01.png")
    torch.testing.assert_close(truth, read_image(record.image_path), atol=1e-6, rtol=0)
    assert len(list((folder / "rgb").iterdir())) == 3


def test_bench_render_counts_pictures(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.json"
    command = ["bench", "render", "--run", str(trained), "--width", "44", "--height", "60"]
    command += ["--frames", "2", "--device", "cpu", "--json", str(rows)]
    assert run([*command, "--dry-run"]) == 0
    assert "would render 2 pictures: surfhead, " in capsys.readouterr().out
    assert run(command) == 0
    title, columns, *lines = capsys.readouterr().out.splitlines()
    assert title.endswith(" surfels, 44 x 60, cpu")
    assert columns.split()[-1] == "pictures/s"
    assert [line[:11].strip() for line in lines] == ["track plays", "one pose"]
    moving, _ = json.loads(rows.read_text())["rows"]
    assert (moving["width"], moving["height"], moving["frames"]) == (44, 60, 2)
    # Columns show four digits.
    milliseconds, rate = moving["milliseconds"]["picture"]["median"], float(lines[0].split()[-1])
    assert rate == pytest.approx(1000.0 / milliseconds, rel=1e-3)


def test_reenact_of_a_neutral_track_stands_still(own_run: Path) -> None:
    default = own_run / "media" / "reenact.mp4"
    assert run(["reenact", "--run", str(own_run), "--track", "neutral", "--frames", "3"]) == 0
    still = film(default)
    assert still.shape == (3, 3, 40, 84)
    assert float((still[0] - still[2]).abs().mean()) < 0.01


def test_reenact_plays_a_recording_from_any_camera(trained: Path, tmp_path: Path) -> None:
    recording, out = tmp_path / "nod.npz", tmp_path / "nod.mp4"
    turns = np.array([[0.0, 0, 0], [9, 9, 9], [0, 0, 0.25], [9, 9, 9], [0, 0, 0.5]])
    weights = np.array([[0.0], [9], [0.5], [9], [1.0]])
    names, fps = np.array(["jawOpen"]), np.array(30.0)
    np.savez(recording, names=names, weights=weights, head_pose=turns, fps=fps)
    command = ["reenact", "--run", str(trained), "--track", str(recording), "--out", str(out)]
    command += ["--frames", "3", "--stride", "2", "--camera", "1", "--views", "rgb"]
    assert run(command) == 0
    opened = open_run(trained)
    head, own = opened.sequence.head, opened.avatar.track
    expression = torch.zeros(3, len(head.expression_names))
    identity = own.identity_coeffs
    assert identity is not None
    expression[:, head.expression_names.index("jawOpen")] = torch.tensor([0.0, 0.5, 1.0])
    pose = HeadPose(
        identity_coeffs=identity[:1],
        expression_coeffs=expression,
        neck_pose=torch.tensor([[0.0, 0, 0], [0, 0, 0.25], [0, 0, 0.5]]),
    )
    camera = opened.sequence.split("val")[0].camera
    frames = film(out)
    assert frames.shape == (3, 3, 40, 40)
    for i, frame in enumerate(frames):
        expected = opened.avatar.render(pose[i], camera).image[0].clamp(0, 1)
        assert float((frame - expected).abs().mean()) < 0.02
    assert float((frames[0] - frames[2]).abs().mean()) > 0.04


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_mesh_lies_on_the_head(trained: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"mesh.{suffix}"
    command = ["mesh", "--run", str(trained), "--out", str(out), "--timestep", "3"]
    assert run([*command, "--resolution", "32", "--views", "6"]) == 0
    mesh = read_mesh(out)
    assert len(mesh.faces) > 1000
    assert mesh.vertices.isfinite().all()
    assert mesh.colors is not None
    assert 0 <= float(mesh.colors.min()) <= float(mesh.colors.max()) <= 1
    # Pixels are 9 mm wide, voxels 13 mm; the avatar has learned for six steps only.
    assert float(nearest(mesh.vertices, head_points(trained, 3)).median()) < 0.02


def test_mesh_of_masked_and_random_views_has_the_colours_of_the_avatar(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mesh.ply"
    command = ["mesh", "--run", str(trained), "--out", str(out), "--timestep", "2"]
    command += ["--views", "0", "--random-views", "5", "--use-masks", "--voxel-size", "0.01"]
    assert run([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would fuse 8 views and write {out}\n"
    assert run(command) == 0
    mesh = read_mesh(out)
    assert float(nearest(mesh.vertices, head_points(trained, 2)).median()) < 0.015
    assert mesh.colors is not None
    opened = open_run(trained)
    output = opened.avatar.render(opened.avatar.track[2], opened.sequence.frames[0].camera)
    rendered = output.image[0][:, output.alpha[0, 0] > 0.9]
    torch.testing.assert_close(mesh.colors.mean(dim=0), rendered.mean(dim=1), atol=0.05, rtol=0)
    # The white background is nowhere on it.
    assert float((mesh.colors.min(dim=1).values > 0.95).float().mean()) < 0.02


def test_random_views_look_at_the_head_from_the_front(trained: Path) -> None:
    opened = open_run(trained)
    generator = torch.Generator().manual_seed(0)
    cameras = random_cameras(opened, 200, 0.8, generator)
    around = camera_centers(path_cameras(opened, "turntable", 8))
    offset = camera_centers(cameras) - around.mean(dim=0)
    distance = (around[0] - around.mean(dim=0)).norm()
    torch.testing.assert_close(offset.norm(dim=1), distance.expand(200), atol=1e-5, rtol=0)
    yaw, pitch = torch.atan2(offset[:, 0], offset[:, 2]), (offset[:, 1] / distance).asin()
    for angle in (yaw, pitch):
        assert 0.7 < float(angle.abs().max()) <= 0.8 + 1e-5
        assert abs(float(angle.mean())) < 0.15


def test_export_writes_splats_in_the_world_and_bound_to_the_rig(own_run: Path) -> None:
    assert run(["export", "--run", str(own_run), "--timestep", "2"]) == 0
    assert run(["export", "--run", str(own_run), "--format", "surfhead-ply"]) == 0
    posed = read_splats(own_run / "media" / "avatar.ply")
    bound = read_splats(own_run / "media" / "avatar_bound.ply")
    opened = open_run(own_run)
    assert len(posed) == len(bound) == opened.avatar.summary()["surfels"]
    assert posed.log_scales.shape[1] == 3
    assert posed.face_index is None
    assert posed.means.isfinite().all()
    sample = posed.means[::50]
    assert float(nearest(sample, head_points(own_run, 2)).max()) < 0.02
    assert bound.log_scales.shape[1] == 2
    assert torch.equal(bound.means, opened.avatar.tensors()["local_means"])
    assert bound.face_index is not None
    assert torch.equal(bound.face_index, opened.avatar.tensors()["face_index"])


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate"],
        ["render", "--frames", "3"],
        ["render", "--path", "dataset"],
        ["reenact", "--track", "talking"],
        ["mesh"],
        ["export"],
    ],
    ids=" ".join,
)
def test_a_dry_run_writes_nothing(
    trained: Path, command: list[str], files_of: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(trained)
    assert run([*command, "--run", str(trained), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("would ")
    assert files_of(trained) == before


def test_a_moved_capture_is_found_where_the_user_says(
    trained: Path, own_run: Path, own_capture: Path, tmp_path: Path, refuses: Callable[..., str]
) -> None:
    config = own_run / "config.json"
    stored = json.loads(config.read_text())
    stored["data"]["data"] = str(tmp_path / "gone")
    config.write_text(json.dumps(stored))
    out = str(tmp_path / "a.ply")
    refuses(["export", "--run", str(own_run), "--out", out], "gone", "say where with --data")
    assert run(["export", "--run", str(own_run), "--out", out, "--data", str(own_capture)]) == 0
    assert run(["export", "--run", str(trained), "--out", str(tmp_path / "b.ply")]) == 0
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_a_swing_looks_at_the_head_from_the_mean_distance(trained: Path) -> None:
    opened = open_run(trained)
    vertices = opened.head_vertices()
    middle = 0.5 * (vertices.amin(dim=0) + vertices.amax(dim=0))
    eyes = torch.cat([camera_centers(r.camera) for r in opened.sequence.split("train")])
    cameras = path_cameras(opened, "yaw", 120)
    offset = camera_centers(cameras) - middle
    mean = (eyes - middle).norm(dim=1).mean()
    torch.testing.assert_close(offset.norm(dim=1), mean.expand(120), atol=1e-5, rtol=0)
    yaw = torch.rad2deg(torch.atan2(offset[:, 0], offset[:, 2]))
    torch.testing.assert_close(yaw[[0, 50, 100]], torch.tensor([15.0, 0.0, 15.0]))
    torch.testing.assert_close(offset[:, 1], torch.zeros(120), atol=1e-6, rtol=0)


def test_a_head_without_a_mesh_is_filmed_around_the_origin(trained: Path) -> None:
    """Expression vectors say nothing of where a head is: its frame does."""
    opened = open_run(trained)
    coeffs = opened.avatar.track.expression_coeffs
    assert coeffs is not None
    sequence = replace(opened.sequence, head=ExpressionTrack(coeffs.shape[1]))
    bare = replace(opened, sequence=sequence)
    centers = camera_centers(path_cameras(bare, "yaw", 100))
    eyes = torch.cat([camera_centers(r.camera) for r in sequence.split("train")])
    torch.testing.assert_close(centers.norm(dim=1), eyes.norm(dim=1).mean().expand(100))
    around = camera_centers(path_cameras(bare, "turntable", 8))
    first = sequence.split("train")[0].camera
    eye, axis = camera_centers(first)[0], first.camera_to_world[0, :3, 2]
    expected = eye - (eye @ axis) * axis
    torch.testing.assert_close(around.mean(dim=0), expected, atol=1e-5, rtol=0)


def test_a_path_frames_the_head_as_the_first_training_image(trained: Path) -> None:
    opened = open_run(trained)
    first = opened.sequence.split("train")[0].camera
    cameras = path_cameras(opened, "turntable", 4)
    eye, axis = camera_centers(first)[0], first.camera_to_world[0, :3, 2]
    target = camera_centers(cameras).mean(dim=0)
    distance = (camera_centers(cameras) - target).norm(dim=1)
    torch.testing.assert_close(eye + distance[0] * axis, target, atol=1e-5, rtol=0)
    torch.testing.assert_close(distance, distance[:1].expand(4), atol=1e-5, rtol=0)


def test_a_camera_that_moves_is_taken_where_it_first_stands(trained: Path) -> None:
    """Whatever the order of the files: held-out moments may come first or last."""
    opened = open_run(trained)
    frames = opened.sequence.frames

    def moved(timestep: int, camera: Camera) -> Camera:
        poses = camera.world_to_camera.clone()
        poses[:, 0, 3] += timestep
        return replace(camera, world_to_camera=poses)

    moving = tuple(replace(each, camera=moved(each.timestep, each.camera)) for each in frames)
    stands = next(each.camera for each in frames if (each.camera_index, each.timestep) == (1, 0))
    for order in (moving, moving[::-1]):
        found = replace(opened, sequence=replace(opened.sequence, frames=order)).camera(1)
        assert torch.equal(found.world_to_camera, stands.world_to_camera)

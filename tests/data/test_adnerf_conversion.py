"""AD-NeRF's preprocessing and captures with a rig become videos with expression vectors."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_captures import film_procedural_head
from vultus.core.image_io import read_image, read_image_bytes, write_image
from vultus.data.adnerf import plan_adnerf, tracked_world_to_camera
from vultus.data.check import check_capture
from vultus.data.frames import load_colors
from vultus.data.head_video import PARSING_COLORS, mask_offset
from vultus.data.readers import load_frame, read_sequence
from vultus.data.rig_video import plan_rig_video
from vultus.data.studio.rigs import head_center
from vultus.geometry.cameras import project_points
from vultus.heads.base import HeadPose

NUM_FRAMES, SIZE = 11, 24


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


def tracked(count: int = NUM_FRAMES) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    translation = 0.2 * torch.randn(count, 3, generator=generator)
    return {
        "id": torch.zeros(1, 100),
        "exp": torch.randn(count, 79, generator=generator),
        "euler": 0.4 * torch.randn(count, 3, generator=generator),
        "trans": translation + torch.tensor([0.0, 0.0, -7.0]),
        "focal": torch.tensor([1100.0]),
    }


def written_pose(euler: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """``transform_matrix`` of AD-NeRF by plain sines: camera to head, OpenGL axes."""
    a, b, c = euler[0], euler[1], -euler[2]
    x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(x) @ np.array(y) @ np.array(z)
    matrix[:3, 3] = translation / 10
    return np.linalg.inv(matrix)


def parsing() -> torch.Tensor:
    image = torch.full((3, SIZE, SIZE), 255, dtype=torch.uint8)
    image[:, :12, 8:16] = torch.tensor(PARSING_COLORS["head"], dtype=torch.uint8)[:, None, None]
    image[:, 12:, 4:20] = torch.tensor(PARSING_COLORS["torso"], dtype=torch.uint8)[:, None, None]
    return image


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """As ``process_data.py`` leaves it, without mattes."""
    root = tmp_path / "adnerf"
    for name in ("ori_imgs", "parsing"):
        (root / name).mkdir(parents=True)
    values = tracked()
    frames = []
    for i in range(NUM_FRAMES):
        write_image(root / "ori_imgs" / f"{i}.jpg", torch.full((3, SIZE, SIZE), 0.05 * i))
        (root / "ori_imgs" / f"{i}.lms").write_text("0 0\n")
        write_image(root / "parsing" / f"{i}.png", parsing())
        pose = written_pose(values["euler"][i].double().numpy(), values["trans"][i].numpy())
        frames.append(
            {
                "img_id": i,
                "aud_id": i,
                "transform_matrix": pose.tolist(),
                "face_rect": [0, 0, 9, 9],
            }
        )
    for name, part in (("train", frames[:10]), ("val", frames[10:])):
        data = {"focal_len": 1100.0, "cx": 12.5, "cy": 12.0, "frames": part}
        (root / f"transforms_{name}.json").write_text(json.dumps(data))
    torch.save(values, root / "track_params.pt")
    return root


def add_mattes(root: Path, offset: int) -> None:
    (root / "mask").mkdir()
    for i in range(NUM_FRAMES):
        matte = torch.full((1, SIZE, SIZE), (i + 1) / NUM_FRAMES)
        write_image(root / "mask" / f"{i + offset}.png", matte)


def test_manifests_are_merged_and_expressions_added(source: Path, tmp_path: Path) -> None:
    add_mattes(source, 1)
    out = tmp_path / "out"
    plan_adnerf(source, out).write()
    sequence = read_sequence(out, held_out="2")
    torch.testing.assert_close(sequence.pose.expression_coeffs, tracked()["exp"])
    assert len(sequence.frames) == NUM_FRAMES
    camera = sequence.frames[10].camera
    assert camera.intrinsics[0].tolist() == [[1100.0, 0, 12.5], [0, 1100.0, 12.0], [0, 0, 1]]
    for i, record in enumerate(sequence.frames):
        pose = written_pose(*(tracked()[k][i].double().numpy() for k in ("euler", "trans")))
        flipped = torch.from_numpy(pose * np.array([1.0, -1.0, -1.0, 1.0])).float()
        torch.testing.assert_close(record.camera.camera_to_world[0], flipped, atol=1e-5, rtol=0)
        original = source / "ori_imgs" / f"{i}.jpg"
        assert record.image_path.read_bytes() == original.read_bytes()
    assert check_capture(out, held_out="2").errors == ()


@pytest.mark.parametrize("offset", [0, 1])
def test_mattes_are_numbered_as_published_whatever_they_were(
    source: Path, tmp_path: Path, offset: int
) -> None:
    add_mattes(source, offset)
    plan_adnerf(source, tmp_path / "out").write()
    for i in (0, 10):
        mask = read_image(tmp_path / "out" / "mask" / f"{i + 1}.png")
        assert float(mask.mean()) == pytest.approx((i + 1) / NUM_FRAMES, abs=0.5 / 255)


def test_poses_of_the_tracker_are_those_of_the_manifests(source: Path, tmp_path: Path) -> None:
    merged = plan_adnerf(source, tmp_path / "a", masks_from_parsing=True).track.camera
    for path in source.glob("transforms_*.json"):
        path.unlink()
    track = plan_adnerf(source, tmp_path / "b", masks_from_parsing=True).track
    torch.testing.assert_close(
        track.camera.world_to_camera, merged.world_to_camera, atol=1e-5, rtol=0
    )
    assert track.camera.intrinsics[0, :2, 2].tolist() == [SIZE / 2, SIZE / 2]
    assert track.camera.intrinsics[0, 0, 0] == 1100.0


def test_real_poses_survive_the_way_over_the_angles_of_the_tracker(data_dir: Path) -> None:
    frames = json.loads((data_dir / "adnerf_poses/transforms.json").read_text())["frames"]
    head_to_camera = np.linalg.inv(np.array([frame["transform_matrix"] for frame in frames]))
    r = head_to_camera[:, :3, :3]
    euler = np.stack(
        [
            np.arctan2(-r[:, 1, 2], r[:, 2, 2]),
            np.arcsin(r[:, 0, 2]),
            -np.arctan2(-r[:, 0, 1], r[:, 0, 0]),
        ],
        axis=1,
    )
    translation = 10 * head_to_camera[:, :3, 3]
    matrices = tracked_world_to_camera(torch.from_numpy(euler), torch.from_numpy(translation))
    expected = np.diag([1.0, -1.0, -1.0, 1.0]) @ head_to_camera
    torch.testing.assert_close(matrices, torch.from_numpy(expected).float(), atol=1e-5, rtol=0)


def test_mattes_can_be_made_from_the_parsing(source: Path, tmp_path: Path) -> None:
    plan_adnerf(source, tmp_path / "out", masks_from_parsing=True).write()
    sequence = read_sequence(tmp_path / "out", held_out="1")
    mask = load_frame(sequence, sequence.frames[4]).mask
    assert mask is not None
    expected = (parsing() != 255).any(dim=0).float()
    assert torch.equal(mask[0, 0], expected)


def test_a_video_of_a_real_person_with_real_poses(data_dir: Path, tmp_path: Path) -> None:
    """Frames and poses are of two videos of one man: enough for the path from files to a frame."""
    source = tmp_path / "obama"
    (source / "ori_imgs").mkdir(parents=True)
    poses = json.loads((data_dir / "adnerf_poses/transforms.json").read_text())
    poses["frames"] = poses["frames"][:20]
    pictures = sorted((data_dir / "obama_address/ori_imgs").iterdir())
    mattes = {}
    for place, frame in enumerate(poses["frames"]):
        image_id = frame["img_id"]
        picture = pictures[place]
        mattes[image_id + 1] = data_dir / "obama_address/mask" / f"{picture.stem}.png"
        resized = Image.open(picture).resize((450, 450))
        resized.save(source / "ori_imgs" / f"{image_id}.jpg")
    (source / "mask").mkdir()
    for number, matte in mattes.items():
        Image.open(matte).resize((450, 450)).save(source / "mask" / f"{number}.png")
    (source / "transforms.json").write_text(json.dumps(poses))
    torch.save({**tracked(20)}, source / "track_params.pt")
    plan_adnerf(source, tmp_path / "out").write()
    report = check_capture(tmp_path / "out", hold_out_share="0.2")
    assert report.errors == ()
    assert report.facts["train"] == "16"
    sequence = read_sequence(tmp_path / "out", hold_out_share="0.2")
    frame = load_frame(sequence, sequence.frames[7])
    assert frame.mask is not None
    background = frame.rgb[(frame.mask < 0.01).expand_as(frame.rgb)]
    assert float(background.min()) > 0.98
    # The middle of the head, where the pose puts it, is skin and not wall.
    pixel, _ = project_points(torch.zeros(1, 1, 3), sequence.frames[7].camera)
    x, y = pixel[0, 0].long().tolist()
    assert float(frame.mask[0, 0, y, x]) > 0.9


def _edit(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        data = json.loads((root / name).read_text())
        change(data)
        (root / name).write_text(json.dumps(data))

    return apply


def _track(**values: Any) -> Callable[[Path], None]:
    return lambda root: torch.save({**tracked(), **values}, root / "track_params.pt")


def _without_manifests(then: Callable[[Path], None]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        for path in root.glob("transforms_*.json"):
            path.unlink()
        then(root)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "track_params.pt").unlink(), "track_params.pt does not exist"),
        (_track(exp=torch.zeros(10, 79)), r"one row per tracked frame \(11\), got 10"),
        (_track(exp=torch.zeros(79)), "exp must be a matrix with one row per frame"),
        (_track(exp=torch.full((11, 79), torch.nan)), "exp must be finite"),
        (_without_manifests(_track(focal=torch.zeros(1))), "focal must be one positive number"),
        (_without_manifests(_track(euler=torch.zeros(11, 2))), r"euler must have shape \(11, 3\)"),
        (
            _edit("transforms_val.json", lambda data: data.update(cx=1.0)),
            "transforms_val.json: focal_len, cx and cy must be those of all files",
        ),
        (
            _edit("transforms_val.json", lambda data: data["frames"][0].update(img_id=3)),
            "img_id must not repeat",
        ),
        (
            _edit("transforms_train.json", lambda data: data.pop("focal_len")),
            "transforms_train.json: focal_len must be a number, got None",
        ),
        (lambda root: (root / "ori_imgs/7.jpg").unlink(), "ori_imgs has no file of the number 7"),
        (lambda root: (root / "parsing/7.png").unlink(), "parsing has no file of the number 7"),
        (lambda root: shutil.rmtree(root / "ori_imgs"), "ori_imgs: no such folder"),
    ],
)
def test_damaged_tracking_is_named_and_nothing_is_written(
    source: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(source)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plan_adnerf(source, tmp_path / "out", masks_from_parsing=True)
    assert not (tmp_path / "out").exists()


def test_missing_mattes_are_explained(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mask: no such folder; .* --masks-from-parsing"):
        plan_adnerf(source, tmp_path / "out")


def test_full_folders_are_not_written_into(source: Path) -> None:
    with pytest.raises(ValueError, match=r"must be an empty or new folder"):
        plan_adnerf(source, source)


def test_a_hostile_track_is_not_run(source: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was_here"
    (source / "track_params.pt").write_bytes(pickle.dumps({"exp": Hostile(marker)}))
    with pytest.raises(ValueError, match=r"track_params.pt"):
        plan_adnerf(source, tmp_path / "out")
    assert not marker.exists()


def test_numbers_tell_how_masks_belong_to_images() -> None:
    assert mask_offset([0, 1, 2], {0, 1, 2}) == 0
    assert mask_offset([0, 1, 2], {1, 2, 3}) == 1
    assert mask_offset([0, 1, 2], {0, 1, 2, 3}) == 1


def test_a_capture_with_a_rig_becomes_a_video(tmp_path: Path) -> None:
    rig = film_procedural_head(tmp_path / "rig")
    with pytest.raises(ValueError, match=r"camera must be one of 0, 1, 2, got None"):
        plan_rig_video(rig, tmp_path / "out")
    plan_rig_video(rig, tmp_path / "out", camera=2).write()
    video = read_sequence(tmp_path / "out")
    filmed = [record for record in rig.frames if record.camera_index == 2]
    assert len(video.frames) == len(filmed) == 5
    assert not (tmp_path / "out" / "parsing").exists()
    assert video.splits["test"].tolist() == [4]
    head, identity = rig.head, rig.pose[0].identity_coeffs
    skull = head.topology.regions["scalp"]
    rest = head.vertices(HeadPose(identity_coeffs=identity))[0, skull]
    rest = rest - head_center(head, identity)
    for record, original in zip(video.frames, filmed, strict=True):
        pose = rig.pose[original.timestep]
        still = pose.replace(expression_coeffs=None, jaw_pose=None, eye_pose=None)
        expected, _ = project_points(head.vertices(still)[:, skull], original.camera)
        pixels, _ = project_points(rest[None], record.camera)
        torch.testing.assert_close(pixels, expected, atol=2e-3, rtol=0)
        rgb, mask = load_colors(rig, original)
        ours = load_frame(video, record)
        torch.testing.assert_close(ours.mask[0], mask, atol=1 / 255, rtol=0)
        assert float((ours.rgb[0] - rgb).abs().mean()) < 0.02
    assert read_image_bytes(video.frames[0].image_path).shape == (3, 40, 40)

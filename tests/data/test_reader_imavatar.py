"""IMavatar's layout, written from pictures of the studio."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from studio_flame import StandInFlame, film_stand_in
from vultus.core.image_io import write_radiance
from vultus.data.check import check_capture
from vultus.data.readers import detect_format, load_frame, read_relight_truth, read_sequence
from vultus.data.sequence import HeadSequence
from vultus.data.studio.config import StudioConfig

CONFIG = StudioConfig(
    frames=6, rig="monocular", cameras=1, size=48, texture_size=128, samples=1, num_lights=16
)
CLIPS = {"MVI_1": range(0, 2), "MVI_2": range(2, 4), "MVI_3": range(4, 6)}
AXES = {
    "opengl": ((1.0, -1.0, -1.0), (-1.0, 1.0)),
    "opengl_unsigned": ((1.0, -1.0, -1.0), (1.0, 1.0)),
    "pytorch3d": ((-1.0, -1.0, 1.0), (-1.0, -1.0)),
    "opencv": ((1.0, 1.0, 1.0), (1.0, 1.0)),
}
"""Signs of the camera's axes against ours, and of the focal lengths that go with them."""


def write_clip(folder: Path, sequence: HeadSequence, moments: range, axes: str = "opengl") -> None:
    """Write one clip: the mesh is four times its size, numbers of files count from 1."""
    for name in ("image", "mask", "semantic"):
        (folder / name).mkdir(parents=True)
    signs, focal_signs = AXES[axes]
    frames = []
    for number, moment in enumerate(moments, start=1):
        record, pose = sequence.frames[moment], sequence.pose[moment]
        shutil.copy(record.image_path, folder / f"image/{number}.png")
        shutil.copy(record.mask_path, folder / f"mask/{number}.png")
        shutil.copy(record.parsing_path, folder / f"semantic/{number}.png")
        matrix = record.camera.world_to_camera[0].double() * torch.tensor([[*signs, 1.0]]).mT
        matrix[:3, 3] *= 4
        parts = (pose.global_rotation, pose.neck_pose, pose.jaw_pose, pose.eye_pose)
        frames.append(
            {
                "file_path": f"./image/{number}",
                "world_mat": matrix[:3].tolist(),
                "expression": pose.expression_coeffs[0].tolist(),
                "pose": torch.cat(parts, dim=1)[0].tolist(),
                "bbox": [-0.5, -0.5, 0.5, 0.5],
            }
        )
    focal = float(sequence.frames[0].camera.intrinsics[0, 0, 0]) / CONFIG.size
    data = {
        "intrinsics": [focal_signs[0] * focal, focal_signs[1] * focal, 0.5, 0.5],
        "shape_params": sequence.pose.identity_coeffs[0].tolist(),
        "frames": frames,
    }
    (folder / "flame_params.json").write_text(json.dumps(data))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    out = tmp_path_factory.mktemp("imavatar") / "studio"
    head = film_stand_in(CONFIG, out, "2020")
    return read_sequence(out, head=head)


@pytest.fixture(scope="module")
def written(filmed: HeadSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imavatar") / "anyone"
    for name, moments in CLIPS.items():
        write_clip(root / "anyone" / name, filmed, moments)
    return root


@pytest.fixture
def capture(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "capture")


def read(root: Path, **options: Any) -> HeadSequence:
    options = {"image_background": "white", **options}
    return read_sequence(root, head=StandInFlame("2020"), **options)


def test_the_format_is_found_from_any_level(written: Path) -> None:
    for root in (written, written / "anyone", written / "anyone/MVI_2", written.parent):
        assert detect_format(root) == "imavatar"
    assert len(read(written / "anyone/MVI_2", held_out=1).frames) == 2


@pytest.mark.parametrize("axes", AXES)
def test_cameras_poses_and_pictures_are_those_of_the_studio(
    filmed: HeadSequence, tmp_path: Path, axes: str
) -> None:
    write_clip(tmp_path / "clip", filmed, range(6), axes)
    sequence = read(tmp_path, held_out=2)
    torch.testing.assert_close(sequence.pose.identity_coeffs, filmed.pose.identity_coeffs)
    for field in ("expression_coeffs", "global_rotation", "neck_pose", "jaw_pose", "eye_pose"):
        torch.testing.assert_close(getattr(sequence.pose, field), getattr(filmed.pose, field))
    for mine, theirs in zip(sequence.frames, filmed.frames, strict=True):
        torch.testing.assert_close(mine.camera.intrinsics, theirs.camera.intrinsics)
        torch.testing.assert_close(mine.camera.world_to_camera, theirs.camera.world_to_camera)
        frame, other = load_frame(sequence, mine), load_frame(filmed, theirs)
        assert torch.equal(frame.rgb, other.rgb)
        assert torch.equal(frame.mask, other.mask)
        assert torch.equal(frame.semantics, other.semantics)
    assert check_capture(
        tmp_path, head=StandInFlame("2020"), held_out=2, image_background="white"
    ).warnings == ()  # fmt: skip


def test_intrinsics_may_be_pixels_of_a_512_image(capture: Path, filmed: HeadSequence) -> None:
    for path in capture.glob("*/*/flame_params.json"):
        data = json.loads(path.read_text())
        data["intrinsics"] = [512 * value for value in data["intrinsics"]]
        path.write_text(json.dumps(data))
    torch.testing.assert_close(
        read(capture).frames[0].camera.intrinsics, filmed.frames[0].camera.intrinsics
    )


def test_the_principal_point_may_lie_beside_a_cropped_picture(capture: Path) -> None:
    for path in capture.glob("*/*/flame_params.json"):
        data = json.loads(path.read_text())
        data["intrinsics"][2:] = [-0.25, 0.5]
        path.write_text(json.dumps(data))
    matrix = read(capture).frames[0].camera.intrinsics[0]
    assert matrix[:2, 2].tolist() == [-0.25 * CONFIG.size, 0.5 * CONFIG.size]
    assert float(matrix.diagonal().min()) > 0


def test_relit_pictures_belong_to_one_clip(written: Path, tmp_path: Path) -> None:
    """Numbers of pictures start again in every clip."""
    root = shutil.copytree(written / "anyone", tmp_path / "anyone")
    for folder in (root, root / "MVI_2"):
        (folder / "light.json").write_text(json.dumps({"train_env": None, "tests": ["b"]}))
        (folder / "envs").mkdir()
        write_radiance(folder / "envs/b.exr", torch.ones(3, 4, 8))
        (folder / "relight/b/images").mkdir(parents=True)
        shutil.copy(root / "MVI_2/image/2.png", folder / "relight/b/images")
    sequence = read(root / "MVI_2", held_out=1)
    truth = read_relight_truth(sequence)
    assert truth is not None
    assert [record.timestep for record in truth.relit(sequence.frames, "b")] == [1]
    with pytest.raises(ValueError, match="pictures must have names of their own"):
        read_relight_truth(read(root))


def test_ground_truth_belongs_to_one_clip(written: Path, tmp_path: Path) -> None:
    root = shutil.copytree(written / "anyone", tmp_path / "anyone")
    for folder in (root, root / "MVI_2"):
        (folder / "gt/albedo").mkdir(parents=True)
    own = root / "MVI_2/gt/albedo/2.png"
    shutil.copy(root / "MVI_2/image/2.png", own)
    known = [record for record in read(root).frames if record.albedo_path is not None]
    assert [(record.image_path, record.albedo_path) for record in known] == [
        (root / "MVI_2/image/2.png", own)
    ]
    shutil.copy(own, root / "gt/albedo/2.png")
    with pytest.raises(ValueError, match=r"gt/albedo/2\.png: pictures must have names of their"):
        read(root)


def _test_moments(sequence: HeadSequence) -> list[int]:
    return sequence.splits["test"].tolist()


def test_clips_or_frames_at_the_end_are_held_out(written: Path) -> None:
    assert _test_moments(read(written)) == [4, 5]
    assert _test_moments(read(written, test_clips="MVI_1, MVI_3")) == [0, 1, 4, 5]
    assert _test_moments(read(written / "anyone/MVI_2", held_out=1)) == [1]
    for root, options, message in (
        (written, {"test_clips": "MVI_9"}, "test_clips must be of MVI_1, MVI_2, MVI_3"),
        (written, {"test_clips": "MVI_1,MVI_2,MVI_3"}, "split 'train' is empty"),
        (written, {"held_out": 2}, "option held_out is for one clip"),
        (written, {"held_out": -2}, "held_out must not be negative"),
        (written / "anyone/MVI_2", {}, "when the last 350 are held out"),
    ):
        with pytest.raises(ValueError, match=message):
            read(root, **options)


def test_clips_without_masks_and_labels_are_read(capture: Path) -> None:
    for name in ("mask", "semantic"):
        for folder in capture.glob(f"*/*/{name}"):
            shutil.rmtree(folder)
    frame = load_frame(read(capture), read(capture).frames[0])
    assert frame.mask is None
    assert frame.semantics is None


def _edited(**values: Any) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "anyone/MVI_2/flame_params.json"
        data = json.loads(path.read_text())
        path.write_text(json.dumps({**data, **values}))

    return damage


def _frame(values: Mapping[str, Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "anyone/MVI_2/flame_params.json"
        data = json.loads(path.read_text())
        data["frames"][1].update(values)
        path.write_text(json.dumps(data))

    return damage


def _garbage(root: Path) -> None:
    (root / "anyone/MVI_2/flame_params.json").write_bytes(b"\x00\xff")


def _no_mask(root: Path) -> None:
    (root / "anyone/MVI_2/mask/2.png").unlink()


MIRROR = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4]]


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_garbage, ValueError, "not JSON"),
        (_no_mask, FileNotFoundError, r"mask/2\.png does not exist, though"),
        (_edited(shape_params=[0.5] * 100), ValueError, "shape_params must be those of"),
        (_edited(shape_params=None), ValueError, "shape_params must be a list of numbers"),
        (_edited(intrinsics=[1, 2, 3]), ValueError, "intrinsics must be fx, fy, cx, cy"),
        (_edited(intrinsics=[0, 1, 0.5, 0.5]), ValueError, "intrinsics must be fx, fy, cx, cy"),
        (_edited(frames={}), ValueError, "a list 'frames'"),
        (_frame({"file_path": "./image/9"}), FileNotFoundError, r"image/9\.png does not exist"),
        (_frame({"file_path": 4}), ValueError, "file_path must be a path, got 4"),
        (_frame({"world_mat": [[1, 2]]}), ValueError, "world_mat must be a 3x4 or 4x4 matrix"),
        (_frame({"world_mat": MIRROR}), ValueError, "mirror the picture"),
        (
            _frame({"world_mat": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -4]]}),
            ValueError,
            "world_mat must be rigid",
        ),
        (_frame({"pose": [0.0] * 14}), ValueError, "pose must have 15 numbers, got 14"),
        (_frame({"expression": [0.0] * 49}), ValueError, "expression_coeffs must have size 50"),
        (_frame({"expression": [float("inf")] * 50}), ValueError, "expression must be finite"),
    ],
)
def test_damaged_folders_are_refused_in_one_line(
    capture: Path, damage: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    damage(capture)
    with pytest.raises(error, match=message) as caught:
        read_sequence(capture, "imavatar", head=StandInFlame("2020"))
    assert "MVI_2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_clips_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no flame_params\.json up to 3 folders below"):
        read_sequence(tmp_path, "imavatar", head=StandInFlame("2020"))

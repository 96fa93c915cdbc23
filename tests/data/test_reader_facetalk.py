"""FaceTalk's layout, written from pictures of the studio."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from studio_flame import StandInFlame, film_stand_in
from vultus.cli.main import run
from vultus.core.image_io import write_image
from vultus.data.check import check_capture
from vultus.data.readers import detect_format, load_frame, read_sequence
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.data.studio.config import StudioConfig

CONFIG = StudioConfig(
    frames=6, rig="monocular", cameras=1, size=48, texture_size=128, samples=1, num_lights=16
)
CORPORA = {"sentence02": range(0, 2), "mouth_open": range(2, 4), "sentence01": range(4, 6)}
"""Moments of the filming by the folder they go to."""
ORDER = [4, 5, 0, 1, 2, 3]
"""Moments in the order of the reader: training folders by name, then the held-out one."""


def write_corpus(folder: Path, sequence: HeadSequence, moments: range) -> None:
    """Write one folder: our camera becomes one with x to the left and y up."""
    records = [record for record in sequence.frames if record.timestep in moments]
    for name in ("images", "masks", "normals"):
        (folder / name).mkdir(parents=True)
    frames = []
    for number, record in enumerate(records):
        _copy(record, folder, f"{number:05d}.png")
        pose = sequence.pose[record.timestep]
        parts = (pose.global_rotation, pose.neck_pose, pose.jaw_pose, pose.eye_pose)
        frames.append(
            {
                "file_path": f"images/{number:05d}" + (".png" if number else ""),
                "pose": torch.cat(parts, dim=1).tolist(),
                "expression": pose.expression_coeffs.tolist(),
            }
        )
    camera = records[0].camera
    matrix = camera.world_to_camera[0].double()
    matrix[:2] *= -1.0
    focal = float(camera.intrinsics[0, 0, 0])
    data = {
        "intrinsics": [-2 * focal / camera.width, 2 * focal / camera.height, 0.5, 0.5],
        "cam": matrix[:3].tolist(),
        "shape": sequence.pose.identity_coeffs[0].tolist(),
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(data))


def _copy(record: FrameRecord, folder: Path, name: str) -> None:
    shutil.copy(record.image_path, folder / "images" / name)
    shutil.copy(record.mask_path, folder / "masks" / name)
    shutil.copy(record.normal_path, folder / "normals" / name)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    out = tmp_path_factory.mktemp("facetalk") / "studio"
    head = film_stand_in(CONFIG, out, "2020")
    return read_sequence(out, head=head)


@pytest.fixture(scope="module")
def written(filmed: HeadSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("facetalk") / "any_name"
    for name, moments in CORPORA.items():
        write_corpus(root / name, filmed, moments)
    return root


@pytest.fixture
def capture(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "capture")


def read(root: Path, **options: Any) -> HeadSequence:
    return read_sequence(root, head=StandInFlame("2020"), **options)


def test_the_format_is_told_by_the_manifests(written: Path) -> None:
    assert detect_format(written) == "facetalk"


def test_splits_follow_the_published_folders_and_validation_is_not_training(written: Path) -> None:
    sequence = read(written)
    names = {
        split: {sequence.frames[int(i)].image_path.parts[-3] for i in indices}
        for split, indices in sequence.splits.items()
    }
    assert names == {"train": {"sentence01", "sentence02"}, "val": set(), "test": {"mouth_open"}}
    assert [record.timestep for record in sequence.frames] == list(range(6))


def test_cameras_poses_and_pictures_are_those_of_the_studio(
    written: Path, filmed: HeadSequence
) -> None:
    sequence = read(written, image_background="white")
    torch.testing.assert_close(sequence.pose.identity_coeffs, filmed.pose.identity_coeffs)
    for field in ("expression_coeffs", "global_rotation", "neck_pose", "jaw_pose", "eye_pose"):
        found, given = getattr(sequence.pose, field), getattr(filmed.pose, field)
        torch.testing.assert_close(found, given[ORDER])
    assert float(filmed.pose.jaw_pose.abs().max() + filmed.pose.neck_pose.abs().max()) > 0.01
    for record, moment in zip(sequence.frames, ORDER, strict=True):
        other = filmed.frames[[r.timestep for r in filmed.frames].index(moment)]
        assert record.camera_index == 0
        torch.testing.assert_close(record.camera.intrinsics, other.camera.intrinsics)
        torch.testing.assert_close(record.camera.world_to_camera, other.camera.world_to_camera)
        mine, theirs = load_frame(sequence, record), load_frame(filmed, other)
        assert torch.equal(mine.rgb, theirs.rgb)
        assert torch.equal(mine.mask, theirs.mask)
        torch.testing.assert_close(mine.normals, theirs.normals)


def test_the_check_finds_nothing_wrong(written: Path) -> None:
    report = check_capture(written, head=StandInFlame("2020"))
    assert report.errors == ()
    assert report.warnings == ()
    assert report.facts["train"] == "4"
    assert report.facts["beside every image"] == "masks, normals"


def test_a_mesh_beside_its_mask_is_noticed(capture: Path) -> None:
    for path in capture.glob("*/transforms.json"):
        data = json.loads(path.read_text())
        data["cam"][0][3] += 0.1
        path.write_text(json.dumps(data))
    (warning,) = check_capture(capture, head=StandInFlame("2020")).warnings
    assert "of the mesh in view falls onto the mask" in warning


def test_the_command_names_the_model_that_is_missing(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ["--options", "head_file", str(tmp_path / "none.safetensors")]
    assert run(["data", "check", str(written), "--dry-run", *missing]) == 2
    assert "no converted FLAME model there" in " ".join(capsys.readouterr().err.split())


def test_other_cameras_get_other_numbers(capture: Path) -> None:
    path = capture / "sentence02" / "transforms.json"
    data = json.loads(path.read_text())
    data["cam"][2][3] += 0.05
    path.write_text(json.dumps(data))
    assert [record.camera_index for record in read(capture).frames] == [0, 0, 1, 1, 0, 0]


def test_corpora_without_masks_and_normals_are_read(capture: Path) -> None:
    for name in ("masks", "normals"):
        for folder in capture.glob(f"*/{name}"):
            shutil.rmtree(folder)
    frame = load_frame(read(capture), read(capture).frames[0])
    assert frame.mask is None
    assert frame.normals is None


def test_resolution_scales_the_camera(written: Path) -> None:
    record = read(written, resolution=2).frames[0]
    assert (record.camera.width, record.file_size) == (24, (48, 48))


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "sentence02" / "transforms.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return damage


def _no_mask(root: Path) -> None:
    (root / "sentence02/masks/00001.png").unlink()


def _no_image(root: Path) -> None:
    (root / "sentence02/images/00001.png").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_no_image, FileNotFoundError, r"frames\[1\]\.file_path: .*00001\.png does not exist"),
        (_no_mask, FileNotFoundError, r"masks/00001\.png does not exist, though"),
        (_edited(lambda d: d.pop("cam")), ValueError, "must have intrinsics, cam and shape"),
        (_edited(lambda d: d.update(cam=[[1, 2]])), ValueError, "cam must be a 3x4 or 4x4 matrix"),
        (_edited(lambda d: d.update(cam="x")), ValueError, "cam must be a list of numbers"),
        (_edited(lambda d: d["cam"][0].__setitem__(0, 2.0)), ValueError, "cam must be rigid"),
        (_edited(lambda d: d["intrinsics"].__setitem__(0, 1.0)), ValueError, "negative focal"),
        (_edited(lambda d: d["shape"].__setitem__(0, 9.0)), ValueError, "one subject"),
        (_edited(lambda d: d["frames"][1].update(pose=[[0.0] * 14])), ValueError, "15 numbers"),
        (_edited(lambda d: d["frames"][1].pop("expression")), ValueError, "list of numbers"),
        (
            _edited(lambda d: d["frames"][1].update(expression=[[0.0] * 100])),
            ValueError,
            "expression_coeffs must have size 50",
        ),
        (
            _edited(lambda d: d["frames"][1]["pose"][0].__setitem__(0, float("nan"))),
            ValueError,
            r"pose must be finite",
        ),
    ],
)
def test_damaged_folders_are_refused_in_one_line(
    capture: Path, damage: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    damage(capture)
    with pytest.raises(error, match=message) as caught:
        read_sequence(capture, "facetalk", head=StandInFlame("2020"))
    assert "sentence02" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_for_testing_alone_are_refused(capture: Path, tmp_path: Path) -> None:
    for name in ("sentence01", "sentence02"):
        shutil.rmtree(capture / name)
    with pytest.raises(ValueError, match="split 'train' is empty"):
        read(capture)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder in it has a transforms.json"):
        read_sequence(tmp_path / "empty", "facetalk", head=StandInFlame("2020"))


def test_a_picture_of_another_size_is_named(capture: Path) -> None:
    write_image(capture / "sentence01/masks/00000.png", torch.ones(1, 48, 40))
    report = check_capture(capture, head=StandInFlame("2020"))
    assert any("sentence01/masks/00000.png" in error for error in report.errors)

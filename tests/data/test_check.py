import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes import FakeHead
from vultus.core.image_io import image_size, read_image, write_image
from vultus.data.check import check_capture, sample_records
from vultus.data.check_sheet import draw_check_sheet
from vultus.data.studio.capture import film
from vultus.data.studio.config import StudioConfig
from vultus.data.studio.subject import Subject, plain_appearance

CONFIG = StudioConfig(frames=4, cameras=3, size=48, samples=1, num_lights=16, test_share=0.25)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> Path:
    head = FakeHead(rings=16, segments=24)
    out = tmp_path_factory.mktemp("check") / "capture"
    film(CONFIG, out, subject=Subject(head, None, plain_appearance(head, 0, 32)))
    return out


@pytest.fixture
def capture(filmed, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(filmed, tmp_path / "capture")


def check(root: Path):
    return check_capture(root, head=FakeHead(rings=16, segments=24))


def edit_frames(root: Path, change) -> None:
    for path in root.glob("transforms*.json"):
        data = json.loads(path.read_text())
        for frame in data["frames"]:
            change(frame)
        path.write_text(json.dumps(data))


def test_a_sound_capture_has_no_errors_and_no_warnings(capture):
    report = check(capture)
    assert report.errors == ()
    assert report.warnings == ()
    assert report.facts["images"] == "12"
    assert report.facts["train"] == "6"
    assert report.facts["cameras"] == "3"
    assert report.facts["beside every image"] == "masks, normals, depth, albedo, semantics"


def test_every_damaged_file_is_listed(capture):
    write_image(capture / "fg_masks/00000_00.png", torch.zeros(1, 48, 48))
    write_image(capture / "normals/00001_00.png", torch.zeros(3, 48, 40))
    (capture / "images/00002_00.png").write_bytes(b"")
    np.savez(capture / "depth/00003_00.npz", depth=np.full((48, 48), np.nan, np.float32))
    text = "\n".join(check(capture).errors)
    assert "fg_masks/00000_00.png: mask is empty" in text
    assert "normals/00001_00.png: must have the camera's size 48 x 48, got 40 x 48" in text
    assert "images/00002_00.png: not a readable PNG or JPEG" in text
    assert "depth/00003_00.npz: depth must be finite" in text
    assert len(check(capture).errors) == 4


def test_an_unreadable_folder_is_one_error(tmp_path):
    report = check_capture(tmp_path / "nowhere")
    assert report.sequence is None
    assert len(report.errors) == 1
    with pytest.raises(ValueError, match="no sheet without a readable capture"):
        draw_check_sheet(report, tmp_path / "sheet.png")


def test_a_folder_that_is_not_there_is_said_to_be_that(tmp_path):
    assert check_capture(tmp_path / "none").errors == (f"{tmp_path / 'none'}: no such folder",)


def test_centimetres_are_noticed(capture):
    def to_centimetres(frame):
        for row in frame["transform_matrix"][:3]:
            row[3] *= 100

    edit_frames(capture, to_centimetres)
    assert any("from the head; units should be metres" in w for w in check(capture).warnings)


def test_cameras_that_do_not_fit_the_images_are_noticed(capture):
    edit_frames(capture, lambda frame: frame.update(cx=frame["cx"] + 20))
    assert any("may not belong together" in w for w in check(capture).warnings)


def test_missing_splits_and_repeated_frames_are_noticed(capture):
    train = json.loads((capture / "transforms_train.json").read_text())
    (capture / "transforms_test.json").unlink()
    (capture / "transforms_val.json").write_text(json.dumps(train))
    assert any("may be among the training frames" in w for w in check(capture).warnings)
    (capture / "transforms_val.json").unlink()
    assert any("no frame is held out" in w for w in check(capture).warnings)


def test_samples_vary_in_time_and_camera(capture):
    records = sample_records(check(capture).sequence, 6)
    assert len({record.timestep for record in records}) >= 3
    assert len({record.camera_index for record in records}) >= 2


def test_the_sheet_shows_mesh_and_mask_edge_on_the_image(capture, tmp_path):
    draw_check_sheet(check(capture), tmp_path / "sheet.png")
    assert image_size(tmp_path / "sheet.png") == (1280, 1280)
    tile = read_image(tmp_path / "sheet.png")[:, :320, :320]
    mesh = (tile - torch.tensor([0, 200, 255])[:, None, None] / 255).abs().amax(dim=0) < 0.01
    edge = (tile - torch.tensor([255, 60, 40])[:, None, None] / 255).abs().amax(dim=0) < 0.01
    assert int(mesh[:, :160].sum()) > 200
    assert int(mesh[:, 165:].sum()) == 0
    assert int(edge.sum()) > 30

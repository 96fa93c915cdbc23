"""The studio's videos of one head: what a reader without the rig sees is what was filmed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fakes import FakeHead
from vultus.core.exr_io import read_exr
from vultus.core.image_io import read_image_bytes
from vultus.data.check import check_capture
from vultus.data.driving import capture_driver, drive
from vultus.data.readers import load_frame, read_sequence
from vultus.data.relighting import light_to_world
from vultus.data.sequence import HeadSequence
from vultus.data.studio.capture import film, plan_film
from vultus.data.studio.config import PRESETS, StudioConfig
from vultus.data.studio.rigs import head_center
from vultus.data.studio.scene import Scene, build_scene
from vultus.data.studio.subject import Subject, plain_appearance
from vultus.geometry.cameras import project_points
from vultus.heads.base import HeadPose
from vultus.heads.expression_track import ExpressionTrack
from vultus.heads.face_motion import face_coeff_names, face_coeffs
from vultus.render.lighting.envmap import EnvironmentMap, envmap_directions, sample_envmap

CONFIG = StudioConfig(
    frames=8,
    rig="monocular",
    cameras=1,
    size=96,
    texture_size=128,
    samples=1,
    num_lights=16,
    test_share=0.25,
    turn_around=4,
)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "capture"
    assert film(CONFIG, out, layout="nerf_blendshape") == CONFIG.frames
    return out


@pytest.fixture(scope="module")
def sequence(filmed: Path) -> HeadSequence:
    return read_sequence(filmed)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return build_scene(CONFIG)


def test_points_of_the_skull_fall_onto_the_same_pixels(
    sequence: HeadSequence, scene: Scene
) -> None:
    """Head turns went into the cameras, also those of a subject that turns its back to us."""
    head, identity = scene.subject.head, scene.subject.identity
    skull = head.topology.regions["scalp"]
    rest = head.vertices(HeadPose(identity_coeffs=identity))[0, skull]
    in_head = rest - head_center(head, identity)
    for record in sequence.frames:
        pose = scene.pose[record.timestep]
        still = pose.replace(expression_coeffs=None, jaw_pose=None, eye_pose=None)
        expected, depth = project_points(head.vertices(still)[:, skull], scene.cameras[0])
        pixels, z = project_points(in_head[None], record.camera)
        torch.testing.assert_close(pixels, expected, atol=2e-3, rtol=0)
        torch.testing.assert_close(z, depth, atol=1e-5, rtol=0)


def test_expression_vectors_hold_all_that_moves_the_face(
    sequence: HeadSequence, scene: Scene
) -> None:
    head = scene.subject.head
    expected = face_coeffs(head, scene.pose)
    torch.testing.assert_close(sequence.pose.expression_coeffs, expected)
    assert sequence.expression_names == face_coeff_names(head)
    assert sequence.head.version == str(expected.shape[1])
    assert float(expected.abs().max()) > 0.05


def test_pictures_masks_and_splits_come_back(filmed: Path, sequence: HeadSequence) -> None:
    assert sequence.splits["test"].tolist() == [6, 7]
    record = sequence.frames[2]
    assert record.image_path.name == "2.jpg"
    assert record.mask_path == filmed / "mask" / "3.png"
    frame = load_frame(sequence, record)
    assert frame.mask is not None
    outside = (frame.mask[0, 0] == 0).nonzero()
    rgb = read_image_bytes(record.image_path)
    assert int(rgb[:, outside[:, 0], outside[:, 1]].float().mean()) >= 254
    assert 0.1 < float(frame.mask.mean()) < 0.9
    assert check_capture(filmed).errors == ()


def test_parsing_separates_head_neck_and_torso(filmed: Path, sequence: HeadSequence) -> None:
    parsing = read_image_bytes(filmed / "parsing" / "6.png")
    rows = {}
    for name, color in {"head": (0, 0, 255), "neck": (0, 255, 0), "torso": (255, 0, 0)}.items():
        is_part = (parsing == torch.tensor(color, dtype=torch.uint8)[:, None, None]).all(dim=0)
        rows[name] = is_part.nonzero()[:, 0].float().mean()
    assert rows["head"] < rows["neck"] < rows["torso"]
    head_only = read_sequence(filmed, head_only="true")
    cut = load_frame(head_only, head_only.frames[6]).mask
    whole = load_frame(sequence, sequence.frames[6]).mask
    assert cut is not None
    assert whole is not None
    assert bool((whole[cut > 0] > 0).all())
    assert 0.2 < float(cut.sum() / whole.sum()) < 0.9


def test_a_stopped_filming_goes_on(filmed: Path) -> None:
    path = filmed / "mask" / "4.png"
    before = path.read_bytes()
    path.unlink()
    assert film(CONFIG, filmed, layout="nerf_blendshape") == 1
    assert path.read_bytes() == before


def test_one_folder_holds_one_layout(filmed: Path) -> None:
    with pytest.raises(ValueError, match=r"holds another filming: format is 'vultus-studio-video"):
        plan_film(CONFIG, filmed)


def test_several_cameras_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = replace(CONFIG, rig="dome", cameras=3)
    with pytest.raises(ValueError, match=r"layout nerf_blendshape has one camera, got 3; film"):
        film(config, tmp_path / "new", layout="nerf_blendshape")
    assert not (tmp_path / "new").exists()


def test_a_head_of_one_joint_is_filmed_too(tmp_path: Path) -> None:
    head = FakeHead(rings=16, segments=24)
    subject = Subject(head, torch.tensor([[0.4]]), plain_appearance(head, 0, 64))
    film(CONFIG, tmp_path / "fake", subject=subject, layout="nerf_blendshape")
    sequence = read_sequence(tmp_path / "fake")
    assert sequence.expression_names == ("jawOpen", "mouthSmile_L")


def test_the_preset_for_videos_has_a_thousand_frames_and_a_tenth_held_out() -> None:
    config = PRESETS["video"]
    assert (config.frames, config.cameras, config.num_test_frames) == (1000, 1, 100)


def test_published_readers_find_their_keys(filmed: Path) -> None:
    data = json.loads((filmed / "transforms.json").read_text())
    assert {"h", "w", "fx", "fy", "cx", "cy", "frames"} <= data.keys()
    assert set(data["frames"][0]) == {"img_id", "transform_matrix", "exp_ori"}
    assert not (filmed / "rig.json").exists()


def test_a_video_drives_heads_of_the_same_coefficients(sequence: HeadSequence) -> None:
    coeffs = sequence.pose.expression_coeffs
    assert coeffs is not None
    driver = capture_driver(sequence).select(3, stride=2)
    played = drive(driver, sequence.head, sequence.pose).pose.expression_coeffs
    assert played is not None
    assert torch.equal(played, coeffs[[0, 2, 4]])
    unnamed = ExpressionTrack(coeffs.shape[1] + 1)
    with pytest.raises(ValueError, match=r"'expression' shares no expression with the motion"):
        drive(driver, unnamed, HeadPose(expression_coeffs=torch.zeros(1, coeffs.shape[1] + 1)))


def test_an_own_neutral_is_kept_when_a_video_drives(sequence: HeadSequence) -> None:
    """x becomes own neutral + (x - neutral): what one subject's tracker calls rest is not zero."""
    coeffs = sequence.pose.expression_coeffs
    assert coeffs is not None
    own = HeadPose(expression_coeffs=coeffs + 0.3)
    driver = capture_driver(sequence)
    played = drive(driver, sequence.head, own, rebasing="expression", neutral=1, own_neutral=1)
    torch.testing.assert_close(played.pose.expression_coeffs, own.expression_coeffs)


def test_the_light_stands_still_for_the_camera_that_moves_about_the_head(
    filmed: Path, sequence: HeadSequence, scene: Scene
) -> None:
    assert sequence.light_space == "camera_opengl"
    light = EnvironmentMap(read_exr(filmed / "light.exr"))
    studio = light_to_world(scene.cameras[0], "camera_opengl")[0]
    ways = envmap_directions(8, 16).reshape(1, -1, 3)
    found = sample_envmap(light.radiance[None], ways)
    expected = sample_envmap(scene.light.radiance[None], ways @ studio.float().T)
    assert float((found - expected).abs().mean()) < 0.03 * float(expected.mean())
    turns = [light_to_world(record.camera, sequence.light_space)[0] for record in sequence.frames]
    # The cosine of an angle from its rotation's trace: the head turns around once.
    assert min(float((turns[0].T @ turn).trace() - 1) / 2 for turn in turns) < -0.9
    assert not check_capture(filmed).errors

import logging

import numpy as np
import pytest
import torch

from fakes import FakeHead
from vultus.data.studio.performance import Performance, load_arkit_performance, talking, turns
from vultus.data.studio.tracks import build_track, perform, rest_pose, turn_around
from vultus.heads.base import ParameterSpec
from vultus.heads.blendshapes import ARKIT_NAMES
from vultus.heads.expression_track import ExpressionTrack


class JointHead(FakeHead):
    """A rig as FLAME is: joints for neck, jaw and eyes, and nameless expressions."""

    parameters_spec = (
        ParameterSpec("expression_coeffs", 3),
        ParameterSpec("global_rotation", 3),
        ParameterSpec("neck_pose", 3),
        ParameterSpec("jaw_pose", 3),
        ParameterSpec("eye_pose", 6),
        ParameterSpec("static_offset", 9, is_static=True),
    )
    expression_names = ("expression_000", "expression_001", "expression_002")


def test_talking_depends_on_the_seed_alone():
    first, second, other = talking(50, 3), talking(50, 3), talking(50, 4)
    torch.testing.assert_close(first.weights, second.weights, atol=0, rtol=0)
    torch.testing.assert_close(first.head_rotation, second.head_rotation, atol=0, rtol=0)
    assert (first.weights - other.weights).abs().max() > 0.1


def test_two_seconds_of_talking_move_lips_lids_gaze_and_head():
    take = talking(50, 0)
    peak = dict(zip(ARKIT_NAMES, take.weights.amax(dim=0).tolist(), strict=True))
    assert peak["jawOpen"] > 0.25
    assert peak["eyeBlinkLeft"] > 0.9
    assert peak["eyeBlinkLeft"] == peak["eyeBlinkRight"]
    assert max(peak["eyeLookOutLeft"], peak["eyeLookInLeft"]) > 0.05
    assert take.head_rotation[:, 1].abs().max() > 0.1
    assert take.weights.min() >= 0
    assert take.weights.max() <= 1


def test_talking_is_continuous():
    take = talking(100, 1)
    lids_and_gaze = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith("eye")]
    mouth = [i for i in range(len(ARKIT_NAMES)) if i not in lids_and_gaze]
    assert take.weights[:, mouth].diff(dim=0).abs().max() < 0.7
    assert take.head_rotation.diff(dim=0).abs().max() < 0.06


def test_turns_go_both_ways_and_return():
    take = turns(101, yaw=0.7, pitch=0.3)
    yaw, pitch = take.head_rotation[:, 1], take.head_rotation[:, 0]
    torch.testing.assert_close(yaw.max(), torch.tensor(0.7), atol=2e-3, rtol=0)
    torch.testing.assert_close(yaw.min(), torch.tensor(-0.7), atol=2e-3, rtol=0)
    torch.testing.assert_close(pitch.max(), torch.tensor(0.3), atol=2e-3, rtol=0)
    torch.testing.assert_close(take.head_rotation[::50], torch.zeros(3, 3), atol=1e-5, rtol=0)


def test_perform_puts_shapes_by_name_and_logs_the_rest(caplog):
    take = Performance(
        ("tongueOut", "mouthSmileLeft", "jawOpen"),
        torch.tensor([[0.9, 0.2, 0.4]]),
        torch.tensor([[0.0, 0.3, 0.0]]),
        25.0,
    )
    with caplog.at_level(logging.INFO):
        pose = perform(take, FakeHead())
    torch.testing.assert_close(pose.expression_coeffs, torch.tensor([[0.4, 0.2]]))
    torch.testing.assert_close(pose.global_rotation, torch.tensor([[0.0, 0.3, 0.0]]))
    assert "no shape for tongueOut" in caplog.text


def test_perform_turns_joints_where_shapes_are_missing():
    names = ("jawOpen", "eyeLookUpLeft", "eyeLookOutRight")
    take = Performance(names, torch.tensor([[1.0, 0.5, 0.8]]), torch.tensor([[0.1, 0, 0]]), 25.0)
    pose = perform(take, JointHead())
    torch.testing.assert_close(pose.jaw_pose, torch.tensor([[0.35, 0.0, 0.0]]))
    torch.testing.assert_close(pose.eye_pose, torch.tensor([[-0.25, 0, 0, 0, -0.4, 0]]))
    torch.testing.assert_close(pose.neck_pose, torch.tensor([[0.1, 0.0, 0.0]]))
    torch.testing.assert_close(pose.global_rotation, torch.zeros(1, 3))
    assert pose.static_offset is None


def test_expressions_show_every_shape_at_its_peak():
    coeffs = build_track("expressions", FakeHead(), 10, seed=0).expression_coeffs
    assert (coeffs[:5, 1] == 0).all()
    assert (coeffs[5:, 0] == 0).all()
    torch.testing.assert_close(coeffs.amax(dim=0), torch.ones(2))
    short = build_track("expressions", FakeHead(), 2, seed=0).expression_coeffs
    torch.testing.assert_close(short, torch.eye(2))


def test_recorded_sequence_drives_by_name(data_dir):
    path = data_dir / "lam_avatar/arkit_sequence.npz"
    pose = build_track("arkit", FakeHead(), 20, seed=0, arkit_path=path, stride=3)
    with np.load(path) as file:
        column = file["names"].tolist().index("jawOpen")
        expected = torch.from_numpy(file["weights"][:60:3, column].astype(np.float32))
        rotation = torch.from_numpy(file["head_pose"][:60:3])
    torch.testing.assert_close(pose.expression_coeffs[:, 0], expected)
    torch.testing.assert_close(pose.global_rotation, rotation)


def test_recorded_names_map_to_ict_as_its_authors_say(data_dir):
    path = data_dir / "lam_avatar/arkit_sequence.npz"
    with np.load(path) as file:
        names = tuple(file["ict_names"].tolist())
        expected = torch.from_numpy(file["weights"][:9].astype(np.float32) @ file["arkit_to_ict"])

    class IctNamedHead(FakeHead):
        expression_names = names
        parameters_spec = (ParameterSpec("expression_coeffs", len(names)),)

    pose = build_track("arkit", IctNamedHead(), 9, seed=0, arkit_path=path)
    torch.testing.assert_close(pose.expression_coeffs, expected)


def test_a_recording_that_is_too_short_is_refused(data_dir):
    path = data_dir / "lam_avatar/arkit_sequence.npz"
    with pytest.raises(ValueError, match="needs 1999 for 1000 frames at stride 2 from frame 0"):
        load_arkit_performance(path, 1000, stride=2)


def test_a_part_of_a_recording_can_be_taken(data_dir):
    path = data_dir / "lam_avatar/arkit_sequence.npz"
    whole = load_arkit_performance(path, 300)
    part = load_arkit_performance(path, 5, stride=3, start=100)
    torch.testing.assert_close(part.weights, whole.weights[100:113:3])
    with pytest.raises(ValueError, match="needs 974 for 1 frames at stride 1 from frame 973"):
        load_arkit_performance(path, 1, start=973)


def test_a_file_that_is_no_recording_is_named(tmp_path):
    path = tmp_path / "song.npz"
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"song\.npz: not an ARKit sequence"):
        load_arkit_performance(path, 1)
    with pytest.raises(FileNotFoundError, match=r"other\.npz: no ARKit sequence here"):
        load_arkit_performance(tmp_path / "other.npz", 1)


def test_arkit_track_needs_its_file():
    with pytest.raises(ValueError, match="needs arkit_path"):
        build_track("arkit", FakeHead(), 3, seed=0)


def test_frames_must_be_positive():
    with pytest.raises(ValueError, match="frames must be positive, got 0"):
        build_track("neutral", FakeHead(), 0, seed=0)


def test_a_turn_shows_every_side_once_and_leaves_the_rest_alone():
    pose = rest_pose(JointHead(), 6)
    pose = pose.replace(global_rotation=torch.full((6, 3), 0.1))
    turned = turn_around(pose, 4).global_rotation
    assert turned is not None
    quarter = torch.pi / 2
    torch.testing.assert_close(
        turned[:4, 1].cos(), torch.tensor([1.0, 0.0, -1.0, 0.0]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(turned[1::2, 1][:2], torch.tensor([quarter, -quarter]))
    assert not turned[:4, [0, 2]].any()
    torch.testing.assert_close(turned[4:], torch.full((2, 3), 0.1))
    assert turn_around(pose, 0) is pose


def test_a_turn_longer_than_the_track_is_refused():
    with pytest.raises(ValueError, match="turn_around needs a head with global_rotation and 7"):
        turn_around(rest_pose(JointHead(), 6), 7)


def test_nobody_plays_on_coefficients_without_names():
    with pytest.raises(ValueError, match=r"'expression' 46 cannot play a performance"):
        build_track("talking", ExpressionTrack(46), 3, seed=0)
    named = ExpressionTrack(2, ["jawOpen", "tongueOut"])
    track = build_track("talking", named, 50, seed=0)
    assert float(track.expression_coeffs[:, 0].max()) > 0.25

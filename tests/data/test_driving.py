"""Captures and FLAME files as drivers of another subject."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from studio_flame import StandInFlame, film_stand_in
from tolerances import assert_close
from vultus.data.driving import capture_driver, drive, flame_driver, is_flame_track
from vultus.data.flame_tracks import write_flame_track
from vultus.data.readers import read_sequence
from vultus.data.sequence import HeadSequence
from vultus.data.studio.config import StudioConfig
from vultus.heads.base import HeadPose

CONFIG = StudioConfig(
    frames=6, cameras=3, size=32, texture_size=128, samples=1, num_lights=16, test_share=0.4
)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    out = tmp_path_factory.mktemp("driver") / "capture"
    return read_sequence(out, head=film_stand_in(CONFIG, out))


def subject(head: StandInFlame) -> HeadPose:
    """Another person, standing and resting elsewhere; three moments."""
    identity = torch.zeros(1, 300)
    identity[0, 0] = -1.0
    expression = torch.zeros(3, 100)
    expression[:, 1] = 0.3
    return HeadPose(
        identity_coeffs=identity,
        expression_coeffs=expression,
        global_rotation=torch.tensor([[0.0, 0.4, 0.0]]).expand(3, -1),
        neck_pose=torch.zeros(3, 3),
        jaw_pose=torch.zeros(3, 3),
        eye_pose=torch.zeros(3, 6),
        translation=torch.tensor([[0.1, 0.0, 0.5]]).expand(3, -1),
        static_offset=torch.zeros(1, head.neutral.shape[0], 3),
    )


def test_all_splits_drive_in_the_order_of_time(capture: HeadSequence) -> None:
    driver = capture_driver(capture)
    assert driver.moments == tuple(range(6))
    assert len(capture.splits["test"]) > 0
    assert torch.equal(driver.motion.neck_pose, capture.pose.neck_pose)
    some = driver.select(2, stride=3)
    assert some.moments == (0, 3)
    assert torch.equal(some.motion.neck_pose, capture.pose.neck_pose[[0, 3]])
    assert [record.timestep for record in some.records(2)] == [0, 3]
    assert {record.camera_index for record in some.records(2)} == {2}
    with pytest.raises(ValueError, match=r"camera 9 must show every moment, it lacks 0"):
        some.records(9)


def test_a_better_track_of_the_capture_may_drive(capture: HeadSequence) -> None:
    track = capture.pose.replace(neck_pose=torch.full((6, 3), 0.2))
    assert torch.equal(capture_driver(capture, track).motion.neck_pose, track.neck_pose)


def test_in_the_place_of_the_driver_everything_but_the_shape_is_his(capture: HeadSequence) -> None:
    head = StandInFlame()
    own = subject(head)
    played = drive(capture_driver(capture), head, own, keep_place=False).pose
    assert torch.equal(played.identity_coeffs, own.identity_coeffs)
    assert torch.equal(played.translation, capture.pose.translation)
    assert torch.equal(played.neck_pose, capture.pose.neck_pose)
    same_shape = played.replace(identity_coeffs=capture.pose.identity_coeffs)
    assert_close(head.vertices(same_shape), head.vertices(capture.pose))


def test_in_its_own_place_the_avatar_stays_where_it_stood(capture: HeadSequence) -> None:
    head = StandInFlame()
    own = subject(head)
    shift = torch.tensor([0.0, 0.2, 0.0])
    moving = capture.pose.replace(translation=torch.arange(6.0)[:, None] * shift)
    driver = capture_driver(capture, moving)
    played = drive(driver, head, own, neutral=2).pose
    assert_close(played.translation[2], own.translation[0])
    assert_close(played.translation[4] - played.translation[2], 2 * shift)
    assert_close(played.global_rotation, own.global_rotation[:1].expand(6, -1))
    assert torch.equal(played.expression_coeffs, capture.pose.expression_coeffs)


def test_rebasing_plays_the_face_relative_to_the_neutral_moments(capture: HeadSequence) -> None:
    head = StandInFlame()
    own = subject(head)
    driver = capture_driver(capture)
    for choice, is_based in (("none", False), ("expression", True), ("motion", True)):
        played = drive(driver, head, own, rebasing=choice, neutral=1, own_neutral=0).pose
        difference = capture.pose.expression_coeffs - capture.pose.expression_coeffs[1:2]
        expected = difference + own.expression_coeffs[:1] if is_based else None
        found = played.expression_coeffs
        assert_close(found, capture.pose.expression_coeffs if expected is None else expected)
        is_neck_based = not torch.equal(played.neck_pose, capture.pose.neck_pose)
        assert is_neck_based == (choice == "motion")
    with pytest.raises(ValueError, match="neutral must be 0 to 5, got 6"):
        drive(driver, head, own, neutral=6)
    with pytest.raises(ValueError, match="own_neutral must be 0 to 2, got 3"):
        drive(driver, head, own, own_neutral=3)


def test_flame_files_drive_without_cameras(capture: HeadSequence, tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    write_flame_track(path, capture.pose.replace(identity_coeffs=None, static_offset=None))
    assert is_flame_track(path)
    driver = flame_driver(path)
    assert driver.space.version == "2023"
    assert driver.moments == tuple(range(6))
    played = drive(driver, StandInFlame(), subject(StandInFlame()), keep_place=False)
    assert_close(played.pose.neck_pose, capture.pose.neck_pose)
    with pytest.raises(ValueError, match="this motion has no cameras of its own"):
        driver.records()


def test_other_files_are_no_flame_tracks(tmp_path: Path) -> None:
    np.savez(tmp_path / "arkit.npz", names=np.array(["jawOpen"]), weights=np.zeros((2, 1)))
    (tmp_path / "text.npz").write_text("none")
    assert not is_flame_track(tmp_path / "arkit.npz")
    assert not is_flame_track(tmp_path / "text.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    assert not is_flame_track(tmp_path / "cut.npz")
    assert not is_flame_track(tmp_path / "missing.npz")


def test_a_capture_of_one_split_alone_may_drive(capture: HeadSequence) -> None:
    times = {0, 1}
    frames = tuple(record for record in capture.frames if record.timestep in times)
    part = replace(capture, frames=frames, splits={"train": torch.arange(len(frames))})
    assert capture_driver(part).moments == (0, 1)

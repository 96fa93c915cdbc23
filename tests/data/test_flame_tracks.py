from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.data.flame_tracks import flame_version_of, read_flame_track, write_flame_track
from vultus.heads.base import HeadPose

Arrays = dict[str, np.ndarray]


def arrays(frames: int = 4, vertices: int = 7) -> Arrays:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "shape": normal(300),
        "expr": normal(frames, 100),
        "rotation": normal(frames, 3),
        "neck_pose": normal(frames, 3),
        "jaw_pose": normal(frames, 3),
        "eyes_pose": normal(frames, 6),
        "translation": normal(frames, 3),
        "static_offset": normal(1, vertices, 3),
        "dynamic_offset": normal(frames, vertices, 3),
    }


def test_a_track_is_read_and_written_bit_for_bit(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "a.npz", **given)
    track = read_flame_track(tmp_path / "a.npz")
    assert len(track) == 4
    assert torch.equal(track.identity_coeffs, torch.from_numpy(given["shape"])[None])
    assert torch.equal(track.eye_pose, torch.from_numpy(given["eyes_pose"]))
    write_flame_track(tmp_path / "b.npz", track)
    with np.load(tmp_path / "b.npz") as written:
        assert set(written.files) == set(given)
        for key in given.keys() - {"dynamic_offset"}:
            assert written[key].dtype == np.float32
            assert np.array_equal(written[key], given[key]), key
        assert written["dynamic_offset"].shape == given["dynamic_offset"].shape
        assert not written["dynamic_offset"].any()


def test_motions_have_no_subject(tmp_path: Path) -> None:
    given = {k: v for k, v in arrays().items() if k not in ("shape", "static_offset")}
    np.savez(tmp_path / "motion.npz", **given)
    track = read_flame_track(tmp_path / "motion.npz")
    assert track.identity_coeffs is None
    assert track.static_offset is None
    assert len(track) == 4


def test_the_zero_offsets_of_switched_off_tracking_are_accepted(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**arrays(), "static_offset": np.zeros((7, 3), np.float32)})
    assert read_flame_track(tmp_path / "a.npz").static_offset.shape == (1, 7, 3)


def test_fields_shared_by_all_frames_are_written_for_each(tmp_path: Path) -> None:
    track = HeadPose(
        expression_coeffs=torch.ones(3, 50),
        global_rotation=torch.ones(1, 3),
        neck_pose=torch.ones(1, 3),
        jaw_pose=torch.ones(1, 3),
        eye_pose=torch.ones(1, 6),
        translation=torch.ones(1, 3),
    )
    write_flame_track(tmp_path / "a.npz", track)
    assert read_flame_track(tmp_path / "a.npz").global_rotation.shape == (3, 3)


def test_the_release_is_told_by_the_numbers_of_coefficients() -> None:
    def pose(identity: int, expression: int) -> HeadPose:
        zeros = torch.zeros(1, identity), torch.zeros(2, expression)
        return HeadPose(identity_coeffs=zeros[0], expression_coeffs=zeros[1])

    assert flame_version_of(pose(300, 100)) == "2023"
    assert flame_version_of(pose(100, 50)) == "2020"
    with pytest.raises(ValueError, match=r"100 \+ 50 .* or 300 \+ 100 .* got \(100, 100\)"):
        flame_version_of(pose(100, 100))


def _without(key: str) -> Callable[[Arrays], Arrays]:
    return lambda given: {k: v for k, v in given.items() if k != key}


def _with(key: str, value: object) -> Callable[[Arrays], Arrays]:
    return lambda given: {**given, key: np.asarray(value)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without("jaw_pose"), "'jaw_pose' is missing"),
        (_with("jaw_pose", np.full((4, 3), np.nan)), "jaw_pose must be finite"),
        (_with("jaw_pose", np.zeros((4, 4))), r"jaw_pose must have shape \(t, 3\), got \(4, 4\)"),
        (_with("jaw_pose", np.zeros((3, 3))), "jaw_pose must have 4 frames, got 3"),
        (_with("expr", np.zeros(100)), r"expr must have shape \(t, k\)"),
        (_with("shape", ["a"]), "shape must be numbers, got <U1"),
        (_with("static_offset", np.zeros((2, 7, 3))), r"static_offset must have shape \(1, v, 3\)"),
        (_with("rotation", np.array([object()])), "not a readable .npz file"),
    ],
)
def test_damaged_tracks_are_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Arrays], Arrays], message: str
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **damage(arrays()))
    with pytest.raises(ValueError, match=message) as caught:
        read_flame_track(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npz does not exist"):
        read_flame_track(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.npz: not a readable .npz file"):
        read_flame_track(tmp_path / "text.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"array\.npy: not a readable .npz file"):
        read_flame_track(tmp_path / "array.npy")
    with pytest.raises(ValueError, match="a FLAME track needs expression_coeffs"):
        write_flame_track(tmp_path / "a.npz", HeadPose(translation=torch.zeros(1, 3)))

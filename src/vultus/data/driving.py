"""Motions that can drive an avatar: tracks of captures and FLAME files, with their own cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.core.npz_io import read_npz
from vultus.data.flame_tracks import FLAME_SIZES, read_flame_track
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.retargeting import (
    PLACEMENT_FIELDS,
    MotionSpace,
    Rebase,
    Retargeted,
    neutral_row,
    rebase,
    rebased_fields,
    retarget,
)

__all__ = ["Driver", "capture_driver", "drive", "flame_driver", "is_flame_track"]


@dataclass(frozen=True)
class Driver:
    """Who drives."""

    motion: HeadPose
    """One row per moment."""
    space: MotionSpace
    moments: tuple[int, ...]
    """Timestep of each row."""
    sequence: HeadSequence | None = None
    """The capture, if there are pictures and cameras."""

    def select(self, num_frames: int, stride: int = 1) -> Driver:
        """Every ``stride``-th moment, at most ``num_frames`` of them."""
        rows = range(0, len(self.moments), stride)[:num_frames]
        motion = self.motion[torch.tensor(rows)]
        return Driver(motion, self.space, tuple(self.moments[r] for r in rows), self.sequence)

    def records(self, camera: int | None = None) -> tuple[FrameRecord, ...]:
        """The frame of each moment in one camera, by default the first of the training split.

        Raises:
            ValueError: If the driver has no cameras, or the camera did not see every moment.
        """
        if self.sequence is None:
            raise ValueError("this motion has no cameras of its own; film from the avatar's")
        if camera is None:
            camera = self.sequence.split("train")[0].camera_index
        frames = self.sequence.frames
        seen = {record.timestep: record for record in frames if record.camera_index == camera}
        missing = [moment for moment in self.moments if moment not in seen]
        if missing:
            known = ", ".join(map(str, sorted({record.camera_index for record in frames})))
            raise ValueError(
                f"{self.sequence.root}: camera {camera} must show every moment, it lacks "
                f"{missing[0]} (cameras: {known})"
            )
        return tuple(seen[moment] for moment in self.moments)


def capture_driver(sequence: HeadSequence, track: HeadPose | None = None) -> Driver:
    """Let a capture drive: all splits together, in the order of time.

    Args:
        sequence: The capture.
        track: Its rig parameters where they are better known (fine-tuned by a training).
    """
    moments = sorted({record.timestep for record in sequence.frames})
    motion = (sequence.pose if track is None else track)[torch.tensor(moments)]
    return Driver(motion, MotionSpace.of(sequence.head), tuple(moments), sequence)


def is_flame_track(path: Path) -> bool:
    """Whether an ``.npz`` holds FLAME parameters, by its keys; False for what is no such file."""
    try:
        return len(read_npz(path, ("expr", "rotation"))) == 2
    except (FileNotFoundError, ValueError):
        return False


def flame_driver(path: Path) -> Driver:
    """Let a FLAME file drive: the track of an avatar, or a motion without a subject.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    motion = read_flame_track(path)
    expression = motion.expression_coeffs
    num_expressions = 0 if expression is None else expression.shape[1]
    versions = {sizes[1]: version for version, sizes in FLAME_SIZES.items()}
    space = MotionSpace(
        "flame",
        versions.get(num_expressions, "unknown"),
        tuple(f"expression_{i}" for i in range(num_expressions)),
    )
    return Driver(motion, space, tuple(range(len(motion))))


def drive(
    driver: Driver,
    head: HeadModel,
    track: HeadPose,
    *,
    rebasing: Rebase = "none",
    keep_place: bool = True,
    neutral: int | None = None,
    own_neutral: int | None = None,
) -> Retargeted:
    """Give a driver's motion to an avatar, whose shape stays.

    Args:
        driver: Who drives.
        head: The avatar's head.
        track: The avatar's own track; its identity, and its neutral moment for re-basing.
        rebasing: What is played relative to the neutral moments.
        keep_place: Whether the avatar stays where it stands in its own capture and turns and moves
            relative to that, or goes to the driver's place, for the driver's cameras.
        neutral: Row of the driver's motion with a neutral face; by default ``neutral_row``.
        own_neutral: The same in ``track``.

    Raises:
        ValueError: If a row is out of range, or the heads share no expression.
    """
    played = retarget(driver.motion, driver.space, head, track)
    fields = [name for name in rebased_fields(rebasing) if name not in PLACEMENT_FIELDS]
    if keep_place:
        fields += PLACEMENT_FIELDS
    start = _neutral(driver.motion, neutral, "neutral")
    own = track[_neutral(track, own_neutral, "own_neutral")]
    return Retargeted(rebase(played.pose, played.pose[start], own, fields), played.notes)


def _neutral(motion: HeadPose, row: int | None, name: str) -> int:
    if row is None:
        return neutral_row(motion)
    if not 0 <= row < len(motion):
        raise ValueError(f"{name} must be 0 to {len(motion) - 1}, got {row}")
    return row

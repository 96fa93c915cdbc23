"""From a rig to a video of one head: cameras in the frame of the head, one vector for the face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.progress import track
from vultus.core.threads import map_in_threads
from vultus.data.frames import load_colors
from vultus.data.head_video import HeadVideoFolder, VideoTrack
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.data.studio.rigs import head_center
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.face_motion import face_coeff_names, face_coeffs, skull_to_world

__all__ = ["RigVideoPlan", "plan_rig_video", "rig_video_track"]


@dataclass(frozen=True)
class RigVideoPlan:
    """A conversion that was checked but not written."""

    source: HeadSequence
    out: Path
    records: tuple[FrameRecord, ...]
    track: VideoTrack

    def write(self) -> None:
        """Write pictures over the background and mattes, and the manifest last."""
        folder = HeadVideoFolder(self.out)
        folder.make(with_parsing=False)

        def convert(place: int) -> None:
            rgb, mask = load_colors(self.source, self.records[place])
            matte = torch.ones_like(rgb[:1]) if mask is None else mask
            folder.write_frame(self.track.image_ids[place], rgb, matte, None)

        count = len(self.records)
        for _ in track(map_in_threads(convert, range(count)), count, "converting", "images"):
            pass
        folder.write_track(self.track)


def plan_rig_video(source: HeadSequence, out: Path, camera: int | None = None) -> RigVideoPlan:
    """Make a video from one camera of a capture with a rig, for methods that know no rig.

    Frames are those of the training split and after them all held-out ones, each in the order of
    time, so that the end of the video is what the capture holds out.

    Args:
        source: The capture; a tracker's (FLAME, ICT) or the studio's.
        out: New folder.
        camera: Its index; may be left out where there is but one.

    Raises:
        ValueError: If the camera is unknown, the rig has no face to move, or ``out`` is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} must be an empty or new folder")
    known = sorted({record.camera_index for record in source.frames})
    chosen = known[0] if camera is None else camera
    if chosen not in known or (camera is None and len(known) > 1):
        listed = ", ".join(map(str, known))
        raise ValueError(f"camera must be one of {listed}, got {camera}")
    train = set(source.splits["train"].tolist())
    seen = [i for i, r in enumerate(source.frames) if r.camera_index == chosen]
    order = sorted(seen, key=lambda i: (i not in train, source.frames[i].timestep))
    records = tuple(source.frames[i] for i in order)
    times = torch.tensor([record.timestep for record in records])
    video = rig_video_track(
        source.head,
        source.pose[times],
        Camera.stack([record.camera for record in records]),
        range(len(records)),
        head_center(source.head, source.pose[0].identity_coeffs),
        {
            "background": list(source.background),
            "held_out_frames": len(set(order) - train),
        },
    )
    return RigVideoPlan(source, out, records, video)


def rig_video_track(
    head: HeadModel,
    pose: HeadPose,
    camera: Camera,
    image_ids: Sequence[int],
    center: Float[Tensor, 3],
    facts: Mapping[str, Any],
) -> VideoTrack:
    """Make the track of a video from the track of a rig.

    Args:
        head: The rig.
        pose: One row per frame.
        camera: Where it stands in each frame.
        image_ids: Of each frame.
        center: What becomes the origin of the head's frame, at rest.
        facts: More keys for the top of the manifest.

    Raises:
        ValueError: If the head has no face to move or no skull.
    """
    to_center = torch.eye(4, dtype=torch.float64)
    to_center[:3, 3] = center
    head_to_world = skull_to_world(head, pose).double() @ to_center
    world_to_camera = camera.world_to_camera.double() @ head_to_world
    return VideoTrack(
        tuple(image_ids),
        Camera(world_to_camera.float(), camera.intrinsics, camera.width, camera.height),
        face_coeffs(head, pose),
        {**facts, "expression_names": list(face_coeff_names(head))},
    )

"""From a rig to a video of one head: cameras in the frame of the head, one vector for the face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.head_video import VideoTrack
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.face_motion import face_coeff_names, face_coeffs, skull_to_world

__all__ = ["rig_video_track"]


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

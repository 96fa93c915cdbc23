"""Pose an official avatar with the user's FLAME, without a capture."""

from __future__ import annotations

from vultus.gaussians.posed import posed_splats
from vultus.gaussians.splat_files import Splats
from vultus.heads.base import HeadModel, HeadPose
from vultus.methods.surfhead.jacobian_blending import blend_weights
from vultus.methods.surfhead.official.checkpoint import OfficialAvatar
from vultus.methods.surfhead.transport import (
    BoundSurfels,
    PosedSurfels,
    RestMesh,
    pose_faces,
    transport,
)

__all__ = ["official_splats", "place_official"]

_EYEBALLS = ("left_eyeball", "right_eyeball")


def place_official(avatar: OfficialAvatar, head: HeadModel, pose: HeadPose) -> PosedSurfels:
    """Carry the surfels to any poses of the avatar's subject.

    Args:
        avatar: As read.
        head: FLAME of the avatar's release, with the published teeth.
        pose: Per-frame fields; identity and static offset are the avatar's.

    Raises:
        ValueError: If the head is another one than the avatar was trained with.
    """
    faces = head.topology.faces
    last = int(avatar.surfels.face_index.max())
    if (head.name, head.version) != ("flame", avatar.flame_version) or last >= len(faces):
        raise ValueError(
            f"head must be FLAME {avatar.flame_version} with more than {last} faces, got "
            f"{head.name} {head.version} with {len(faces)}"
        )
    subject = HeadPose(
        identity_coeffs=avatar.track[0].identity_coeffs,
        static_offset=avatar.track[0].static_offset,
    )
    rest = RestMesh.build(head.vertices(subject)[0], faces, avatar.third_edge)
    posed = pose_faces(head.vertices(pose.replace(**subject.tensors())), rest, avatar.rig)
    surfels = avatar.surfels
    logits = surfels.blend_weight_logits
    bound = BoundSurfels(
        surfels.face_index,
        surfels.local_means,
        surfels.quats,
        surfels.scales,
        None if logits is None else blend_weights(logits),
    )
    eyeballs = head.topology.face_region(*_EYEBALLS)[surfels.face_index]
    return transport(bound, rest, posed, eyeballs if avatar.rigid_eyeballs else None)


def official_splats(avatar: OfficialAvatar, head: HeadModel, timestep: int) -> Splats:
    """Bake one moment of the avatar's track into splats of the world, without specular colour.

    Raises:
        ValueError: If there is no such moment, or as ``place_official``.
    """
    if not 0 <= timestep < len(avatar.track):
        raise ValueError(f"timestep must be 0 to {len(avatar.track) - 1}, got {timestep}")
    placed = place_official(avatar, head, avatar.track[timestep])
    return posed_splats(
        placed.means[0],
        placed.quats[0],
        placed.scales[0],
        avatar.surfels.opacity_logits,
        avatar.surfels.sh_dc,
        avatar.surfels.sh_rest,
        None if placed.jacobians is None else placed.jacobians[0],
    )

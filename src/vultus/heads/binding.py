"""Primitives that ride on the triangles of a head.

Reference: Qian et al., GaussianAvatars, 2024 (binding); SurFhead section 3.1 for the frame used
here, whose third axis is the face normal.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.geometry.deformation import TriangleFrames, triangle_frames

__all__ = [
    "TriangleFrames",
    "bind_one_per_face",
    "binding_counts",
    "local_to_world",
    "triangle_frames",
    "world_to_local",
]


def bind_one_per_face(faces: Int[Tensor, "f 3"]) -> Int[Tensor, " n"]:
    """Bind primitive i to face i."""
    return torch.arange(faces.shape[0], device=faces.device)


def binding_counts(face_index: Int[Tensor, " n"], num_faces: int) -> Int[Tensor, " f"]:
    """Count the primitives of each face; a face that falls to zero would leave a hole."""
    return torch.bincount(face_index, minlength=num_faces)


def local_to_world(
    local_means: Float[Tensor, "n 3"],
    face_index: Int[Tensor, " n"],
    frames: TriangleFrames,
) -> Float[Tensor, "*b n 3"]:
    """Carry points from their faces' frames to the world: s R x + c (similarity mode).

    Args:
        local_means: Positions in units of the face's size.
        face_index: Face of each point.
        frames: Of the posed mesh, for one or more frames.
    """
    rotations, scales = frames.rotations[..., face_index, :, :], frames.scales[..., face_index]
    turned = (rotations @ local_means[..., None])[..., 0]
    return scales[..., None] * turned + frames.centers[..., face_index, :]


def world_to_local(
    means: Float[Tensor, "*b n 3"],
    face_index: Int[Tensor, " n"],
    frames: TriangleFrames,
) -> Float[Tensor, "*b n 3"]:
    """Invert ``local_to_world``."""
    rotations, scales = frames.rotations[..., face_index, :, :], frames.scales[..., face_index]
    arms = means - frames.centers[..., face_index, :]
    return (rotations.transpose(-1, -2) @ arms[..., None])[..., 0] / scales[..., None]

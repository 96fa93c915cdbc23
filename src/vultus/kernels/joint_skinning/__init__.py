"""Joints posed by axis-angle vectors and vertices that follow them, for training on a GPU.

Both functions do what their PyTorch forms in ``heads.skinning`` do, which define them and serve
every other device: those launch four hundred small kernels a step, each of which takes a GPU longer
to start than to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["PosedJoints", "pose_joints", "skin_vertices"]


@dataclass(frozen=True)
class PosedJoints:
    """Joints of b frames."""

    transforms: Float[Tensor, "b j 3 4"]
    """From rest to posed, for points that are attached to one joint alone."""
    features: Float[Tensor, "b p"]
    """Drive pose correctives: rotation minus identity of each joint but the first, row by row."""


def pose_joints(
    axis_angles: Float[Tensor, "b j 3"],
    joints: Float[Tensor, "b j 3"],
    parents: Sequence[int],
) -> PosedJoints:
    """Turn joints about their rest positions, each with all that hangs on it.

    Gradients reach both tensors. Meant for trees of a few joints: a lane keeps all of one frame.

    Args:
        axis_angles: Rotation of each joint in its parent's frame, float32 on a GPU.
        joints: Rest positions.
        parents: ``parents[i] < i``; the root's parent is -1.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.joint_skinning import gpu

    return gpu.pose_joints(axis_angles, joints, tuple(parents))


def skin_vertices(
    vertices: Float[Tensor, "b v 3"],
    transforms: Float[Tensor, "b j 3 4"],
    weights: Float[Tensor, "v j"],
    translation: Float[Tensor, "b 3"] | None,
) -> Float[Tensor, "b v 3"]:
    """Move each vertex by the weighted mean of its joints' transforms, then all by a translation.

    Gradients reach all but the weights, and are the same bits in every run.

    Args:
        vertices: At rest, float32 on a GPU.
        transforms: From ``pose_joints``.
        weights: Constants.
        translation: ``None`` means zero.
    """
    from vultus.kernels.joint_skinning import gpu

    return gpu.skin_vertices(vertices, transforms, weights, translation)

"""Joints posed by axis-angle vectors, and vertices and Gaussians that follow them, on a GPU.

All functions do what their PyTorch forms do, which define them and serve every other device: those
of ``heads.skinning``, and ``methods.relightable_blendshapes.posing.pose_gaussians``. Those launch
hundreds of small kernels, each of which takes a GPU longer to start than to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

__all__ = ["PosedJoints", "pose_joints", "skin_gaussians", "skin_vertices"]


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


def skin_gaussians(
    attributes: tuple[
        Float[Tensor, "b n 3"], Float[Tensor, "b n 4"], Float[Tensor, "b n 3"], Float[Tensor, "b n"]
    ],
    transforms: Float[Tensor, "b j 3 4"],
    weights: Float[Tensor, "n j"],
    before: tuple[Float[Tensor, "n 3 p"], Float[Tensor, "b p"]],
    after: tuple[Float[Tensor, "n 3 l"], Float[Tensor, "b l"]],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Carry Gaussians with joints, and activate them.

    Gradients reach the attributes, and are the same bits in every run.

    Args:
        attributes: Means, quaternions of any norm, logarithms of scales, and logits of opacities at
            rest, float32 on a GPU.
        transforms: From ``pose_joints``; constants.
        weights: Of each joint; constants.
        before: Shapes that move means before the joints turn, and their weights; constants.
        after: The same, after the joints have turned.

    Returns:
        Means, quaternions, scales, opacities; and the rotation of every Gaussian, [b n 3 3]: three
        steps from the mean of its joints' matrices towards the nearest rotation.
    """
    from vultus.kernels.joint_skinning import gpu

    return gpu.skin_gaussians(attributes, transforms, weights, before, after)

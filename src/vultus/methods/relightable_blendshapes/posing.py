"""Blended Gaussians to posed ones: correctives, joints, eyelids (spec section 4.2).

Symbols: ``n`` Gaussians, ``k`` expressions, ``j`` joints, ``p`` pose features, ``l`` eyelids, ``b``
frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.rotations import matrix_to_quaternion, quaternion_multiply
from vultus.heads.skinning import linear_blend_skinning
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.joint_skinning import skin_gaussians
from vultus.methods.relightable_blendshapes.blendshapes import rotation_part

__all__ = ["NUM_EYELIDS", "Anchors", "FrameMotion", "PosedGaussians", "pose_gaussians"]

NUM_EYELIDS = 2
"""Left and right. No head here has shapes for them yet: they come with published models."""

_MIN_QUAT_NORM = 1e-8
"""Large expressions may bring blended quaternions near zero."""


@dataclass(frozen=True)
class Anchors:
    """Constants by which Gaussians hang on the head; rows follow the Gaussians."""

    skinning_weights: Float[Tensor, "n j"]
    expression_mask: Float[Tensor, "n k"]
    mean_deltas: Float[Tensor, "n 3 k"]
    """What each expression does to a point of the mesh."""
    quat_deltas: Float[Tensor, "n 4 k"]
    pose_shapes: Float[Tensor, "n 3 p"]
    """Correctives per pose feature."""
    eyelid_shapes: Float[Tensor, "n 3 l"]
    """Left and right lid closed, added after the joints."""

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class FrameMotion:
    """What moves the Gaussians of b frames."""

    expression: Float[Tensor, "b k"]
    transforms: Float[Tensor, "b j 3 4"]
    """From rest to posed."""
    features: Float[Tensor, "b p"]
    eyelids: Float[Tensor, "b l"]
    """How far the left and the right lid are closed, beside what the expression says."""

    def map(self, function: Callable[[Tensor], Tensor]) -> FrameMotion:
        """Apply a function to every tensor."""
        return FrameMotion(*(function(getattr(self, field.name)) for field in fields(self)))

    def __getitem__(self, rows: Tensor) -> FrameMotion:
        """Select frames; nothing waits for a GPU."""
        return self.map(lambda tensor: tensor.index_select(0, rows))

    @staticmethod
    def cat(motions: Sequence[FrameMotion]) -> FrameMotion:
        """Concatenate along the batch."""
        named = ([getattr(each, field.name) for each in motions] for field in fields(FrameMotion))
        return FrameMotion(*map(torch.cat, named))


@dataclass(frozen=True)
class PosedGaussians:
    """Gaussians of b frames in the world, activated."""

    means: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"]
    """Unit but for what the joints' blended rotation lacks, which is far below 1e-5."""
    scales: Float[Tensor, "b n 3"]
    opacities: Float[Tensor, "b n"]
    rotations: Float[Tensor, "b n 3 3"]
    """By which joints turned each Gaussian, and all that it has a direction of."""


def pose_gaussians(
    blended: Mapping[str, Tensor], anchors: Anchors, motion: FrameMotion
) -> PosedGaussians:
    """Carry blended Gaussians with the joints.

    Gradients reach the attributes, not the motion's rotations.

    Args:
        blended: ``means``, ``quats``, ``log_scales`` and ``opacity_logits`` of every frame.
        anchors: Constants of the Gaussians.
        motion: Of the frames.
    """
    names = ("means", "quats", "log_scales", "opacity_logits")
    means, quats, log_scales, opacity_logits = (blended[name] for name in names)
    if are_for_kernels(means, motion.transforms):
        skinned = skin_gaussians(
            (means, quats, log_scales, opacity_logits),
            motion.transforms,
            anchors.skinning_weights,
            (anchors.pose_shapes, motion.features),
            (anchors.eyelid_shapes, motion.eyelids),
        )
        return PosedGaussians(*skinned)
    corrected = means + _shares(anchors.pose_shapes, motion.features)
    means = linear_blend_skinning(corrected, motion.transforms, anchors.skinning_weights)
    means = means + _shares(anchors.eyelid_shapes, motion.eyelids)
    rotations = _blended_rotations(motion.transforms, anchors.skinning_weights)
    local = normalize(quats, dim=-1, eps=_MIN_QUAT_NORM)
    return PosedGaussians(
        means=means,
        quats=quaternion_multiply(matrix_to_quaternion(rotations), local),
        scales=log_scales.exp(),
        opacities=opacity_logits.sigmoid(),
        rotations=rotations,
    )


def _shares(
    shapes: Float[Tensor, "n 3 p"], weights: Float[Tensor, "b p"]
) -> Float[Tensor, "b n 3"] | float:
    """Sum shapes with the weights of every frame; 0 if there are none."""
    if shapes.shape[2] == 0:
        return 0.0
    summed = shapes.reshape(-1, shapes.shape[2]) @ weights.T
    return summed.T.reshape(weights.shape[0], *shapes.shape[:2])


@torch.no_grad()
def _blended_rotations(
    transforms: Float[Tensor, "b j 3 4"], weights: Float[Tensor, "n j"]
) -> Float[Tensor, "b n 3 3"]:
    """Rotation part of the mean of the joints' transforms.

    As published this is the mean of I + A - A0 with A0 the transforms at rest, which are the
    identity.
    """
    matrices = transforms[..., :3].flatten(start_dim=2)
    return rotation_part((weights @ matrices).unflatten(-1, (3, 3)))

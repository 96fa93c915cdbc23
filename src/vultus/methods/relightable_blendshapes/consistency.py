"""How far Gaussians may follow expressions: as far as the mesh under them moves (spec section 3.2).

Where an expression moves the mesh by less than a quarter of a tenth of a millimetre, what the video
shows there is no part of the expression, and trained deltas are held at zero.

Reference: Ma et al., 3D Gaussian Blendshapes for Head Avatar Animation, SIGGRAPH 2024.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.geometry.rigid_fit import fit_rigid

__all__ = [
    "BACK_OF_HEAD_FACES",
    "align_rigidly",
    "expression_mask",
    "neck_vertices",
    "vertex_motion",
]

BACK_OF_HEAD_FACES = (
    291, 621, 670, 1151, 1158, 1255, 1494, 1513, 1712, 1871, 2476, 2676, 2686, 2756, 2785, 3562,
    3578, 3579, 3589, 3590, 3591, 3598, 3686, 3687, 3697, 3737, 3738, 3741, 5391, 5713, 5761, 6232,
    6239, 6335, 6571, 6590, 6787, 6946, 7538, 7737, 7747, 7817, 7846, 8622, 8638, 8639, 8649, 8650,
    8651, 8658, 8746, 8747, 8757, 8797, 8798, 8801,
)  # fmt: skip
"""Faces of FLAME that no expression should move, as published."""

_FREE_DISTANCE = 0.1 * 0.000237277025008
_FULL_DISTANCE = 0.005703532602638
"""Displacements at which the mask is 0 and 1, metres; published."""


def align_rigidly(
    expressed: Float[Tensor, "k v 3"], neutral: Float[Tensor, "v 3"], anchors: Int[Tensor, " n"]
) -> Float[Tensor, "k v 3"]:
    """Move meshes rigidly so that some of their vertices come closest to those of the neutral."""
    still, moved = neutral[anchors], expressed[:, anchors]
    aligned = []
    for mesh, points in zip(expressed, moved, strict=True):
        rotation, translation = fit_rigid(points, still)
        aligned.append(mesh @ rotation.T + translation)
    return torch.stack(aligned)


def neck_vertices(
    vertices: Float[Tensor, "v 3"], regions: Mapping[str, Bool[Tensor, " v"]]
) -> Bool[Tensor, " v"]:
    """Mark the lower neck and its rim: the regions' vertices below the middle of their heights.

    The published list of FLAME's vertices is not public.

    Args:
        vertices: At rest, y up.
        regions: Of the head; ``neck`` and ``boundary`` may be empty.
    """
    on_neck = regions["neck"] | regions["boundary"]
    if not bool(on_neck.any()):
        return on_neck
    heights = vertices[:, 1]
    middle = 0.5 * (heights[on_neck].min() + heights[on_neck].max())
    return on_neck & (heights <= middle)


def vertex_motion(
    neutral: Float[Tensor, "v 3"],
    expressed: Float[Tensor, "k v 3"],
    still: Bool[Tensor, " v"],
    anchors: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, "k v 3"]:
    """Offsets that expressions cause, without what is no expression.

    Args:
        neutral: The subject at rest.
        expressed: One expression at weight 1 each.
        still: Vertices whose offsets count as zero (the neck).
        anchors: Vertices on which meshes are aligned with the neutral one; ``None``: they are not.
    """
    aligned = expressed if anchors is None else align_rigidly(expressed, neutral, anchors)
    return torch.where(still[:, None], 0.0, aligned - neutral)


def expression_mask(offsets: Float[Tensor, "k n 3"]) -> Float[Tensor, "n k"]:
    """How far a place follows each expression: 0 where it rests, 1 for a displacement of 5.7 mm.

    It is not limited to 1.

    Args:
        offsets: Of places on the mesh: means of a face's vertices as published, or interpolated.
    """
    share = (offsets.norm(dim=-1) - _FREE_DISTANCE) / (_FULL_DISTANCE - _FREE_DISTANCE)
    return share.clamp(min=0.0).T.contiguous()

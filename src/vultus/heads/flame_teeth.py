"""Teeth for FLAME: two arches of boxes hung on the lip rings.

Reference: GaussianAvatars and SurFhead add these 120 vertices and 168 faces behind FLAME's own;
positions, order and triangulation are theirs because checkpoints address faces by number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "LOWER_LIP_RING",
    "NUM_TEETH_FACES",
    "NUM_TEETH_VERTICES",
    "UPPER_LIP_RING",
    "TeethMesh",
    "build_teeth",
    "teeth_faces",
]

# fmt: off
UPPER_LIP_RING = (
    1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830,
)
"""FLAME's vertices along the outside of the upper lip."""
LOWER_LIP_RING = (
    1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712,
)
"""FLAME's vertices along the outside of the lower lip, column by column below the upper ones."""
# fmt: on

_COLUMNS = len(UPPER_LIP_RING)
NUM_TEETH_VERTICES = 8 * _COLUMNS
NUM_TEETH_FACES = 12 * (_COLUMNS - 1)
_NECK_JOINT, _JAW_JOINT = 1, 2

# Rows of vertices in the order in which they are stored.
_UPPER_ROOT, _LOWER_ROOT, _UPPER_EDGE, _LOWER_EDGE = 0, 1, 2, 3
_UPPER_ROOT_BACK, _UPPER_EDGE_BACK, _LOWER_ROOT_BACK, _LOWER_EDGE_BACK = 4, 5, 6, 7
_UPPER_ROWS = (_UPPER_ROOT, _UPPER_EDGE, _UPPER_ROOT_BACK, _UPPER_EDGE_BACK)

# A strip joins two rows. Corners of column i: p, q = first row at i, i + 1; r, s = second row.
# Columns 0 to 6 use the first pair of triangles and columns 7 to 13 the second, so that the
# diagonals mirror at the middle.
_STRIPS = (
    (_UPPER_ROOT, _UPPER_EDGE, "psr pqs", "pqr qsr"),
    (_UPPER_ROOT_BACK, _UPPER_EDGE_BACK, "prs psq", "prq qrs"),
    (_UPPER_EDGE_BACK, _UPPER_EDGE, "prq qrs", "prs psq"),
    (_LOWER_ROOT, _LOWER_EDGE, "rsp sqp", "rqp rsq"),
    (_LOWER_ROOT_BACK, _LOWER_EDGE_BACK, "psr pqs", "pqr qsr"),
    (_LOWER_EDGE_BACK, _LOWER_EDGE, "pqr qsr", "psr pqs"),
)
_PUBLISHED_WRONG_FACE = ((101, 116, 115), (101, 116, 114))

# Where the strips lie in FLAME's texture: a free band at its top.
_UV_U = (0.62, 0.38)
_UV_V = (0.9917, 0.9575)
_UV_ROW_STEPS = (3, 2, 0, 1, 3, 4, 6, 5)


@dataclass(frozen=True)
class TeethMesh:
    """What is appended to FLAME's arrays."""

    vertices: Float[Tensor, "120 3"]
    identity_basis: Float[Tensor, "s 120 3"]
    skinning_weights: Float[Tensor, "120 5"]
    """Upper teeth hang on the neck joint, lower teeth on the jaw."""
    faces: Int[Tensor, "168 3"]
    """Local ids from 0."""
    uv: Float[Tensor, "120 2"]


def build_teeth(
    template: Float[Tensor, "v 3"],
    identity_basis: Float[Tensor, "s v 3"],
    keep_published_fault: bool = False,
) -> TeethMesh:
    """Place the teeth behind the lips of a FLAME template.

    Args:
        template: FLAME's 5023 mean vertices (at least up to the lip rings).
        identity_basis: Identity shapes; the teeth follow the mean of their two lip vertices.
        keep_published_fault: See ``teeth_faces``.

    Raises:
        ValueError: If the template is too short to hold the lip rings.
    """
    last = max(*UPPER_LIP_RING, *LOWER_LIP_RING)
    if template.shape[0] <= last:
        raise ValueError(
            f"template must have FLAME's 5023 vertices to take teeth, got {template.shape[0]}"
        )
    upper_ids, lower_ids = list(UPPER_LIP_RING), list(LOWER_LIP_RING)
    upper_lip, lower_lip = template[upper_ids], template[lower_ids]
    gap = (upper_lip - lower_lip).norm(dim=1).mean()
    middle = 0.5 * (upper_lip + lower_lip)
    middle[:, 1] = middle[:, 1].mean()
    middle[:, 2] -= 1.5 * gap

    up = template.new_tensor([0.0, 1.0, 0.0]) * gap
    back = template.new_tensor([0.0, 0.0, -1.0]) * gap
    upper_edge = middle + 0.1 * up
    upper_root = upper_edge + 2.0 * up
    lower_edge = middle - 0.1 * up + 0.4 * back
    lower_root = lower_edge - 2.0 * up
    front = [upper_root, lower_root, upper_edge, lower_edge]
    rear = [row + back for row in (upper_root, upper_edge, lower_root, lower_edge)]

    weights = template.new_zeros(8, _COLUMNS, 5)
    weights[..., _JAW_JOINT] = 1.0
    weights[list(_UPPER_ROWS)] = torch.eye(5).to(weights)[_NECK_JOINT]
    lip_shapes = 0.5 * (identity_basis[:, upper_ids] + identity_basis[:, lower_ids])
    return TeethMesh(
        vertices=torch.cat([*front, *rear]),
        identity_basis=lip_shapes.repeat(1, 8, 1),
        skinning_weights=weights.reshape(-1, 5),
        faces=teeth_faces(keep_published_fault).to(template.device),
        uv=_teeth_uv().to(template),
    )


def teeth_faces(keep_published_fault: bool = False) -> Int[Tensor, "168 3"]:
    """Triangulate the six strips of the two arches; ids are local.

    Args:
        keep_published_fault: SurFhead, as the early GaussianAvatars, has one face that skips a
            vertex, (101, 116, 114) for (101, 116, 115). Needed only to reproduce their meshes:
            the number of every face is the same either way.
    """
    faces = []
    for first_row, second_row, left, right in _STRIPS:
        for column in range(_COLUMNS - 1):
            first, second = first_row * _COLUMNS + column, second_row * _COLUMNS + column
            corner = {"p": first, "q": first + 1, "r": second, "s": second + 1}
            triangles = left if column < (_COLUMNS - 1) // 2 else right
            faces += [tuple(corner[letter] for letter in word) for word in triangles.split()]
    if keep_published_fault:
        right_face, wrong_face = _PUBLISHED_WRONG_FACE
        faces[faces.index(right_face)] = wrong_face
    return torch.tensor(faces)


def _teeth_uv() -> Float[Tensor, "120 2"]:
    u = torch.linspace(*_UV_U, _COLUMNS)
    v = torch.linspace(*_UV_V, 7)[list(_UV_ROW_STEPS)]
    return torch.stack([u.repeat(8), v.repeat_interleave(_COLUMNS)], dim=1)

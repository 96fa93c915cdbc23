"""The shape ``mouthClose``: the motion that closes the lips while the jaw stays open."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vultus.heads.procedural.falloffs import bell
from vultus.heads.procedural.loops import MOUTH_POINTS
from vultus.heads.procedural.sculpt import JAW_HINGE
from vultus.heads.procedural.template import SkinTemplate

__all__ = ["JAW_OPEN_ANGLE", "JAW_SLIDE", "mouth_close_shape"]

JAW_OPEN_ANGLE = float(np.radians(21.0))
"""Turn of the jaw at ``jawOpen`` = 1."""
JAW_SLIDE = (0.0, -2.0, 3.5)
"""The condyle's slide (mm) at ``jawOpen`` = 1."""
_MEETING_POINT = 0.14
"""Real lips meet near the upper one; in the middle, the upper lip would leave the teeth."""
_CORNER_LIFT = 6.0
"""mm."""

_Field = Float[np.ndarray, " v"]


def mouth_close_shape(
    skin: SkinTemplate, jaw: _Field, lips: _Field, mask: _Field
) -> Float[np.ndarray, "v 3"]:
    """Displacement before skinning that brings the contact lines of the opened mouth together.

    Args:
        skin: The template.
        jaw: Jaw weights.
        lips: 1 on the vermilion, fading around it.
        mask: Front of the face.
    """
    x, y, _ = skin.vertices.T
    cosine, sine = np.cos(JAW_OPEN_ANGLE), np.sin(JAW_OPEN_ANGLE)
    rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    contact = skin.mouth[0, : MOUTH_POINTS // 2 + 1]
    rest = skin.vertices[contact]
    turned = (rest - JAW_HINGE) @ rotation.T + JAW_HINGE + np.array(JAW_SLIDE)
    opened = rest + jaw[contact, None] * (turned - rest)
    half = MOUTH_POINTS // 4 + 1
    upper, lower = opened[:half], opened[::-1][:half]
    target = (1 - _MEETING_POINT) * upper + _MEETING_POINT * lower
    order = np.argsort(rest[:half, 0])
    lateral = rest[:half, 0][order]
    contact_y = np.interp(np.abs(x), lateral, rest[:half, 1][order])
    beyond_corner = bell(np.maximum(np.abs(x) - 26, 0), 0, 8)
    posed = np.zeros_like(skin.vertices)
    # Side, needed motion from middle to corner, and reach (mm) of the lip with its falloff.
    for side, motion, reach, falloff in (
        (1, target - upper, 7, 9),
        (-1, target - lower, 9, 13),
    ):
        offset = np.zeros_like(skin.vertices)
        for axis in (1, 2):
            offset[:, axis] = np.interp(np.abs(x), lateral, motion[order, axis], right=0)
        distance = np.maximum(side * (y - contact_y), 0)
        fall = bell(np.maximum(distance - reach, 0), 0, falloff) * beyond_corner * mask
        is_side = np.where(lips > 0, (jaw < 0.5) == (side > 0), (y > contact_y) == (side > 0))
        posed += offset * (fall * is_side)[:, None]
    # The opened jaw pulls the corners down, and level lips between them would look glum.
    corner = bell(np.abs(x), 27, 9) * bell(y, contact_y, 10) * mask
    posed[:, 1] += _CORNER_LIFT * corner
    # Undo the jaw's rotation where the skin follows the jaw.
    return (1 - jaw)[:, None] * posed + jaw[:, None] * (posed @ rotation)

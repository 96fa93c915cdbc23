"""Lids slide over the globe: each point gets a new frontal height and asks the sculpt for z."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vultus.heads.procedural.loops import LID_POINTS
from vultus.heads.procedural.sculpt import EYE_CENTER, EYE_RADIUS, LID_CLEARANCE, front_hit
from vultus.heads.procedural.template import SkinTemplate

__all__ = ["BLINK_SHARES", "UPPER_LID_FALLOFF", "slide_lids"]

UPPER_LID_FALLOFF = (1.0, 0.94, 0.84, 0.66, 0.44, 0.22, 0.07, 0.0)
"""How far each lid loop goes along with the upper margin."""
_LOWER_LID_FALLOFF = (1.0, 0.9, 0.75, 0.55, 0.36, 0.2, 0.07, 0.0)
BLINK_SHARES = (0.93, 0.07)
"""Shares of upper and lower lid in closing the eye."""
_CREASE_LOOP = 3


def slide_lids(skin: SkinTemplate, upper: float, lower: float) -> Float[np.ndarray, "v 3"]:
    """Displacement of the left lids.

    Args:
        skin: The template.
        upper: Fraction of the way to the opposite margin that the upper lid goes; below 0 opens.
        lower: The same for the lower lid.
    """
    displacement = np.zeros_like(skin.vertices)
    angle = np.arange(LID_POINTS) / LID_POINTS * 2 * np.pi
    is_upper, is_lower = np.sin(angle) > 1e-9, np.sin(angle) < -1e-9
    margin = skin.vertices[skin.left_lids[0]]
    to_other_lid = margin[-np.arange(LID_POINTS) % LID_POINTS, 1] - margin[:, 1]
    for index, loop in enumerate(skin.left_lids):
        points = skin.vertices[loop]
        down = np.where(is_upper, UPPER_LID_FALLOFF[index] * upper * to_other_lid, 0)
        down = down + np.where(is_lower, _LOWER_LID_FALLOFF[index] * lower * to_other_lid, 0)
        moved = points.copy()
        moved[:, 1] += down
        moved[:, 2] += front_hit(moved[:, :2])[:, 2] - front_hit(points[:, :2])[:, 2]
        if index == _CREASE_LOOP:  # the crease unfolds
            moved[:, 2] += np.where(is_upper, 0.8, 0) * np.clip(np.abs(down) / 6, 0, 1)
        radial = moved - EYE_CENTER
        radius = np.linalg.norm(radial, axis=1, keepdims=True)
        clear = np.maximum(1, (EYE_RADIUS + LID_CLEARANCE + 0.1) / radius)
        displacement[loop] = EYE_CENTER + radial * clear - points
    displacement[skin.left_rims[0]] = displacement[skin.left_lids[0]]
    return displacement

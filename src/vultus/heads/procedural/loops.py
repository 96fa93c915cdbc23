"""Curves of lids and lips, and the loops of points around eyes and mouth, in frontal millimetres.

The same border curves place the vertices and paint the textures, so the two cannot drift apart.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = [
    "LID_LOOPS",
    "LID_POINTS",
    "LIP_BORDER_LOOP",
    "MOUTH_HALF_WIDTH",
    "MOUTH_LOOPS",
    "MOUTH_POINTS",
    "MOUTH_Y",
    "lid_curves",
    "lid_loop",
    "lip_curves",
    "mouth_lateral",
    "mouth_loop",
]

LID_POINTS = 40
"""Points per eye loop: 0 at the inner corner, over the upper lid to 20 at the outer corner."""
LID_LOOPS = 8
"""Eye loops; loop 0 is the lid margin."""
MOUTH_POINTS = 52
"""Points per mouth loop: 0 at the upper middle, 13 at the left corner, 26 at the lower middle."""
MOUTH_LOOPS = 9
"""Mouth loops; loop 0 is the line where the lips touch."""
LIP_BORDER_LOOP = 4
"""Mouth loop on the border of the vermilion."""
MOUTH_HALF_WIDTH = 25.5
MOUTH_Y = -68.0
_VERMILION_FRACTIONS = (0.0, 0.14, 0.44, 0.75, 1.0)

_Curve = Float[np.ndarray, " n"]


def lid_curves(s: Float[np.ndarray, " n"]) -> tuple[_Curve, _Curve, _Curve]:
    """Opening of the left eye, s in [-1, 1] from inner to outer corner: x, upper y, lower y.

    About 10 % smaller than wanted: pushing the margin off the globe enlarges it again.
    """
    x = 31.6 + 15.5 * s
    tilt = 0.6 + 1.5 * s
    upper = 5.0 * np.clip(1 - np.abs(s) ** 2.3, 0, 1) ** 0.80 * (1.0 - 0.16 * s) + tilt
    lower = -4.75 * np.clip(1 - np.abs(s) ** 2.4, 0, 1) ** 0.85 * (1.0 + 0.22 * s) + tilt
    caruncle = np.clip((-s - 0.72) / 0.28, 0, 1)  # drawn-out inner corner
    return x - 1.3 * caruncle**1.5, upper - 1.1 * caruncle**2, lower - 0.9 * caruncle**2


def lid_loop(index: int) -> Float[np.ndarray, "n 2"]:
    """Loop ``index`` around the left eye: 0 is the margin, the last one an ellipse."""
    angle = np.arange(LID_POINTS) / LID_POINTS * 2 * np.pi
    x, upper, lower = lid_curves(-np.cos(angle))
    margin = np.stack([x, np.where(np.sin(angle) >= 0, upper, lower)], 1)
    corners = [0, LID_POINTS // 2]
    margin[corners, 1] = 0.5 * (upper + lower)[corners]
    outer = np.stack([31.8 - 22.5 * np.cos(angle), 1.5 + 15.0 * np.sin(angle)], 1)
    t = (index / (LID_LOOPS - 1)) ** 1.25
    return margin * (1 - t) + outer * t


def lip_curves(x: Float[np.ndarray, " n"]) -> tuple[_Curve, _Curve, _Curve]:
    """Contact line, upper and lower border of the vermilion at lateral position x."""
    u = np.clip(np.abs(x) / MOUTH_HALF_WIDTH, 0, 1)
    contact = MOUTH_Y - 1.0 * u**2 + 1.9 * u**4 - 0.9 * np.exp(-((u / 0.16) ** 2))
    upper = 7.4 * np.clip(1 - u**1.75, 0, 1) ** 0.95
    # Cupid's bow: the notch in the middle and the peaks at a quarter of the half width.
    upper = upper - 1.5 * np.exp(-((u / 0.11) ** 2)) + 0.5 * np.exp(-(((u - 0.24) / 0.13) ** 2))
    lower = 9.4 * np.clip(1 - u**2.4, 0, 1) ** 0.95
    return contact, contact + upper, contact - lower


def mouth_lateral(sine: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Lateral position of a loop point: sine spacing mixed with uniform.

    Sine spacing alone crowds the corners (0.2 mm) and folds there.
    """
    return MOUTH_HALF_WIDTH * 0.5 * (sine + np.arcsin(np.clip(sine, -1, 1)) / (np.pi / 2))


def mouth_loop(index: int) -> Float[np.ndarray, "n 2"]:
    """Loop ``index`` around the mouth: 0 is the contact line, the last one an ellipse."""
    angle = np.arange(MOUTH_POINTS) / MOUTH_POINTS * 2 * np.pi
    sine, cosine = np.sin(angle), np.cos(angle)
    x = mouth_lateral(sine)
    contact_y, upper, lower = lip_curves(x)
    border_y = np.where(cosine > 1e-9, upper, np.where(cosine < -1e-9, lower, contact_y))
    border = np.stack([x * (MOUTH_HALF_WIDTH + 3.0) / MOUTH_HALF_WIDTH, border_y], 1)
    if index <= LIP_BORDER_LOOP:
        t = _VERMILION_FRACTIONS[index]
        return np.stack([x, contact_y], 1) * (1 - t) + border * t
    height = np.where(cosine > 0, 20.0, 21.0)
    outer = np.stack([34.5 * sine, -70.5 + height * cosine], 1)
    t = ((index - LIP_BORDER_LOOP) / (MOUTH_LOOPS - 1 - LIP_BORDER_LOOP)) ** 1.1
    return border * (1 - t) + outer * t

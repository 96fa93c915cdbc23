"""What an implicit surface cannot do well: lids with thickness, the vermilion, the mouth bag."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from vultus.heads.procedural.loops import (
    LID_POINTS,
    MOUTH_HALF_WIDTH,
    MOUTH_LOOPS,
    MOUTH_POINTS,
    MOUTH_Y,
    mouth_lateral,
)
from vultus.heads.procedural.mesh_graph import loop_strip
from vultus.heads.procedural.sculpt import EYE_CENTER, EYE_RADIUS, LID_CLEARANCE, MIRROR

__all__ = ["add_lids", "add_lips", "add_mouth_bag"]

# Profiles: mm outward per loop, added to the sculpt.
_UPPER_LID = (0.2, 0.2, 0.0, -1.0, 0.5, 0.4, 0.1, 0.0)  # loop 3 is the crease
_LOWER_LID = (0.0, 0.15, 0.1, -0.1, -0.25, -0.1, 0.0, 0.0)
_UPPER_LIP = (-1.2, 1.6, 3.3, 3.7, 3.2, 2.1, 1.0, 0.3, 0.0)
_LOWER_LIP = (-1.2, 2.2, 5.0, 5.0, 3.2, 1.1, 0.1, 0.0, 0.0)

_RIM_GAP = 0.12
"""mm between the wet rim and the globe."""
_TUCK_DEPTH = 0.9
"""mm by which the innermost lid loop hides below the globe's surface."""
_OPENING_CENTER = np.array([31.3, 0.3])

# Mouth bag behind the lips: half width, half height, z, and curvature of each loop.
_BAG = ((28.5, 12.5, 82, 12), (31, 14.5, 66, 4), (29, 14, 48, 0), (18, 9, 34, 0))
_BAG_END_Z = 30.0

_Vertices = Float[np.ndarray, "v 3"]
_Faces = Int[np.ndarray, "f 3"]


def add_lids(
    vertices: _Vertices,
    faces: _Faces,
    left: Int[np.ndarray, "8 40"],
    right: Int[np.ndarray, "8 40"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the lids crease and thickness, keep them off the globe, and tuck them behind it.

    Returns:
        Vertices, faces, and the two new loops of the left and of the right eye.
    """
    vertices = vertices.copy()
    angle = np.arange(LID_POINTS) / LID_POINTS * 2 * np.pi
    upper, lower = np.clip(np.sin(angle), 0, 1), np.clip(-np.sin(angle), 0, 1)
    for loop, upper_lift, lower_lift in zip(left, _UPPER_LID, _LOWER_LID, strict=True):
        lift = upper_lift * upper**0.6 + lower_lift * lower
        vertices[loop] += np.array([0.25, 0, 1.0]) * lift[:, None]
        radial = vertices[loop] - EYE_CENTER
        radius = np.linalg.norm(radial, axis=1, keepdims=True)
        clear = np.maximum(1, (EYE_RADIUS + LID_CLEARANCE) / radius)
        vertices[loop] = EYE_CENTER + radial * clear
    rim, tuck = _lid_backs(vertices[left[0]])
    first = len(vertices) + np.arange(LID_POINTS)
    left_rims = np.stack([first, first + LID_POINTS])
    right_rims = left_rims + 2 * LID_POINTS
    vertices = np.concatenate([vertices, rim, tuck, rim * MIRROR, tuck * MIRROR])
    vertices[right] = vertices[left] * MIRROR
    # The left loops run clockwise seen from outside, the right ones counter-clockwise.
    strips = [
        loop_strip(left[0], left_rims[0]),
        loop_strip(left_rims[0], left_rims[1]),
        loop_strip(right[0], right_rims[0])[:, ::-1],
        loop_strip(right_rims[0], right_rims[1])[:, ::-1],
    ]
    return vertices, np.concatenate([faces, *strips]), left_rims, right_rims


def _lid_backs(margin: Float[np.ndarray, "40 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Wet rim and tucked loop behind the left lid margin."""
    rim = margin.copy()
    rim[:, :2] += (_OPENING_CENTER - margin[:, :2]) * 0.035
    radial = rim - EYE_CENTER
    radius = np.linalg.norm(radial, axis=1)
    rim = EYE_CENTER + radial * np.minimum(1, (EYE_RADIUS + _RIM_GAP) / radius)[:, None]
    rim[:, 2] = np.minimum(rim[:, 2], margin[:, 2] - 0.55)
    spread = (margin - EYE_CENTER) * np.array([1.12, 1.45, 1.0])
    spread[:, 2] -= 2.5
    spread *= (EYE_RADIUS - _TUCK_DEPTH) / np.linalg.norm(spread, axis=1, keepdims=True)
    return rim, EYE_CENTER + spread


def add_lips(
    vertices: _Vertices, left: Int[np.ndarray, "9 27"], right: Int[np.ndarray, "9 27"]
) -> np.ndarray:
    """Raise the vermilion by the lip profiles, which taper towards the corners."""
    vertices = vertices.copy()
    angle = np.arange(left.shape[1]) / MOUTH_POINTS * 2 * np.pi
    cosine = np.cos(angle)
    u = np.clip(mouth_lateral(np.sin(angle)) / MOUTH_HALF_WIDTH, 0, 1)
    bow = 1 - 0.10 * np.exp(-((u / 0.12) ** 2))
    upper = np.clip(1 - u**2.0, 0, 1) ** 0.8 * bow
    lower = np.clip(1 - u**2.6, 0, 1) ** 0.8
    for index, loop in enumerate(left):
        lift = np.where(
            cosine > 1e-9,
            _UPPER_LIP[index] * upper,
            np.where(cosine < -1e-9, _LOWER_LIP[index] * lower, 0),
        )
        corner_dimple = np.exp(-(((u - 1) / 0.12) ** 2)) * (1 - index / (MOUTH_LOOPS - 1)) ** 2
        lift = lift - 1.3 * corner_dimple
        vertices[loop, 2] += lift
        vertices[loop, 0] += 0.15 * lift * u
    vertices[right] = vertices[left] * MIRROR
    return vertices


def add_mouth_bag(
    vertices: _Vertices, faces: _Faces, contact: Int[np.ndarray, " 52"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Lead the skin over the back of the lips into a closed bag.

    Returns:
        Vertices, faces, the six new loops, and the vertex that closes the bag.
    """
    angle = np.arange(MOUTH_POINTS) / MOUTH_POINTS * 2 * np.pi
    sine, cosine = np.sin(angle), np.cos(angle)
    lip = vertices[contact]

    def behind(narrowing: float, spread: float, depth: float) -> np.ndarray:
        offset = np.stack([0 * sine, spread * cosine, -depth + 0 * sine], 1)
        return lip * np.array([narrowing, 1, 1]) + offset

    blocks = [behind(0.985, 0.5, 2.2), behind(0.97, 5.0, 5.5)]
    for half_width, half_height, z, curve in _BAG:
        y = MOUTH_Y - 1 + half_height * cosine
        blocks.append(np.stack([half_width * sine, y, z - curve * sine**2], 1))
    start = len(vertices)
    cavity = start + np.arange(len(blocks) * MOUTH_POINTS).reshape(-1, MOUTH_POINTS)
    pole = start + cavity.size
    loops = [contact, *cavity]
    strips = [loop_strip(a, b) for a, b in pairwise(loops)]
    last = cavity[-1]
    strips.append(np.stack([last, np.full(MOUTH_POINTS, pole), np.roll(last, -1)], 1))
    end = np.array([[0, MOUTH_Y - 1, _BAG_END_Z]])
    vertices = np.concatenate([vertices, *blocks, end])
    return vertices, np.concatenate([faces, *strips]), cavity, pole

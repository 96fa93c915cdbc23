"""The bald head as a signed distance sculpt: ellipsoids and capsules under smooth minima.

Millimetres; x to the subject's left, y up with 0 on the eye line, z out of the face. Proportions
are typed in from drawing canons (halves and thirds of the face, five eye widths), not measured on
anyone. To change the face, change one ``Stroke`` at a time and judge in three-quarter view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vultus.heads.procedural.falloffs import smooth_max, smooth_min

__all__ = [
    "EYE_CENTER",
    "EYE_RADIUS",
    "JAW_HINGE",
    "LID_CLEARANCE",
    "MIRROR",
    "NECK_JOINT",
    "SKULL_CORE",
    "Capsule",
    "Ellipsoid",
    "Stroke",
    "cast_rays",
    "front_hit",
    "head_distance",
    "head_gradient",
]

_EYE_CENTER = (31.5, 0.0, 65.0)
EYE_CENTER = np.array(_EYE_CENTER)
"""Centre of the left globe."""
EYE_RADIUS = 13.2
"""A touch larger than life; it reads friendlier."""
LID_CLEARANCE = 0.95
"""Smallest distance of a lid from the globe."""
SKULL_CORE = np.array([0.0, -8.0, 4.0])
"""Every skin vertex above the neck is visible from here."""
JAW_HINGE = np.array([0.0, -10.0, 2.0])
"""The hinge axis passes here along x, in front of the ear canal."""
NECK_JOINT = np.array([0.0, -95.0, -28.0])
MIRROR = np.array([-1.0, 1.0, 1.0])
"""Multiply a point of the left half to get its partner on the right."""

_MIDLINE_ROUNDING = 2.0
"""mm²: ``sqrt(x² + 2)`` in place of ``|x|``, which would crease the middle of the face."""

_Points = Float[np.ndarray, "n 3"]
# Tables of whole millimetres read better without ".0".
_Number = float | int
_Triple = tuple[_Number, _Number, _Number]


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, turned by ``yaw`` about y and then ``pitch`` about x (radians)."""

    center: _Triple
    radii: _Triple
    yaw: float = 0.0
    pitch: float = 0.0

    def distance(self, points: _Points) -> Float[np.ndarray, " n"]:
        """First-order estimate of the signed distance, exact for spheres."""
        q = points - np.array(self.center)
        if self.yaw:
            s, c = np.sin(self.yaw), np.cos(self.yaw)
            q = np.stack([c * q[:, 0] - s * q[:, 2], q[:, 1], s * q[:, 0] + c * q[:, 2]], 1)
        if self.pitch:
            s, c = np.sin(self.pitch), np.cos(self.pitch)
            q = np.stack([q[:, 0], c * q[:, 1] - s * q[:, 2], s * q[:, 1] + c * q[:, 2]], 1)
        radii = np.array(self.radii)
        level = np.sqrt(((q / radii) ** 2).sum(1)) + 1e-9
        slope = np.sqrt(((q / radii**2) ** 2).sum(1)) + 1e-9
        return level * (level - 1.0) / slope


@dataclass(frozen=True)
class Capsule:
    """A segment with a radius that changes linearly; ``depth_scale`` squashes space along z."""

    start: _Triple
    end: _Triple
    start_radius: _Number
    end_radius: _Number
    depth_scale: float = 1.0

    def distance(self, points: _Points) -> Float[np.ndarray, " n"]:
        """Distance to the segment minus the radius at the foot point."""
        q = points * np.array([1.0, 1.0, self.depth_scale])
        start = np.array(self.start)
        axis = np.array(self.end) - start
        h = np.clip(((q - start) @ axis) / (axis @ axis), 0, 1)
        radius = self.start_radius + (self.end_radius - self.start_radius) * h
        return np.sqrt(((q - start - h[:, None] * axis) ** 2).sum(1)) - radius


@dataclass(frozen=True)
class Stroke:
    """One step of the sculpt: add (or carve) a shape, or a group of strokes made beforehand."""

    shape: Ellipsoid | Capsule | tuple[Stroke, ...]
    blend: _Number = 0.0
    """Radius (mm) of the rounding where the shape meets what is there; 0 only for the first."""
    is_paired: bool = False
    """The shape is described on the left and mirrored."""
    is_carved: bool = False


_NOSE = (
    Stroke(Capsule((0, 4, 77), (0, -31, 97), 5.6, 7.2)),
    Stroke(Ellipsoid((0, -35, 99), (9.0, 8.2, 9.5)), 6),
    Stroke(Ellipsoid((10.6, -40.0, 90.5), (5.8, 6.4, 9.0), yaw=0.35), 7.5, is_paired=True),  # wings
    Stroke(Capsule((0, -42, 101), (0, -47, 90), 3.4, 4.2), 4),  # columella
)
_NECK = (
    Stroke(Capsule((0, -50, -22), (0, -200, -34), 46, 48, depth_scale=0.92)),
    Stroke(Capsule((52, -40, -24), (13, -190, 10), 7, 8), 18, is_paired=True),  # sternomastoid
    Stroke(Ellipsoid((0, -143, 12), (9, 11, 11)), 18),  # larynx
    # The trapezius starts low; if it starts high, the head sits on a cone.
    Stroke(Capsule((20, -128, -50), (110, -222, -46), 10, 24), 34, is_paired=True),
)
_LID_RADIUS = EYE_RADIUS + LID_CLEARANCE
_HEAD = (
    # Cranium.
    Stroke(Ellipsoid((0, 36, -16), (74.5, 79, 87))),
    Stroke(Ellipsoid((0, 34, 20), (61, 56, 67)), 24),  # frontal bone
    Stroke(Ellipsoid((0, 10, -42), (64, 56, 60)), 20),  # occiput
    # Face mass. Ridges need wide blends (20 to 26 mm), or they look like armour.
    Stroke(Ellipsoid((0, -28, 28), (60, 60, 55)), 24),
    Stroke(Ellipsoid((43, -22, 49), (18, 17, 20), yaw=0.55), 24, is_paired=True),  # zygoma
    Stroke(Capsule((50, -14, 48), (63, -8, 4), 6.5, 6), 26, is_paired=True),  # zygomatic arch
    Stroke(Ellipsoid((0, -62, 34), (47, 40, 48)), 22),  # body of the jaw
    Stroke(Capsule((42, -70, 10), (12, -98, 66), 11, 12), 22, is_paired=True),  # mandible border
    Stroke(Capsule((51, -20, 2), (42, -70, 10), 12, 11), 22, is_paired=True),  # ramus
    Stroke(Ellipsoid((0, -66, 62), (31, 27, 28.5)), 16),  # muzzle
    Stroke(Ellipsoid((0, -100, 75.0), (15, 11.5, 13.0)), 15),  # chin
    Stroke(Ellipsoid((31, -44, 65), (17, 22, 14)), 16, is_paired=True),  # cheek fat
    Stroke(Ellipsoid((37, -46, 40), (20, 27, 22)), 20, is_paired=True),  # buccal fill
    # Brow and orbit.
    Stroke(Capsule((10, 14, 76.3), (43, 18, 59.5), 7.5, 7), 22, is_paired=True),
    Stroke(Ellipsoid((0, 15, 78), (14, 12, 10)), 16),  # glabella
    Stroke(
        Ellipsoid((32, -1.5, 89.3), (18, 10.5, 16), yaw=0.30), 14, is_paired=True, is_carved=True
    ),
    Stroke(Ellipsoid((14, -1, 87.0), (5.5, 8, 10)), 11, is_paired=True, is_carved=True),
    # The lids lie on a sphere around the globe, which melts into the orbit at the eye corners.
    Stroke(Ellipsoid(_EYE_CENTER, (_LID_RADIUS, _LID_RADIUS, _LID_RADIUS)), 7.0, is_paired=True),
    Stroke(_NOSE, 8.5),
    Stroke(
        Ellipsoid((6.6, -47.5, 96.0), (3.2, 4.4, 5.6), yaw=-0.35, pitch=0.35),
        2.5,
        is_paired=True,
        is_carved=True,
    ),
    # Philtrum and the fold between lower lip and chin.
    Stroke(Capsule((0, -50.5, 97.8), (0, -60, 98.6), 2.6, 3.6), 4, is_carved=True),
    Stroke(Capsule((0, -87, 99.0), (15, -85, 91), 7, 5), 9, is_paired=True, is_carved=True),
    Stroke(_NECK, 17),
)


def _evaluate(strokes: tuple[Stroke, ...], points: _Points, folded: _Points) -> np.ndarray:
    distance = np.empty(0)
    for index, stroke in enumerate(strokes):
        if isinstance(stroke.shape, tuple):
            shape = _evaluate(stroke.shape, points, folded)
        else:
            shape = stroke.shape.distance(folded if stroke.is_paired else points)
        if index == 0:
            distance = shape
        elif stroke.is_carved:
            distance = smooth_max(distance, -shape, stroke.blend)
        else:
            distance = smooth_min(distance, shape, stroke.blend)
    return distance


def head_distance(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Signed distance estimate (mm) of the bald head without ears, lips and lid folds."""
    folded = points.copy()
    folded[:, 0] = np.sqrt(points[:, 0] ** 2 + _MIDLINE_ROUNDING)
    return _evaluate(_HEAD, points, folded)


def head_gradient(points: Float[np.ndarray, "n 3"], step: float = 0.4) -> _Points:
    """Gradient of ``head_distance`` from the four corners of a tetrahedron of size ``step``."""
    corners = np.array([(1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)], float)
    gradient = np.zeros_like(points)
    for corner in corners:
        gradient += head_distance(points + step * corner)[:, None] * corner
    return gradient / (4 * step)


def cast_rays(
    origins: Float[np.ndarray, "#n 3"] | Float[np.ndarray, " 3"],
    directions: Float[np.ndarray, "n 3"],
    near: _Number,
    far: _Number,
    distance: Callable[[np.ndarray], np.ndarray] = head_distance,
    num_steps: int = 15,
) -> Float[np.ndarray, "n 3"]:
    """Find the surface on each ray by bisection; inside at ``near``, outside at ``far`` (mm)."""
    inner = np.full(len(directions), float(near))
    outer = np.full(len(directions), float(far))
    for _ in range(num_steps):
        middle = 0.5 * (inner + outer)
        is_inside = distance(origins + middle[:, None] * directions) < 0
        inner = np.where(is_inside, middle, inner)
        outer = np.where(is_inside, outer, middle)
    return origins + (0.5 * (inner + outer))[:, None] * directions


def front_hit(xy: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    """Surface point of the face at frontal coordinates (x, y)."""
    origins = np.column_stack([xy, np.zeros(len(xy))])
    return cast_rays(origins, np.tile([0.0, 0.0, 1.0], (len(xy), 1)), 15, 135)

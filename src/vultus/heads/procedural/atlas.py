"""Pack the parts of a head into one mesh and one texture atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vultus.heads.procedural.ears import build_ear
from vultus.heads.procedural.garment import build_garment
from vultus.heads.procedural.hair import HAIR_STYLES, build_hair
from vultus.heads.procedural.loops import LID_POINTS
from vultus.heads.procedural.parts import (
    Attachment,
    PartMesh,
    build_eyeball,
    build_lashes,
    build_teeth,
    build_tongue,
)
from vultus.heads.procedural.sculpt import MIRROR
from vultus.heads.procedural.template import SkinTemplate

__all__ = ["ATLAS", "PART_NAMES", "PartRange", "Rectangle", "assemble", "head_parts", "part_ranges"]


@dataclass(frozen=True)
class Rectangle:
    """A rectangle of the atlas in texture coordinates, v up."""

    left: float
    bottom: float
    right: float
    top: float

    def place(self, uv: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Map the unit square into the rectangle."""
        size = np.array([self.right - self.left, self.top - self.bottom])
        return uv * size + np.array([self.left, self.bottom])


ATLAS = {
    "skin": Rectangle(0.0, 0.30, 1.0, 1.0),
    "hair": Rectangle(0.0, 0.0, 0.40, 0.295),
    "eye": Rectangle(0.41, 0.045, 0.66, 0.295),
    "ear": Rectangle(0.67, 0.085, 0.88, 0.295),
    "teeth": Rectangle(0.41, 0.0, 0.66, 0.04),
    "tongue": Rectangle(0.885, 0.19, 0.995, 0.295),
    "mouth": Rectangle(0.885, 0.085, 0.995, 0.185),
    "lash": Rectangle(0.67, 0.0, 0.70, 0.03),
    "garment": Rectangle(0.71, 0.0, 0.995, 0.08),
}
"""Where each material lies; both ears, both eyes and all lashes share one place."""

PART_NAMES = (
    "skin",
    "left_eye",
    "right_eye",
    "upper_teeth",
    "lower_teeth",
    "tongue",
    "left_ear",
    "right_ear",
    "left_upper_lashes",
    "left_lower_lashes",
    "right_upper_lashes",
    "right_lower_lashes",
    "garment",
    "hair",
    "bun",
)
"""Order of the parts in the head's vertices and faces; hair last, because styles change it."""

_SKIN_CENTER = np.array([0.0, -8.0, -8.0])
# Elevation (degrees) to v of the skin's chart: the face is magnified.
_ELEVATIONS = (-75, -55, -40, 0, 50, 90)
_V_OF_ELEVATION = (0.12, 0.17, 0.25, 0.56, 0.90, 0.995)
_FACE_MAGNIFICATION = 1.75
_NECK_END_V = 0.005


@dataclass(frozen=True)
class PartRange:
    """Where a part lies in the assembled head."""

    vertices: slice
    faces: slice


def head_parts(skin: SkinTemplate) -> tuple[list[PartMesh], list[Attachment]]:
    """Build every part, hair in an arbitrary style, in the order of ``PART_NAMES``.

    Returns:
        The parts, and what the four lashes and the garment hang on.
    """
    eye, ear = build_eyeball(), build_ear()
    parts = [_skin_part(skin), _in(eye, "eye"), _in(eye.mirrored(), "eye")]
    parts += [_in(build_teeth(is_upper=is_upper), "teeth") for is_upper in (True, False)]
    parts += [_in(build_tongue(), "tongue"), _in(ear, "ear"), _in(ear.mirrored(), "ear")]
    roots = []
    half = LID_POINTS // 2
    for loops, is_right in ((skin.left_lids, False), (skin.right_lids, True)):
        for is_upper in (True, False):
            loop = loops[0]
            lower = np.concatenate([loop[half:], loop[:1]])[::-1]
            index = loop[: half + 1] if is_upper else lower
            margin = skin.vertices[index] * (MIRROR if is_right else 1)
            lashes, root = build_lashes(margin, index, is_upper=is_upper)
            parts.append(_in(lashes.mirrored() if is_right else lashes, "lash"))
            roots.append(root)
    garment, root = build_garment(skin)
    parts.append(_in(garment, "garment"))
    roots.append(root)
    cap, bun = build_hair(HAIR_STYLES["crop"])
    return [*parts, _in(cap, "hair"), _in(bun, "hair")], roots


def part_ranges(parts: list[PartMesh]) -> Int[np.ndarray, "p 4"]:
    """First and last vertex (exclusive), first and last face of each part."""
    ends = np.cumsum([[len(p.vertices), len(p.faces)] for p in parts], axis=0)
    starts = np.concatenate([[[0, 0]], ends[:-1]])
    return np.stack([starts[:, 0], ends[:, 0], starts[:, 1], ends[:, 1]], 1)


def assemble(parts: list[PartMesh]) -> PartMesh:
    """Concatenate parts; texture coordinates must be in the atlas already."""
    vertex_start = np.cumsum([0] + [len(part.vertices) for part in parts])
    uv_start = np.cumsum([0] + [len(part.uv) for part in parts])
    return PartMesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([p.faces + s for p, s in zip(parts, vertex_start, strict=False)]),
        np.concatenate([part.uv for part in parts]),
        np.concatenate([p.uv_faces + s for p, s in zip(parts, uv_start, strict=False)]),
    )


def _in(part: PartMesh, rectangle: str) -> PartMesh:
    return PartMesh(part.vertices, part.faces, ATLAS[rectangle].place(part.uv), part.uv_faces)


def _skin_part(skin: SkinTemplate) -> PartMesh:
    """Angle chart for the head, arc length for the neck, an island for the mouth bag."""
    uv = ATLAS["skin"].place(_skin_chart(skin))
    uv, uv_faces = _cut_seam(uv, skin.faces)
    in_bag = np.zeros(len(skin.vertices), bool)
    in_bag[np.append(skin.cavity.ravel(), skin.cavity_pole)] = True
    is_bag = in_bag[skin.faces].any(1)
    uv_faces[is_bag] = skin.faces[is_bag] + len(uv)
    return PartMesh(skin.vertices, skin.faces, np.concatenate([uv, _bag_chart(skin)]), uv_faces)


def _skin_chart(skin: SkinTemplate) -> Float[np.ndarray, "v 2"]:
    """Cylinder-like chart with the seam at the back."""
    x, y, z = (skin.vertices - _SKIN_CENTER).T
    azimuth = np.arctan2(x, z)
    turn = np.abs(azimuth) / np.pi
    stretched = _FACE_MAGNIFICATION * turn - (_FACE_MAGNIFICATION - 1) * turn**2
    u = 0.5 + 0.5 * np.sign(azimuth) * stretched
    elevation = np.degrees(np.arctan2(y, np.hypot(x, z)))
    chart = np.stack([u, np.interp(elevation, _ELEVATIONS, _V_OF_ELEVATION)], 1)
    first = chart[skin.neck[0]]
    for index, loop in enumerate(skin.neck):
        t = index / (len(skin.neck) - 1)
        chart[loop, 0] = first[:, 0]
        chart[loop, 1] = first[:, 1] * (1 - t) + _NECK_END_V * t
    return chart


def _cut_seam(
    uv: Float[np.ndarray, "v 2"], faces: Int[np.ndarray, "f 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """Give faces across the seam their own coordinates on the right border."""
    uv_faces = faces.copy()
    wraps = np.ptp(uv[faces][:, :, 0], axis=1) > 0.5
    corners = wraps[:, None] & (uv[faces][:, :, 0] <= 0.5)
    uv_faces[corners] = len(uv) + np.arange(corners.sum())
    uv = np.concatenate([uv, uv[faces[corners]] + np.array([1.0, 0.0])])
    uv[:, 0] = np.clip(uv[:, 0], 0.002, 0.998)
    return uv, uv_faces


def _bag_chart(skin: SkinTemplate) -> Float[np.ndarray, "v 2"]:
    """Rings around the pole of the mouth bag; zero for all other vertices."""
    chart = np.zeros((len(skin.vertices), 2))
    loops = [skin.mouth[0], *skin.cavity]
    for index, loop in enumerate(loops):
        angle = np.arange(len(loop)) / len(loop) * 2 * np.pi
        radius = 0.49 * (1 - index / len(loops))
        ring = 0.5 + radius * np.stack([np.sin(angle), np.cos(angle)], 1)
        chart[loop] = ATLAS["mouth"].place(ring)
    chart[[skin.cavity_pole]] = ATLAS["mouth"].place(np.array([[0.5, 0.5]]))
    return chart

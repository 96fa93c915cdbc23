"""Everything about the head that code alone determines, as arrays (mm), cached on disk."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from vultus.heads.blendshapes import ARKIT_NAMES
from vultus.heads.procedural.atlas import (
    PART_NAMES,
    PartRange,
    assemble,
    head_parts,
    part_ranges,
)
from vultus.heads.procedural.cache import cached_arrays
from vultus.heads.procedural.expressions import expression_shapes
from vultus.heads.procedural.hair import HAIR_STYLES, HairStyle, build_hair
from vultus.heads.procedural.identity import IDENTITY_NAMES, identity_fields
from vultus.heads.procedural.parts import Attachment
from vultus.heads.procedural.sculpt import EYE_CENTER, MIRROR
from vultus.heads.procedural.template import build_skin
from vultus.heads.procedural.weights import (
    JOINTS,
    jaw_weights,
    region_labels,
    skinning_weights,
)

__all__ = ["EXPRESSION_NAMES", "Hair", "HeadBasis", "cut_hair", "load_basis", "load_hair"]

EXPRESSION_NAMES = tuple(ARKIT_NAMES)
"""Names of the expression coefficients in order."""

_FIRST_HAIR_PART = "hair"
# Rigid parts take the value of the identity fields at one point, and of which axes.
_TEETH_AXES = np.array([0.0, 1.0, 1.0])
_RIGID_POINTS = {
    "left_eye": EYE_CENTER,
    "right_eye": EYE_CENTER * MIRROR,
    "upper_teeth": np.array([0, -70.0, 78]),
    "lower_teeth": np.array([0, -76.0, 80]),
    "tongue": np.array([0, -78.0, 60]),
}
_INNER_MOUTH = ("upper_teeth", "lower_teeth", "tongue")
_ARCH_WIDENING = 0.04
"""``face_width`` also widens the dental arches."""


@dataclass(frozen=True)
class HeadBasis:
    """Body without hair (``u`` vertices) and the topology of the whole (``v``)."""

    vertices: Float[np.ndarray, "u 3"]
    identity_modes: Float[np.ndarray, "28 u 3"]
    joint_modes: Float[np.ndarray, "28 5 3"]
    expression_shapes: Float[np.ndarray, "52 u 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "t 2"]
    uv_faces: Int[np.ndarray, "f 3"]
    labels: Int[np.ndarray, " v"]
    skinning_weights: Float[np.ndarray, "v 5"]
    joints: Float[np.ndarray, "5 3"]
    ranges: Int[np.ndarray, "p 4"]
    left_lids: Int[np.ndarray, "8 40"]
    right_lids: Int[np.ndarray, "8 40"]
    left_rims: Int[np.ndarray, "2 40"]
    right_rims: Int[np.ndarray, "2 40"]
    mouth: Int[np.ndarray, "9 52"]
    lash_starts: Int[np.ndarray, " l"]
    lash_ends: Int[np.ndarray, " l"]
    lash_fractions: Float[np.ndarray, " l"]

    @property
    def parts(self) -> dict[str, PartRange]:
        """Where each part lies."""
        return _named_ranges(self.ranges)

    @property
    def lashes(self) -> slice:
        """The vertices of all lashes."""
        return _lash_range(self.parts)


@dataclass(frozen=True)
class Hair:
    """One style: vertices and identity modes of the cap and the bun."""

    vertices: Float[np.ndarray, "h 3"]
    identity_modes: Float[np.ndarray, "28 h 3"]


def load_basis() -> HeadBasis:
    """The basis from the cache, built first if need be (about a second)."""
    return HeadBasis(**cached_arrays("basis", _build_basis))


def load_hair(style: str, seed: int) -> Hair:
    """The hair of a style from the cache, built first if need be.

    Raises:
        ValueError: If the style is unknown.
    """
    if style not in HAIR_STYLES:
        raise ValueError(f"hair_style must be one of {', '.join(HAIR_STYLES)}, got {style!r}")

    def build() -> dict[str, np.ndarray]:
        return _hair_arrays(HAIR_STYLES[style], seed)

    return Hair(**cached_arrays("hair", build, style, seed))


def cut_hair(style: HairStyle, seed: int) -> Hair:
    """The hair of any style, built anew (some 0.1 s): nothing of it is kept."""
    return Hair(**_hair_arrays(style, seed))


def _hair_arrays(style: HairStyle, seed: int) -> dict[str, np.ndarray]:
    points = np.concatenate([part.vertices for part in build_hair(style, seed)])
    return _as_float32({"vertices": points, "identity_modes": identity_fields(points)})


def _build_basis() -> dict[str, np.ndarray]:
    skin = build_skin()
    parts, roots = head_parts(skin)
    head = assemble(parts)
    table = part_ranges(parts)
    ranges = _named_ranges(table)
    jaw = jaw_weights(skin)
    body = head.vertices[: ranges[_FIRST_HAIR_PART].vertices.start]
    lashes = _lash_range(ranges)
    root = _joined(roots)
    attached = slice(lashes.start, ranges["garment"].vertices.stop)
    shapes = expression_shapes(
        EXPRESSION_NAMES,
        body,
        skin,
        jaw,
        ranges["lower_teeth"].vertices,
        ranges["tongue"].vertices,
    )
    _follow_skin(shapes, root, attached)
    modes, joint_modes = _identity_modes(body, ranges)
    _follow_skin(modes, root, attached)
    weights = skinning_weights(head.vertices, jaw, ranges)
    _follow_skin(weights[None], root, attached)
    on_lids = slice(0, lashes.stop - lashes.start)
    return _as_float32(
        {
            "vertices": body,
            "identity_modes": modes,
            "joint_modes": joint_modes,
            "expression_shapes": shapes,
            "faces": head.faces,
            "uv": head.uv,
            "uv_faces": head.uv_faces,
            "labels": region_labels(head.vertices, skin, ranges),
            "skinning_weights": weights,
            "joints": JOINTS,
            "ranges": table,
            "left_lids": skin.left_lids,
            "right_lids": skin.right_lids,
            "left_rims": skin.left_rims,
            "right_rims": skin.right_rims,
            "mouth": skin.mouth,
            "lash_starts": root.start[on_lids],
            "lash_ends": root.end[on_lids],
            "lash_fractions": root.fraction[on_lids],
        }
    )


def _as_float32(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: value.astype(np.float32 if value.dtype.kind == "f" else np.int64)
        for name, value in arrays.items()
    }


def _named_ranges(table: np.ndarray) -> dict[str, PartRange]:
    return {
        name: PartRange(slice(first, last), slice(first_face, last_face))
        for name, (first, last, first_face, last_face) in zip(
            PART_NAMES, table.tolist(), strict=True
        )
    }


def _lash_range(ranges: dict[str, PartRange]) -> slice:
    start = ranges["left_upper_lashes"].vertices.start
    return slice(start, ranges["right_lower_lashes"].vertices.stop)


def _joined(attachments: list[Attachment]) -> Attachment:
    columns = ([getattr(a, field.name) for a in attachments] for field in fields(Attachment))
    return Attachment(*map(np.concatenate, columns))


def _follow_skin(shapes: np.ndarray, root: Attachment, attached: slice) -> None:
    """Let lashes copy the lid margin that they grow from, and the garment the neck, in place."""
    fraction = root.fraction[:, None]
    shapes[:, attached] = shapes[:, root.start] * (1 - fraction) + shapes[:, root.end] * fraction


def _identity_modes(
    body: np.ndarray, ranges: dict[str, PartRange]
) -> tuple[np.ndarray, np.ndarray]:
    """Modes of the vertices and of the joints; eyes, teeth and tongue move rigidly."""
    modes = identity_fields(body)
    points = identity_fields(np.stack(list(_RIGID_POINTS.values())))
    for index, name in enumerate(_RIGID_POINTS):
        modes[:, ranges[name].vertices] = points[:, None, index]
    for name in _INNER_MOUTH:
        part = ranges[name].vertices
        modes[:, part] *= _TEETH_AXES
        modes[IDENTITY_NAMES.index("lip_fullness"), part] = 0
        modes[IDENTITY_NAMES.index("face_width"), part, 0] = _ARCH_WIDENING * body[part, 0]
    joint_modes = np.zeros((len(modes), len(JOINTS), 3))
    joint_modes[:, 3:5] = points[:, :2]
    return modes, joint_modes

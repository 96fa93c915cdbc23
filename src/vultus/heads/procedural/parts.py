"""Globes, teeth, tongue and lashes: small grids beside the skin (mm)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vultus.heads.procedural.loops import MOUTH_Y
from vultus.heads.procedural.mesh_graph import grid_faces
from vultus.heads.procedural.sculpt import EYE_CENTER, EYE_RADIUS, MIRROR

__all__ = [
    "EYE_TEXTURE_ANGLE",
    "IRIS_ANGLE",
    "TONGUE_COLUMNS",
    "TONGUE_ROWS",
    "Attachment",
    "PartMesh",
    "build_eyeball",
    "build_lashes",
    "build_teeth",
    "build_tongue",
    "fan_faces",
]

EYE_TEXTURE_ANGLE = 2.6
"""Angle (radians) from the front pole that the globe and its polar texture reach."""
IRIS_ANGLE = 0.50
_CORNEA_ANGLE, _CORNEA_BULGE = 0.52, 0.85

TONGUE_ROWS, TONGUE_COLUMNS = 14, 16

_LASHES_PER_LID = 28
# Upper, lower: longer than this and every face becomes a doll.
_LASH_LENGTH = (6.6, 2.9)
_LASH_HALF_WIDTH = (0.24, 0.15)

_Points = Float[np.ndarray, "n 3"]


@dataclass(frozen=True)
class PartMesh:
    """A part before it is packed into the head."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    uv: Float[np.ndarray, "t 2"]
    """Within the part's rectangle of the atlas."""
    uv_faces: Int[np.ndarray, "f 3"]

    def mirrored(self) -> PartMesh:
        """The same part on the other side."""
        return PartMesh(
            self.vertices * MIRROR, self.faces[:, ::-1], self.uv, self.uv_faces[:, ::-1]
        )

    def moved(self, offset: Float[np.ndarray, " 3"]) -> PartMesh:
        """The part at another place."""
        return PartMesh(self.vertices + offset, self.faces, self.uv, self.uv_faces)


@dataclass(frozen=True)
class Attachment:
    """What a part's vertices hang on: a point at ``fraction`` between two vertices of the skin."""

    start: Int[np.ndarray, " n"]
    end: Int[np.ndarray, " n"]
    fraction: Float[np.ndarray, " n"]


def fan_faces(pole: int, ring: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n 3"]:
    """Triangles from a pole to the consecutive vertices of a closed ring."""
    return np.stack([np.full(len(ring), pole), np.roll(ring, -1), ring], 1)


def build_eyeball() -> PartMesh:
    """Left globe with a corneal bulge, open at the back; its texture is a polar map."""
    num_rows, num_columns = 22, 32
    front = np.linspace(0, 0.58, 13)[1:-1]
    polar = np.concatenate([front, np.linspace(0.58, EYE_TEXTURE_ANGLE, num_rows - 12)])
    azimuth = np.arange(num_columns) / num_columns * 2 * np.pi
    bulge = np.clip(1 - (polar / _CORNEA_ANGLE) ** 2, 0, 1) ** 1.2
    radius = EYE_RADIUS + _CORNEA_BULGE * bulge
    theta, phi = (grid.ravel() for grid in np.meshgrid(polar, azimuth, indexing="ij"))
    radius = np.repeat(radius, num_columns)
    around = np.stack([np.cos(phi), np.sin(phi)], 1)
    sphere = np.column_stack([np.sin(theta)[:, None] * around, np.cos(theta)]) * radius[:, None]
    pole = np.array([[0, 0, EYE_RADIUS + _CORNEA_BULGE]])
    uv = 0.5 + (theta / EYE_TEXTURE_ANGLE * 0.49)[:, None] * around
    rows = grid_faces(len(polar), num_columns, is_closed=True)[:, ::-1] + 1
    faces = np.concatenate([fan_faces(0, 1 + np.arange(num_columns))[:, ::-1], rows])
    uv = np.concatenate([[[0.5, 0.5]], uv])
    return PartMesh(np.concatenate([pole, sphere]) + EYE_CENTER, faces, uv, faces)


@dataclass(frozen=True)
class _Arch:
    """Sizes of a dental arch (mm); teeth from the middle outwards."""

    widths: tuple[float, ...]
    heights: tuple[float, ...]
    front_z: float
    curvature: float
    edge_y: float
    bite_curve: float
    down: int
    """1 where teeth grow upwards from the edge line to the gum below (lower arch), else -1."""


_UPPER_ARCH = _Arch(
    (8.4, 6.8, 7.6, 7.0, 6.8, 9.5, 9.5),
    (10.0, 8.8, 9.8, 8.4, 8.0, 7.2, 7.0),
    83.5,
    0.036,
    MOUTH_Y - 3.2,
    0.0009,
    -1,
)
_LOWER_ARCH = _Arch(
    (5.6, 6.0, 6.9, 7.0, 7.0, 10.0, 9.5),
    (8.6, 8.8, 9.6, 8.4, 8.0, 7.2, 7.0),
    79.5,
    0.040,
    MOUTH_Y - 3.0,
    0.0008,
    1,
)
# Rows of the strip: (mm outward, fraction of the tooth's height from the biting edge); above 1
# is gum.
_TOOTH_PROFILE = (
    (-6.5, 1.25),
    (-6.0, 0.6),
    (-4.6, 0.08),
    (-2.8, 0.0),
    (-1.2, 0.02),
    (-0.35, 0.14),
    (0.25, 0.45),
    (0.1, 0.80),
    (-0.35, 1.0),
    (0.9, 1.10),
    (0.2, 1.35),
    (-5.0, 1.5),
)
_COLUMNS_PER_TOOTH = 5
_ROOT_HEIGHT = 9.0


def build_teeth(*, is_upper: bool) -> PartMesh:
    """One dental arch as a strip of rounded teeth with gum, from behind over the edge to the gum.

    Texture: u along the arch, v over the profile; above 0.7 is gum.
    """
    arch = _UPPER_ARCH if is_upper else _LOWER_ARCH
    widths = np.array(arch.widths[::-1] + arch.widths)
    heights = np.array(arch.heights[::-1] + arch.heights)
    count = len(widths) * _COLUMNS_PER_TOOTH + 1
    column = np.arange(count)
    tooth = np.minimum(column // _COLUMNS_PER_TOOTH, len(widths) - 1)
    across = (column - tooth * _COLUMNS_PER_TOOTH) / _COLUMNS_PER_TOOTH
    edges = np.concatenate([[0], np.cumsum(widths)])
    x, z, normal_x, normal_z = _arch_frame(
        arch, edges[tooth] - edges[-1] / 2 + across * widths[tooth]
    )
    from_middle = np.abs(2 * across - 1)
    gap = 1 - np.clip(1 - from_middle**5, 0, 1)  # 1 between two teeth
    curve = arch.bite_curve * x**2
    rows, uv = [], []
    for index, (outward, height) in enumerate(_TOOTH_PROFILE):
        out = outward - gap * (1.6 if height < 0.9 else 0.0)
        if height > 1.2:
            along = np.full(count, height * _ROOT_HEIGHT)
        else:
            tip = gap * 0.9 * (height < 0.2)
            scallop = from_middle**2 * 1.3 * (abs(height - 1.05) < 0.12)
            along = height * heights[tooth] + tip - scallop
        y = arch.edge_y - arch.down * along + curve
        rows.append(np.stack([x + normal_x * out, y, z + normal_z * out], 1))
        v = np.full(count, (index + 0.5) / len(_TOOTH_PROFILE))
        uv.append(np.stack([column / (count - 1), v], 1))
    faces = grid_faces(len(rows), count)
    if not is_upper:
        faces = faces[:, ::-1]
    return PartMesh(np.concatenate(rows), faces, np.concatenate(uv), faces)


def _arch_frame(arch: _Arch, length: np.ndarray) -> tuple[np.ndarray, ...]:
    """Position and outward normal in the horizontal plane at signed arc lengths from the middle."""
    xs = np.linspace(-30, 30, 801)
    zs = arch.front_z - arch.curvature * xs**2 * (1 + 0.0004 * xs**2)
    arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(xs), np.diff(zs)))])
    arc -= arc[-1] / 2
    x, z = np.interp(length, arc, xs), np.interp(length, arc, zs)
    tangent_x, tangent_z = np.gradient(x), np.gradient(z)
    norm = np.hypot(tangent_x, tangent_z)
    return x, z, -tangent_z / norm, tangent_x / norm


def build_tongue() -> PartMesh:
    """Closed, flattened capsule from the root (row 0) to the tip; then the two end poles."""
    t = np.linspace(0, 1, TONGUE_ROWS)
    angle = np.arange(TONGUE_COLUMNS) / TONGUE_COLUMNS * 2 * np.pi
    tip = np.clip((t - 0.55) / 0.46, 0, 1) ** 2.4
    half_width = 17.5 * np.sqrt(np.clip(1 - tip, 0.0009, 1))
    half_width *= 0.75 + 0.25 * np.clip(t / 0.3, 0, 1)
    half_height = np.interp(t, [0, 0.5, 0.85, 1], [9, 8.0, 5.8, 1.6])
    y, z = -81 + 3.5 * np.sin(t * 2.6), 36 + 40 * t
    row, phi = np.meshgrid(np.arange(TONGUE_ROWS), angle, indexing="ij")
    groove = -1.4 * np.exp(-((np.cos(phi) / 0.16) ** 2)) * (np.sin(phi) > 0)
    rise = half_height[row] * np.sin(phi) + groove * (half_height[row] / 9)
    grid = np.stack([half_width[row] * np.cos(phi), y[row] + rise, z[row]], -1).reshape(-1, 3)
    uv = np.stack([np.abs(phi / np.pi - 1), row / (TONGUE_ROWS - 1)], -1).reshape(-1, 2)
    root, end = np.array([0, y[0], z[0] - 2.0]), np.array([0, y[-1], z[-1] + 0.3])
    vertices = np.concatenate([grid, [root, end]])
    uv = np.concatenate([uv, [[0.5, 0.0], [0.5, 1.0]]])
    count = len(grid)
    faces = np.concatenate(
        [
            grid_faces(TONGUE_ROWS, TONGUE_COLUMNS, is_closed=True),
            fan_faces(count, np.arange(TONGUE_COLUMNS)),
            fan_faces(count + 1, count - TONGUE_COLUMNS + np.arange(TONGUE_COLUMNS))[:, ::-1],
        ]
    )
    return PartMesh(vertices, faces, uv, faces)


def build_lashes(
    margin: Float[np.ndarray, "k 3"], margin_index: Int[np.ndarray, " k"], *, is_upper: bool
) -> tuple[PartMesh, Attachment]:
    """Tapered spikes of five vertices, rooted on a lid margin of the left eye.

    Args:
        margin: Positions from the inner to the outer corner.
        margin_index: The same vertices in the skin (for the right eye: its partners).
        is_upper: Upper lashes are longer and curl up.
    """
    rng = np.random.default_rng(3 + is_upper)
    lid = 0 if is_upper else 1
    length, half_width = _LASH_LENGTH[lid], _LASH_HALF_WIDTH[lid]
    curl = np.array([0, 1.0 if is_upper else -0.8, 0])
    vertices, segments, fractions = [], [], []
    for index in range(_LASHES_PER_LID):
        s = (index + 0.5) / _LASHES_PER_LID
        position = 1.2 + s * (len(margin) - 3.0)
        segment = int(position)
        fraction = position - segment
        tangent = margin[segment + 1] - margin[segment]
        root = margin[segment] + fraction * tangent
        tangent = tangent / np.linalg.norm(tangent)
        outward = (root - EYE_CENTER) / np.linalg.norm(root - EYE_CENTER)
        fan = (s - 0.42) * (1.7 if is_upper else 1.3)
        reach = length * (0.55 + 0.45 * np.sin(np.pi * min(s * 0.85 + 0.12, 1)))
        reach *= rng.uniform(0.85, 1.1)
        direction = outward + np.array([fan, 0.05 if is_upper else -0.25, 0.15])
        direction /= np.linalg.norm(direction)
        middle = root + direction * reach * 0.5 + curl * reach * 0.06
        tip = root + direction * reach * 0.86 + curl * reach * 0.36
        side, narrow = tangent * half_width, tangent * half_width * 0.75
        vertices += [root - side, root + side, middle - narrow, middle + narrow, tip]
        segments += [segment] * 5
        fractions += [fraction] * 5
    first = 5 * np.arange(_LASHES_PER_LID)[:, None, None]
    faces = (first + np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4]])).reshape(-1, 3)
    start = np.array(segments)
    roots = Attachment(margin_index[start], margin_index[start + 1], np.array(fractions))
    return PartMesh(np.array(vertices), faces, np.full((len(vertices), 2), 0.5), faces), roots

"""Hair: one grid from the whorl to the tips. Styles move it; its topology never changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from vultus.heads.procedural.falloffs import bell, smoothstep
from vultus.heads.procedural.mesh_graph import grid_faces
from vultus.heads.procedural.parts import PartMesh, fan_faces
from vultus.heads.procedural.sculpt import cast_rays, head_distance

__all__ = [
    "HAIR_STYLES",
    "SCALP_CENTER",
    "HairStyle",
    "build_hair",
    "elevation_above_hairline",
    "hairline_elevation",
]

SCALP_CENTER = np.array([0.0, 18.0, -14.0])
"""Hairline and strands are described in directions from here."""
_COLUMNS, _ROWS = 104, 26
_BUN_COLUMNS, _BUN_ROWS = 18, 12
_WHORL_TILT = 0.30
_MEAN_SCALP_RADIUS = 98.0
_EAR_HALF_WIDTH = 93.0
"""Hanging hair is pushed out to this |x| beside the ears."""

_HAIRLINE_DEGREES = (0, 14, 26, 36, 46, 56, 66, 74, 82, 92, 104, 118, 135, 160, 180)
_HAIRLINE_ELEVATION = (
    *(32.5, 33.5, 35.5, 35, 27, 12, 0, -12),
    *(-18, -1, -6, -26, -42, -49, -50),
)

_NO_DROP = ((0.0, 0.0), (180.0, 0.0))


@dataclass(frozen=True)
class HairStyle:
    """A row of numbers in mm."""

    top: float
    side: float
    back: float
    """Thickness at the top, the sides and the back."""
    drop: tuple[tuple[float | int, float | int], ...] = _NO_DROP
    """How far strands hang below the hairline over |azimuth| in degrees (0 = front)."""
    flare: float = 0.0
    """Outward bow of hanging hair."""
    wave: float = 0.0
    clump: float = 1.0
    jag: float = 1.0
    """Unevenness of the tips."""
    part: float | int | None = None
    """x of the parting."""
    quiff: float | int = 0.0
    curl: float = 0.0
    has_bun: bool = False


HAIR_STYLES: dict[str, HairStyle] = {
    "buzz": HairStyle(top=2.0, side=1.4, back=1.6, clump=0.3),
    "crop": HairStyle(top=16.0, side=4.5, back=6.0, wave=1.0, clump=2.0, quiff=8, jag=3.0),
    "side": HairStyle(top=17.0, side=7.0, back=9.0, wave=1.2, clump=1.6, part=27, quiff=7, jag=4.0),
    "bob": HairStyle(
        top=12.0,
        side=12.0,
        back=14.0,
        drop=((0, 33), (26, 35), (40, 42), (52, 84), (62, 98), (90, 98), (140, 80), (180, 64)),
        flare=8.0,
        wave=1.0,
        clump=1.2,
        jag=2.0,
    ),
    "long": HairStyle(
        top=12.5,
        side=13.0,
        back=15.0,
        drop=(
            *((0, 2), (5, 8), (14, 34), (26, 62), (40, 104), (52, 134), (64, 146)),
            *((90, 150), (140, 134), (180, 120)),
        ),
        flare=11.0,
        wave=3.5,
        clump=1.6,
        part=3,
        jag=5.0,
    ),
    "bun": HairStyle(top=6.5, side=5.0, back=6.5, wave=0.2, clump=0.9, has_bun=True),
    "curly": HairStyle(
        top=31.0,
        side=27.0,
        back=30.0,
        drop=((0, -2), (60, 0), (80, 22), (110, 34), (180, 18)),
        flare=6.0,
        jag=3.0,
        curl=5.0,
    ),
}


def hairline_elevation(azimuth: np.ndarray) -> np.ndarray:
    """Elevation (radians, from ``SCALP_CENTER``) of the natural hairline; azimuth 0 = front."""
    folded = np.abs(np.degrees((azimuth + np.pi) % (2 * np.pi) - np.pi))
    return np.radians(np.interp(folded, _HAIRLINE_DEGREES, _HAIRLINE_ELEVATION))


def elevation_above_hairline(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Angle (radians) by which points lie above the hairline; negative below."""
    x, y, z = (points - SCALP_CENTER).T
    return np.arctan2(y, np.hypot(x, z)) - hairline_elevation(np.arctan2(x, z))


@dataclass(frozen=True)
class _Strands:
    """The grid of one style, rows from the whorl to the tips."""

    azimuth: np.ndarray
    """(columns,); the texture's seam is at the back."""
    folded: np.ndarray
    """|azimuth| in degrees."""
    drop: np.ndarray
    t: np.ndarray
    """(rows, 1) from 0 at the whorl to 1 at the tip."""
    on_scalp: np.ndarray
    """(rows, columns): fraction of the way to the hairline, 1 where the strand hangs."""
    directions: np.ndarray
    roots: np.ndarray
    """(rows, columns, 3): points on the scalp."""
    hanging: np.ndarray
    """(rows, columns): mm below the hairline."""


def build_hair(style: HairStyle, seed: int = 0) -> tuple[PartMesh, PartMesh]:
    """Hair cap and bun of one style; without a bun, a small one hides inside the skull.

    Args:
        style: Shape of the cut.
        seed: Places clumps, waves and uneven tips.
    """
    phase = np.random.default_rng(seed + 11).uniform(0, 2 * np.pi, 6)
    strands = _lay_strands(style.drop)
    outward = strands.roots - SCALP_CENTER
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    thickness = _thickness(style, strands, phase)
    grid = strands.roots + outward * thickness[..., None]
    grid, fall = _hang(style, strands, grid, outward, phase)
    points = _keep_outside(grid.reshape(-1, 3), fall.ravel())
    return _cap_mesh(points), _bun_mesh(_bun_points(style))


@lru_cache(maxsize=8)
def _lay_strands(drop_by_azimuth: tuple[tuple[float | int, float | int], ...]) -> _Strands:
    """Great circles from the whorl to the hairline; rows beyond it hang down."""
    azimuth = np.arange(_COLUMNS) / _COLUMNS * 2 * np.pi + np.pi
    folded = np.abs(np.degrees((azimuth + np.pi) % (2 * np.pi) - np.pi))
    elevation = hairline_elevation(azimuth)
    degrees, lengths = np.array(drop_by_azimuth).T
    drop = np.interp(folded, degrees, lengths)
    t = np.linspace(0, 1, _ROWS)[:, None]
    whorl = np.array([0, np.cos(_WHORL_TILT), -np.sin(_WHORL_TILT)])
    cosine = np.cos(elevation)
    end = np.stack([np.sin(azimuth) * cosine, np.sin(elevation), np.cos(azimuth) * cosine], 1)
    angle = np.arccos(np.clip(end @ whorl, -1, 1))
    arc = angle * _MEAN_SCALP_RADIUS
    share = arc / (arc + np.maximum(drop, 0))
    on_scalp = np.minimum(t / share, 1.0)
    from_whorl = np.sin((1 - on_scalp) * angle) / np.sin(angle)
    from_end = np.sin(on_scalp * angle) / np.sin(angle)
    directions = from_whorl[..., None] * whorl + from_end[..., None] * end
    roots = cast_rays(SCALP_CENTER, directions.reshape(-1, 3), 20, 175)
    below = np.clip((t - share) / np.maximum(1 - share, 1e-6), 0, 1)
    return _Strands(
        azimuth,
        folded,
        drop,
        t,
        on_scalp,
        directions,
        roots.reshape(_ROWS, _COLUMNS, 3),
        np.maximum(drop, 0) * below,
    )


def _thickness(style: HairStyle, strands: _Strands, phase: np.ndarray) -> np.ndarray:
    """Height of the cap over the scalp: style, quiff, parting, clumps and curls.

    Full thickness at the hairline is a helmet: it tapers over the last 30 % of a strand.
    """
    t, azimuth, directions = strands.t, strands.azimuth, strands.directions
    upward = np.clip((directions[..., 1] - 0.15) / 0.6, 0, 1)
    backward = np.clip(-directions[..., 2] + 0.2, 0, 1)
    around = style.side * (1 - backward) + style.back * backward
    thickness = around * (1 - upward) + style.top * upward
    lift = np.exp(-((strands.folded / 42) ** 2))
    thickness = thickness + style.quiff * lift * np.exp(-(((strands.on_scalp - 0.72) / 0.25) ** 2))
    if style.part is not None:
        x, z = strands.roots[..., 0] - style.part, strands.roots[..., 2]
        valley = np.exp(-((x / 7.0) ** 2)) * (z > -25) * (directions[..., 1] > 0.3)
        thickness = thickness * (1 - 0.72 * valley * smoothstep(0.05, 0.35, strands.on_scalp))
    edge = smoothstep(1.0, 0.70, t)
    is_hanging = strands.drop > 1
    taper = np.where(is_hanging, 0.35 + 0.65 * edge, edge)
    thickness = thickness * (0.25 + 0.75 * taper) * (0.35 + 0.65 * smoothstep(-0.05, 0.25, t + 0.1))
    twisted = azimuth + 0.35 * t * np.sin(3 * azimuth + phase[0])
    clumps = sum(
        np.sin(k * twisted + phase[i] + (2.0 * t if i % 2 else -1.5 * t)) / (1 + 0.35 * i)
        for i, k in enumerate((13, 23, 37, 52))
    )
    thickness = thickness + style.clump * 0.42 * clumps * smoothstep(0.12, 0.5, t) * taper
    curls = np.sin(17 * azimuth + 3 * np.sin(21 * t + phase[1]))
    curls = curls * np.sin(26 * t + 2.2 * np.sin(9 * azimuth + phase[2]))
    thickness = thickness + 0.55 * style.curl * taper * curls
    tucked = thickness * edge + 0.5 - 1.6 * smoothstep(0.93, 1.0, t)
    return np.where(is_hanging, thickness, tucked)


def _hang(
    style: HairStyle, strands: _Strands, grid: np.ndarray, outward: np.ndarray, phase: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Let rows beyond the hairline fall, flare and wave; returns the grid and mm of fall."""
    azimuth, hanging = strands.azimuth, strands.hanging
    jag = sum(np.sin(k * azimuth + phase[i]) for i, k in enumerate((9, 17, 31, 45)))
    jag = np.where(strands.drop > 1, style.jag * 0.4 * jag, 0)
    fall = hanging + jag * np.clip(hanging / 40, 0, 1)
    radial = outward * np.array([1, 0, 1])
    radial /= np.linalg.norm(radial, axis=-1, keepdims=True) + 1e-9
    u = np.clip(fall / 110, 0, 1.4)
    bow = style.flare * np.sin(np.clip(u, 0, 1) * np.pi * 0.9) - 9.0 * u * u
    wave = np.sin(fall / 13.0 + 3 * np.sin(azimuth * 2) + phase[3]) * np.clip(fall / 30, 0, 1)
    grid = grid + radial * (bow + style.wave * wave)[..., None]
    grid[..., 1] -= fall
    if style.quiff:  # locks end at slightly different places along the front
        front = np.exp(-((strands.folded / 40) ** 2)) * smoothstep(0.6, 1.0, strands.t)
        grid[..., 1] += front * 0.25 * style.jag * np.sin(19 * azimuth + phase[4])
    return grid, fall


def _keep_outside(points: np.ndarray, fall: np.ndarray) -> np.ndarray:
    """Push hanging hair off head, neck and ears."""
    low = fall > 0.5
    if not low.any():
        return points
    points = points.copy()
    hanging = points[low]
    radial = (hanging - np.array([0, 0, -26.0])) * np.array([1, 0, 1])
    radial /= np.linalg.norm(radial, axis=1, keepdims=True)
    points[low] += radial * np.maximum(0, 4.5 - head_distance(hanging))[:, None]
    x, y, z = points.T
    beside_ear = bell(np.hypot((y + 14) / 38, (z + 14) / 34), 0, 1)
    beside_ear = beside_ear * (np.abs(x) > 55) * (fall > 4)
    points[:, 0] += np.sign(x) * beside_ear * np.maximum(0, _EAR_HALF_WIDTH - np.abs(x))
    return points


def _bun_points(style: HairStyle) -> np.ndarray:
    radius = 27.0 if style.has_bun else 6.0
    center = np.array([0, 90.0, -97.0]) if style.has_bun else np.array([0, 40.0, -30.0])
    polar = np.linspace(0.02, np.pi - 0.02, _BUN_ROWS)
    azimuth = np.arange(_BUN_COLUMNS) / _BUN_COLUMNS * 2 * np.pi
    theta, phi = np.meshgrid(polar, azimuth, indexing="ij")
    wound = radius * (1 + 0.05 * np.sin(5 * phi + 4 * theta))
    around = np.sin(theta) * wound
    offset = np.stack(
        [around * np.cos(phi), around * np.sin(phi) * 0.95, -wound * np.cos(theta) * 0.85], -1
    )
    return center + offset.reshape(-1, 3)


def _cap_mesh(points: np.ndarray) -> PartMesh:
    """Mesh of the cap with a single vertex at the whorl; the texture has its own seam column."""
    grid = grid_faces(_ROWS, _COLUMNS, is_closed=True)
    grid = grid[(grid < _COLUMNS).sum(1) < 2]  # the first row is one point
    faces = np.maximum(grid - _COLUMNS + 1, 0)
    column, row = grid % _COLUMNS, grid // _COLUMNS
    wraps = np.ptp(column, axis=1) > _COLUMNS // 2
    column = np.where(wraps[:, None] & (column == 0), _COLUMNS, column)
    t, around = np.meshgrid(
        np.linspace(0, 1, _ROWS), np.arange(_COLUMNS + 1) / _COLUMNS, indexing="ij"
    )
    uv = np.stack([0.004 + 0.992 * around, 0.004 + 0.992 * t], -1).reshape(-1, 2)
    vertices = np.concatenate([points[:1], points[_COLUMNS:]])
    # Rows run outwards along increasing azimuth, which winds the grid inwards.
    return PartMesh(vertices, faces[:, ::-1], uv, (row * (_COLUMNS + 1) + column)[:, ::-1])


def _bun_mesh(points: np.ndarray) -> PartMesh:
    t, around = np.meshgrid(
        np.linspace(0, 1, _BUN_ROWS), np.arange(_BUN_COLUMNS) / _BUN_COLUMNS, indexing="ij"
    )
    uv = np.stack([0.2 + 0.3 * around, 0.3 + 0.4 * t], -1).reshape(-1, 2)
    ring = np.arange(_BUN_COLUMNS)
    count = len(points)
    poles = points.reshape(_BUN_ROWS, _BUN_COLUMNS, 3)[[0, -1]].mean(1)
    faces = np.concatenate(
        [
            grid_faces(_BUN_ROWS, _BUN_COLUMNS, is_closed=True),
            fan_faces(count, ring),
            fan_faces(count + 1, count - _BUN_COLUMNS + ring)[:, ::-1],
        ]
    )
    uv = np.concatenate([uv, [[0.35, 0.3], [0.35, 0.7]]])
    return PartMesh(np.concatenate([points, poles]), faces, uv, faces)

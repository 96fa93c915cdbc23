"""The skin's fixed mesh: loops and graded points laid on the sculpt, triangulated by direction.

The left half is placed and mirrored. Points are triangulated by the convex hull of their directions
from the skull's core (a spherical Delaunay triangulation without seam or pole); the bands between
loops are explicit strips, because Delaunay would cut across them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import ConvexHull, KDTree

from vultus.heads.procedural.loops import (
    LID_LOOPS,
    MOUTH_LOOPS,
    MOUTH_POINTS,
    lid_loop,
    mouth_loop,
)
from vultus.heads.procedural.mesh_graph import adjacency, loop_strip
from vultus.heads.procedural.openings import add_lids, add_lips, add_mouth_bag
from vultus.heads.procedural.sculpt import (
    MIRROR,
    SKULL_CORE,
    cast_rays,
    front_hit,
    head_distance,
    head_gradient,
)

__all__ = ["NECK_LOOPS", "NECK_POINTS", "SkinTemplate", "build_skin"]

NECK_POINTS = 72
NECK_LOOPS = 12
_NECK_AXIS_Z = -26.0
_NECK_END_Y = -186.0
_MIN_RAY, _MAX_RAY = 20, 175

# Spacing of points in hundredths of the radius over the angle (degrees) from the face's axis:
# dense on the nose, sparse on the scalp. The midline is 0.7 x denser, or triangles cross it.
_ANGLES = np.array([0, 14, 24, 45, 80, 120, 180])
_SPACING = np.array([2.4, 2.5, 3.4, 4.6, 6.6, 8.6, 9.0]) / 100
_MIDLINE_SPACING = 0.72 * np.array([2.5, 2.6, 3.6, 4.8, 7.0, 9.0, 9.5]) / 100
# Elevation (degrees) of the loop where the head ends, over azimuth: under the jaw, up to the nape.
_NECK_AZIMUTHS = np.array([0, 0.5, 1.0, 1.6, 2.2, np.pi])
_NECK_ELEVATIONS = np.radians([-72, -69, -63, -56, -46, -36])

_Points = Float[np.ndarray, "n 3"]


@dataclass(frozen=True)
class SkinTemplate:
    """The closed-mouthed, open-eyed skin in mm, with the loops that the rig refers to."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    left_lids: Int[np.ndarray, "8 40"]
    right_lids: Int[np.ndarray, "8 40"]
    left_rims: Int[np.ndarray, "2 40"]
    """Wet rim behind the lid margin, then the loop tucked behind the globe."""
    right_rims: Int[np.ndarray, "2 40"]
    mouth: Int[np.ndarray, "9 52"]
    cavity: Int[np.ndarray, "6 52"]
    """Loops over the back of the lips into the mouth bag."""
    cavity_pole: int
    neck: Int[np.ndarray, "12 72"]
    """From the head down; the last one is the open border of the mesh."""

    def mirror_partners(self) -> Int[np.ndarray, " v"]:
        """For each vertex the one at its mirror image."""
        return np.asarray(KDTree(self.vertices).query(self.vertices * MIRROR)[1])


@dataclass(frozen=True)
class _LeftHalf:
    points: _Points
    lids: Int[np.ndarray, "8 40"]
    mouth: Int[np.ndarray, "9 27"]
    neck: Int[np.ndarray, " 37"]
    free: Int[np.ndarray, " m"]


class _Symmetry:
    """Index bookkeeping between the left half and the mirrored whole."""

    def __init__(self, points: _Points) -> None:
        self.num_half = len(points)
        self.is_middle = np.abs(points[:, 0]) < 1e-6
        self.off_middle = np.flatnonzero(~self.is_middle)
        mirror = np.flatnonzero(self.is_middle), self.off_middle
        self.partner = np.empty(self.num_half, int)
        self.partner[mirror[0]] = mirror[0]
        self.partner[self.off_middle] = self.num_half + np.arange(len(self.off_middle))

    def complete(self, points: _Points) -> Float[np.ndarray, "m 3"]:
        """Append the right half."""
        return np.concatenate([points, points[self.off_middle] * MIRROR])

    def all_partners(self, neck: Int[np.ndarray, "k p"]) -> Int[np.ndarray, " m"]:
        """Mirror partner of every vertex of the whole head, and of the neck's loops after it."""
        loops = np.roll(neck[:, ::-1], 1, axis=1)
        return np.concatenate([self.partner, self.off_middle, loops.ravel()])

    def closed_loop(self, half: Int[np.ndarray, "*k m"]) -> Int[np.ndarray, "*k p"]:
        """Extend loops given on the left half, middle to middle, around the right half."""
        return np.concatenate([half, self.partner[half[..., 1:-1]][..., ::-1]], axis=-1)


def build_skin() -> SkinTemplate:
    """Lay the template on the sculpt; takes about a second."""
    half = _place_left_half()
    symmetry = _Symmetry(half.points)
    vertices = symmetry.complete(half.points)
    faces = _triangulate(half, symmetry, vertices)
    vertices = _relax(vertices, faces, half.free, symmetry)
    vertices, faces, neck = _add_neck(vertices, faces, symmetry.closed_loop(half.neck))
    vertices = _smooth_neck_junction(vertices, faces, neck)
    # The diagonals of the neck's strips are not symmetric, and smoothing follows them.
    partner = symmetry.all_partners(neck[1:])
    vertices = 0.5 * (vertices + vertices[partner] * MIRROR)
    left, right = half.lids, symmetry.partner[half.lids]
    vertices, faces, left_rims, right_rims = add_lids(vertices, faces, left, right)
    vertices = add_lips(vertices, half.mouth, symmetry.partner[half.mouth])
    mouth = symmetry.closed_loop(half.mouth)
    vertices, faces, cavity, pole = add_mouth_bag(vertices, faces, mouth[0])
    return SkinTemplate(
        vertices, faces, left, right, left_rims, right_rims, mouth, cavity, pole, neck
    )


def _place_left_half() -> _LeftHalf:
    blocks: list[np.ndarray] = []

    def add(points: np.ndarray) -> np.ndarray:
        start = sum(map(len, blocks))
        blocks.append(points)
        return np.arange(start, start + len(points))

    lids = [add(front_hit(lid_loop(index))) for index in range(LID_LOOPS)]
    mouth = []
    for index in range(MOUTH_LOOPS):
        points = front_hit(mouth_loop(index)[: MOUTH_POINTS // 2 + 1])
        points[[0, -1], 0] = 0
        mouth.append(add(points))
    ring = cast_rays(SKULL_CORE, _neck_directions(), _MIN_RAY, _MAX_RAY)[: NECK_POINTS // 2 + 1]
    ring[[0, -1], 0] = 0
    neck = add(ring)
    free = add(_free_points())
    points = np.concatenate(blocks)
    points[np.abs(points[:, 0]) < 1e-6, 0] = 0
    return _LeftHalf(points, np.stack(lids), np.stack(mouth), neck, free)


def _neck_directions() -> np.ndarray:
    azimuth = np.arange(NECK_POINTS) / NECK_POINTS * 2 * np.pi
    folded = np.abs((azimuth + np.pi) % (2 * np.pi) - np.pi)
    elevation = np.interp(folded, _NECK_AZIMUTHS, _NECK_ELEVATIONS)
    cosine = np.cos(elevation)
    return np.stack([np.sin(azimuth) * cosine, np.sin(elevation), np.cos(azimuth) * cosine], 1)


def _free_points() -> np.ndarray:
    """Points between the loops on the left half, and the midline."""
    directions, spacing = _spiral_directions()
    is_left = directions[:, 0] > 0.45 * spacing
    directions, spacing = directions[is_left], spacing[is_left]
    azimuth = np.arctan2(np.abs(directions[:, 0]), directions[:, 2])
    neck_elevation = np.interp(azimuth, _NECK_AZIMUTHS, _NECK_ELEVATIONS)
    directions = directions[np.arcsin(directions[:, 1]) > neck_elevation + 0.75 * spacing]
    directions = np.concatenate([directions, _midline_directions()])
    points = cast_rays(SKULL_CORE, directions, _MIN_RAY, _MAX_RAY)
    points[directions[:, 0] == 0, 0] = 0
    # Points within 2 to 3 mm of the outermost loop would make a triangle jump over it.
    x, y, z = points.T
    in_eye = ((x - 31.8) / 24.3) ** 2 + ((y - 1.5) / 16.8) ** 2 < 1
    mouth_height = np.where(y > -70.5, 22.0, 24.2)
    in_mouth = (x / 36.8) ** 2 + ((y + 70.5) / mouth_height) ** 2 < 1
    return points[~((in_eye | in_mouth) & (z > 30))]


def _spiral_directions() -> tuple[np.ndarray, np.ndarray]:
    """Graded Fibonacci spiral around the face's axis: unit directions and their spacing."""
    axis = np.array([0.0, -0.12, 1.0])
    axis /= np.linalg.norm(axis)
    angles = np.linspace(0, np.pi, 2000)
    spacing = np.interp(np.degrees(angles), _ANGLES, _SPACING)
    density = 2 * np.pi * np.sin(angles) / (0.866 * spacing * spacing)
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(angles)
    count = np.concatenate([[0], np.cumsum(steps)])
    index = np.arange(int(count[-1]))
    angle = np.interp(index + 0.5, count, angles)
    turn = index * np.pi * (3 - np.sqrt(5))
    side = np.array([1.0, 0, 0])
    up = np.cross(axis, side)
    around = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * up
    directions = np.cos(angle)[:, None] * axis + np.sin(angle)[:, None] * around
    return directions, np.interp(angle, angles, spacing)


def _midline_directions() -> np.ndarray:
    """From the neck loop in front over face and crown to the nape."""
    elevations = [-70.5]
    while elevations[-1] < 209:
        from_axis = np.degrees(np.arccos(np.cos(np.radians(elevations[-1]) - np.radians(-7))))
        step = np.degrees(np.interp(from_axis, _ANGLES, _MIDLINE_SPACING))
        elevations.append(elevations[-1] + step)
    elevation = np.radians(elevations[1:])
    return np.stack([0 * elevation, np.sin(elevation), np.cos(elevation)], 1)


def _triangulate(half: _LeftHalf, symmetry: _Symmetry, vertices: _Points) -> np.ndarray:
    num_half, middle = symmetry.num_half, symmetry.is_middle
    is_middle = np.concatenate([middle, np.zeros(len(symmetry.off_middle), bool)])
    triangles = _directional_delaunay(_with_open_mouth(half, symmetry, vertices))
    has_left = ((triangles < num_half) & ~is_middle[triangles]).any(1)
    has_right = (triangles >= num_half).any(1)
    crossing, left = triangles[has_left & has_right], triangles[~has_right]
    for loops in (half.lids.ravel(), half.mouth.ravel(), half.neck):
        left = _without(left, loops, len(vertices))
        both_sides = np.concatenate([loops, symmetry.partner[loops]])
        crossing = _without(crossing, both_sides, len(vertices))
    left = left[~middle[left].all(1)]
    strips = [_band(inner, outer) for inner, outer in pairwise(half.lids)]
    strips += [
        _band_between(inner[:-1], inner[1:], outer[:-1], outer[1:])
        for inner, outer in pairwise(half.mouth)
    ]
    left = np.concatenate([left, *strips])
    return np.concatenate([left, symmetry.partner[left][:, ::-1], crossing])


def _band(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    return _band_between(inner, np.roll(inner, -1), outer, np.roll(outer, -1))


def _band_between(
    inner: np.ndarray, inner_next: np.ndarray, outer: np.ndarray, outer_next: np.ndarray
) -> np.ndarray:
    """Strip whose loops run clockwise seen from outside, as the left eye's and mouth's do."""
    first = np.stack([inner, inner_next, outer], 1)
    return np.concatenate([first, np.stack([inner_next, outer_next, outer], 1)])


def _without(triangles: np.ndarray, vertices: np.ndarray, count: int) -> np.ndarray:
    """Drop the triangles that have all three corners among some vertices."""
    is_listed = np.zeros(count, bool)
    is_listed[vertices] = True
    return triangles[~is_listed[triangles].all(1)]


def _with_open_mouth(half: _LeftHalf, symmetry: _Symmetry, vertices: _Points) -> _Points:
    """Part the lips by 2 mm, for connectivity only: the closed slit has no area."""
    opened = vertices.copy()
    cosine = np.cos(np.arange(MOUTH_POINTS // 2 + 1) / MOUTH_POINTS * 2 * np.pi)
    side = np.where(np.abs(cosine) < 1e-9, 0, np.sign(cosine))
    for index, loop in enumerate(half.mouth):
        x = mouth_loop(index)[: len(loop), 0]
        width = np.sqrt(np.clip(1 - (x / 34) ** 2, 0, 1))
        shift = side * 2.2 * width * (1 - index / (MOUTH_LOOPS - 1))
        opened[loop, 1] += shift
        opened[symmetry.partner[loop], 1] += np.where(symmetry.is_middle[loop], 0, shift)
    return opened


def _directional_delaunay(points: _Points) -> np.ndarray:
    directions = points - SKULL_CORE
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    triangles = ConvexHull(directions).simplices
    a, b, c = (directions[triangles[:, corner]] for corner in range(3))
    is_inward = (np.cross(b - a, c - a) * directions[triangles].mean(1)).sum(1) < 0
    triangles[is_inward] = triangles[is_inward][:, ::-1]
    return triangles


def _relax(
    vertices: _Points, faces: np.ndarray, free: np.ndarray, symmetry: _Symmetry
) -> np.ndarray:
    """Even out the free points: average of the neighbours, then a Newton step to the surface."""
    vertices = vertices.copy()
    graph = adjacency(faces, len(vertices))
    rows = graph[free]
    degree = rows.sum(1)[:, None]
    is_middle: Bool[np.ndarray, " m"] = symmetry.is_middle[free]
    off_middle = symmetry.off_middle
    for _ in range(14):
        points = vertices[free] + 0.7 * (rows @ vertices / degree - vertices[free])
        gradient = head_gradient(points)
        step = head_distance(points) / (gradient * gradient).sum(1).clip(0.25)
        points = points - step[:, None] * gradient
        points[is_middle, 0] = 0
        vertices[free] = points
        vertices[symmetry.partner[off_middle]] = vertices[off_middle] * MIRROR
    return vertices


def _add_neck(
    vertices: _Points, faces: np.ndarray, first_loop: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Continue the skin in regular loops down to the shoulders."""
    start = vertices[first_loop]
    azimuth = np.arctan2(start[:, 0], start[:, 2] - _NECK_AXIS_Z)
    directions = np.stack([np.sin(azimuth), 0 * azimuth, np.cos(azimuth)], 1)
    loops = [first_loop]
    blocks, strips = [vertices], [faces]
    for index in range(1, NECK_LOOPS):
        t = index / (NECK_LOOPS - 1)
        y = start[:, 1] * (1 - t) + t * (_NECK_END_Y - 6 * np.cos(azimuth))
        origins = np.stack([0 * y, y, _NECK_AXIS_Z - 4 * t + 0 * y], 1)
        points = cast_rays(origins, directions, 5, 170)
        if index == 1:
            points = 0.5 * (points + np.stack([start[:, 0], points[:, 1], start[:, 2]], 1))
        blocks.append(points)
        loops.append(len(vertices) + (index - 1) * NECK_POINTS + np.arange(NECK_POINTS))
        strips.append(loop_strip(loops[-2], loops[-1]))
    return np.concatenate(blocks), np.concatenate(strips), np.stack(loops)


def _smooth_neck_junction(vertices: _Points, faces: np.ndarray, neck: np.ndarray) -> np.ndarray:
    graph = adjacency(faces, len(vertices))
    degree = graph.sum(1)[:, None]
    near = np.zeros(len(vertices))
    near[neck[:3]] = 1
    for _ in range(3):
        near = np.maximum(near, 0.9 * (graph @ near) / degree[:, 0])
    amount = near[:, None] * (vertices[:, 1:2] > -160)
    for _ in range(8):
        vertices = vertices + 0.5 * amount * (graph @ vertices / degree - vertices)
    return vertices

"""Numba kernels: faces listed per band of rows, a depth test per pixel, walks between pixels."""

from __future__ import annotations

import numpy as np

from vultus.core.simd import helper, kernel
from vultus.kernels.mesh_raster import constants
from vultus.kernels.mesh_raster.constants import EDGE_TOLERANCE, MAX_WALK

__all__ = ["BAND", "count_faces", "draw_bands", "fill_lists", "find_edges"]

BAND = 16
"""Rows of a band."""
_TOLERANCE = np.float32(EDGE_TOLERANCE)
_HALF, _ZERO = np.float32(0.5), np.float32(0.0)


@helper
def _first_center(low):
    """Index of the first pixel whose centre is not before a coordinate, within reason."""
    return int(min(max(np.ceil(low - _HALF), -1.0), 1e6))


@helper
def _last_center(high):
    """Index of the last pixel whose centre is not beyond a coordinate, within reason."""
    return int(min(max(np.floor(high - _HALF), -1.0), 1e6))


@helper
def _rows(screen, faces, f, near, height):
    """First and last image row of a face; an empty range for faces that are not drawn."""
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    nearest = min(screen[a, 2], screen[b, 2], screen[c, 2])
    first = _first_center(min(screen[a, 1], screen[b, 1], screen[c, 1]))
    last = _last_center(max(screen[a, 1], screen[b, 1], screen[c, 1]))
    if not nearest > near:
        last = first - 1
    return max(first, 0), min(last, height - 1)


@kernel(constants.__file__)
def count_faces(screen, faces, near, height, starts):
    """Count the faces of every band, then turn counts into where the bands' lists start."""
    starts[:] = 0
    for f in range(len(faces)):
        first, last = _rows(screen, faces, f, near, height)
        if first <= last:
            for band in range(first // BAND, last // BAND + 1):
                starts[band + 1] += 1
    for band in range(len(starts) - 1):
        starts[band + 1] += starts[band]


@kernel(constants.__file__)
def fill_lists(screen, faces, near, height, starts, lists):
    """Write the lists of all bands, each in the order of the faces."""
    at = starts.copy()
    for f in range(len(faces)):
        first, last = _rows(screen, faces, f, near, height)
        if first <= last:
            for band in range(first // BAND, last // BAND + 1):
                lists[at[band]] = f
                at[band] += 1


@helper
def _edge(ax, ay, bx, by):
    """Twice the signed area of a triangle from the origin to an edge."""
    return ax * by - ay * bx


@kernel(constants.__file__)
def draw_bands(start, stop, screen, faces, starts, lists, face_index):
    """Find the nearest face at the pixel centres of some bands; see ``ref.visible_faces``."""
    height, width = face_index.shape
    nearness = np.empty((BAND, width), np.float32)
    for band in range(start, stop):
        top, bottom = band * BAND, min(band * BAND + BAND, height) - 1
        nearness[:] = _ZERO
        face_index[top : bottom + 1] = -1
        for k in range(starts[band], starts[band + 1]):
            f = lists[k]
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, az = screen[a, 0], screen[a, 1], screen[a, 2]
            bx, by, bz = screen[b, 0], screen[b, 1], screen[b, 2]
            cx, cy, cz = screen[c, 0], screen[c, 1], screen[c, 2]
            for row in range(
                max(top, _first_center(min(ay, by, cy))),
                min(bottom, _last_center(max(ay, by, cy))) + 1,
            ):
                y = np.float32(row) + _HALF
                for column in range(
                    max(0, _first_center(min(ax, bx, cx))),
                    min(width - 1, _last_center(max(ax, bx, cx))) + 1,
                ):
                    x = np.float32(column) + _HALF
                    share_a = _edge(bx - x, by - y, cx - x, cy - y)
                    share_b = _edge(cx - x, cy - y, ax - x, ay - y)
                    share_c = _edge(ax - x, ay - y, bx - x, by - y)
                    total = share_a + share_b + share_c
                    if total == _ZERO:
                        continue
                    share_a, share_b, share_c = share_a / total, share_b / total, share_c / total
                    if min(share_a, share_b, share_c) >= -_TOLERANCE:
                        level = share_a / az + share_b / bz + share_c / cz
                        if level > nearness[row - top, column]:
                            nearness[row - top, column] = level
                            face_index[row, column] = f


@helper
def _facing(screen, faces, f):
    """Twice the signed area of a face on the screen."""
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    ax, ay = screen[a, 0], screen[a, 1]
    return _edge(screen[b, 0] - ax, screen[b, 1] - ay, screen[c, 0] - ax, screen[c, 1] - ay)


@helper
def _exit_edge(screen, faces, f, sign, x, y, end_x, end_y):
    """Through which edge of a face a segment leaves it first; -1 if it ends there."""
    found, first = -1, np.float32(np.inf)
    for k in range(3):
        i, j = faces[f, k], faces[f, (k + 1) % 3]
        ix, iy, jx, jy = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1]
        before = sign * _edge(ix - x, iy - y, jx - x, jy - y)
        after = sign * _edge(ix - end_x, iy - end_y, jx - end_x, jy - end_y)
        if after < _ZERO and before > after:
            share = before / (before - after)
            if share < first:
                found, first = k, share
    return found


@helper
def _walk(screen, faces, neighbors, f, target, axis, x, y, end_x, end_y):
    """Follow the surface from one pixel centre to another; see ``ref.silhouette_edges``."""
    for _ in range(MAX_WALK):
        facing = _facing(screen, faces, f)
        sign = np.float32(1.0) if facing > _ZERO else np.float32(-1.0)
        k = _exit_edge(screen, faces, f, sign, x, y, end_x, end_y)
        if k < 0:
            return -1
        following = neighbors[f, k]
        if following < 0 or _facing(screen, faces, following) * sign <= _ZERO:
            i, j = faces[f, k], faces[f, (k + 1) % 3]
            across = abs(screen[j, 0] - screen[i, 0])
            down = abs(screen[j, 1] - screen[i, 1])
            is_steep = down >= across if axis == 0 else across > down
            return 3 * f + k if is_steep else -1
        if following == target:
            return -1
        f = following
    return -1


@kernel(constants.__file__)
def find_edges(start, stop, face_index, depth, screen, faces, neighbors, edges):
    """Find the silhouette edges of some rows of an image; see ``ref.silhouette_edges``."""
    height, width = face_index.shape
    for row in range(start, stop):
        for column in range(width):
            for axis in range(2):
                other_row, other_column = row + axis, column + 1 - axis
                edges[axis, row, column] = -1
                if other_row >= height or other_column >= width:
                    continue
                here, there = face_index[row, column], face_index[other_row, other_column]
                if here == there:
                    continue
                x, y = np.float32(column) + _HALF, np.float32(row) + _HALF
                end_x, end_y = np.float32(other_column) + _HALF, np.float32(other_row) + _HALF
                if depth[row, column] <= depth[other_row, other_column]:
                    edges[axis, row, column] = _walk(
                        screen, faces, neighbors, here, there, axis, x, y, end_x, end_y
                    )
                else:
                    edges[axis, row, column] = _walk(
                        screen, faces, neighbors, there, here, axis, end_x, end_y, x, y
                    )

"""Triton kernels: a depth test by atomics per pixel, and walks between pixels."""

from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import key_of

__all__ = ["draw_faces", "find_edges"]


@jit
def _load_corner(screen, faces, first, face, k, mask):
    """Column and row of corner k of faces."""
    vertex = screen + 3 * (first + tl.load(faces + 3 * face + k, mask=mask, other=0))
    return tl.load(vertex, mask=mask, other=0.0), tl.load(vertex + 1, mask=mask, other=0.0)


@jit
def draw_faces(
    screen, faces, keys, num_vertices, num_faces, width, height, near, TOLERANCE: constexpr,
    EDGE: constexpr,
):  # fmt: skip
    """Enter one face of one frame at all pixel centres that it covers.

    ``keys``: one per pixel, the depth's bits above the face; the smallest stays, whatever the order
    of arrival. Squares of EDGE pixels are visited that the face's bounding box touches.
    """
    face, frame = tl.program_id(0), tl.program_id(1)
    first = frame.to(tl.int64) * num_vertices
    a = screen + 3 * (first + tl.load(faces + 3 * face))
    b = screen + 3 * (first + tl.load(faces + 3 * face + 1))
    c = screen + 3 * (first + tl.load(faces + 3 * face + 2))
    ax, ay, az = tl.load(a), tl.load(a + 1), tl.load(a + 2)
    bx, by, bz = tl.load(b), tl.load(b + 1), tl.load(b + 2)
    cx, cy, cz = tl.load(c), tl.load(c + 1), tl.load(c + 2)
    left = tl.maximum(tl.ceil(tl.minimum(tl.minimum(ax, bx), cx) - 0.5), 0.0).to(tl.int32)
    top = tl.maximum(tl.ceil(tl.minimum(tl.minimum(ay, by), cy) - 0.5), 0.0).to(tl.int32)
    right = tl.minimum(tl.floor(tl.maximum(tl.maximum(ax, bx), cx) - 0.5), width - 1.0)
    bottom = tl.minimum(tl.floor(tl.maximum(tl.maximum(ay, by), cy) - 0.5), height - 1.0)
    right, bottom = right.to(tl.int32), bottom.to(tl.int32)
    is_ahead = tl.minimum(tl.minimum(az, bz), cz) > near
    lane = tl.arange(0, EDGE * EDGE)
    y0 = top
    while (y0 <= bottom) & is_ahead:
        x0 = left
        while x0 <= right:
            column, row = x0 + lane % EDGE, y0 + lane // EDGE
            x, y = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
            area_a = (bx - x) * (cy - y) - (by - y) * (cx - x)
            area_b = (cx - x) * (ay - y) - (cy - y) * (ax - x)
            area_c = (ax - x) * (by - y) - (ay - y) * (bx - x)
            total = area_a + area_b + area_c
            scale = 1.0 / tl.where(total == 0.0, 1.0, total)
            share_a, share_b, share_c = area_a * scale, area_b * scale, area_c * scale
            least = tl.minimum(tl.minimum(share_a, share_b), share_c)
            nearness = share_a / az + share_b / bz + share_c / cz
            is_hit = (least >= -TOLERANCE) & (total != 0.0) & (nearness > 0.0)
            is_hit = is_hit & (column <= right) & (row <= bottom)
            key = key_of(1.0 / tl.where(is_hit, nearness, 1.0), face)
            pixel = (frame.to(tl.int64) * height + row) * width + column
            tl.atomic_min(keys + pixel, key, mask=is_hit, sem="relaxed")
            x0 += EDGE
        y0 += EDGE


@jit
def _facing(screen, faces, first, face, mask):
    """Twice the signed area of faces on the screen."""
    ax, ay = _load_corner(screen, faces, first, face, 0, mask)
    bx, by = _load_corner(screen, faces, first, face, 1, mask)
    cx, cy = _load_corner(screen, faces, first, face, 2, mask)
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


@jit
def _edge_share(screen, faces, first, face, k, sign, x, y, end_x, end_y, mask):
    """Where a segment crosses edge k outwards, as a share of its length; infinite if it does not.

    Also how far the edge reaches along both axes.
    """
    ix, iy = _load_corner(screen, faces, first, face, k, mask)
    jx, jy = _load_corner(screen, faces, first, face, (k + 1) % 3, mask)
    before = sign * ((ix - x) * (jy - y) - (iy - y) * (jx - x))
    after = sign * ((ix - end_x) * (jy - end_y) - (iy - end_y) * (jx - end_x))
    is_exit = mask & (after < 0.0) & (before > after)
    share = before / tl.where(is_exit, before - after, 1.0)
    return tl.where(is_exit, share, float("inf")), tl.abs(jx - ix), tl.abs(jy - iy)


@jit
def find_edges(
    face_index, depth, screen, faces, neighbors, edges, num_pixels, num_vertices, width, height,
    MAX_WALK: constexpr, LANES: constexpr,
):  # fmt: skip
    """Find the silhouette edge between each pixel and the next one along one axis.

    The second axis of the grid is the image axis, the third the frame; see ``ref``.
    """
    pixel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    axis, frame = tl.program_id(1), tl.program_id(2).to(tl.int64)
    row, column = pixel // width, pixel % width
    other_row, other_column = row + axis, column + 1 - axis
    is_pair = (pixel < num_pixels) & (other_row < height) & (other_column < width)
    here = frame * num_pixels + pixel
    there = frame * num_pixels + other_row * width + other_column
    face_here = tl.load(face_index + here, mask=is_pair, other=-1)
    face_there = tl.load(face_index + there, mask=is_pair, other=-1)
    is_first = tl.load(depth + here, mask=is_pair, other=0.0) <= tl.load(
        depth + there, mask=is_pair, other=0.0
    )
    x = tl.where(is_first, column, other_column).to(tl.float32) + 0.5
    y = tl.where(is_first, row, other_row).to(tl.float32) + 0.5
    end_x = tl.where(is_first, other_column, column).to(tl.float32) + 0.5
    end_y = tl.where(is_first, other_row, row).to(tl.float32) + 0.5
    face = tl.where(is_first, face_here, face_there)
    target = tl.where(is_first, face_there, face_here)
    first = frame * num_vertices
    found = tl.full([LANES], -1, tl.int32)
    is_walking = is_pair & (face_here != face_there)
    steps = 0
    while (steps < MAX_WALK) & (tl.sum(is_walking.to(tl.int32), 0) > 0):
        facing = _facing(screen, faces, first, face, is_walking)
        sign = tl.where(facing > 0.0, 1.0, -1.0)
        share, across, down = _edge_share(
            screen, faces, first, face, 0, sign, x, y, end_x, end_y, is_walking
        )
        edge = tl.zeros([LANES], tl.int32)
        for k in tl.static_range(1, 3):
            share_k, across_k, down_k = _edge_share(
                screen, faces, first, face, k, sign, x, y, end_x, end_y, is_walking
            )
            is_sooner = share_k < share
            share, edge = tl.where(is_sooner, share_k, share), tl.where(is_sooner, k, edge)
            across = tl.where(is_sooner, across_k, across)
            down = tl.where(is_sooner, down_k, down)
        is_leaving = is_walking & (share < float("inf"))
        following = tl.load(neighbors + 3 * face + edge, mask=is_leaving, other=-1)
        has_next = is_leaving & (following >= 0)
        turns = _facing(screen, faces, first, following, has_next) * sign <= 0.0
        is_end = is_leaving & ((following < 0) | turns)
        is_steep = tl.where(axis == 0, down >= across, across > down)
        found = tl.where(is_end & is_steep, 3 * face + edge, found)
        is_walking = has_next & (is_end == 0) & (following != target)
        face = tl.where(is_walking, following, face)
        steps += 1
    target_edge = edges + (frame * 2 + axis) * num_pixels + pixel
    tl.store(target_edge, found, mask=pixel < num_pixels)

"""Triton kernels of closest points of faces. A lane works on a point."""

# ruff: noqa: D417 -- sizes explain themselves.
from __future__ import annotations

from vultus.kernels.triton_math import add3, dot3, scale3
from vultus.kernels.triton_matrices import load_vector, store_vector, subtract3
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["closest", "closest_backward"]


@jit
def _load_corners(vertices, corners, row, mask):
    """Three corners of the face of each row."""
    a = tl.load(corners + 3 * row, mask=mask, other=0)
    b = tl.load(corners + 3 * row + 1, mask=mask, other=0)
    c = tl.load(corners + 3 * row + 2, mask=mask, other=0)
    return (
        load_vector(vertices, 3 * a, mask),
        load_vector(vertices, 3 * b, mask),
        load_vector(vertices, 3 * c, mask),
    )


@jit
def _on_edge(point, start, end):
    """How far along an edge its closest point lies, not bounded; and that point's distance."""
    step = subtract3(end, start)
    squared = dot3(step, step)
    raw = dot3(subtract3(point, start), step) / tl.where(squared > 0.0, squared, 1.0)
    bounded = tl.minimum(tl.maximum(raw, 0.0), 1.0)
    offset = subtract3(add3(start, scale3(bounded, step)), point)
    return raw, dot3(offset, offset)


@jit
def _project(point, triangle):
    """Barycentrics of the projection onto the plane, their slopes, and whether it lies inside."""
    ab, ac = subtract3(triangle[1], triangle[0]), subtract3(triangle[2], triangle[0])
    ap = subtract3(point, triangle[0])
    d00, d01, d11 = dot3(ab, ab), dot3(ab, ac), dot3(ac, ac)
    det = d00 * d11 - d01 * d01
    safe = tl.where(det <= 0.0, 1.0, det)
    slope_v = scale3(1.0 / safe, subtract3(scale3(d11, ab), scale3(d01, ac)))
    slope_w = scale3(1.0 / safe, subtract3(scale3(d00, ac), scale3(d01, ab)))
    v = (d11 * dot3(ap, ab) - d01 * dot3(ap, ac)) / safe
    w = (d00 * dot3(ap, ac) - d01 * dot3(ap, ab)) / safe
    is_inside = (det > 0.0) & (1.0 - v - w >= 0.0) & (v >= 0.0) & (w >= 0.0)
    return v, w, slope_v, slope_w, is_inside


@jit
def _nearest_edge(point, triangle):
    """Number of the nearest edge, and where on it; the k-th starts at the k-th corner."""
    along, least = _on_edge(point, triangle[0], triangle[1])
    edge = tl.zeros_like(along).to(tl.int32)
    other, distance = _on_edge(point, triangle[1], triangle[2])
    is_better = distance < least
    along, edge = tl.where(is_better, other, along), tl.where(is_better, 1, edge)
    least = tl.minimum(distance, least)
    other, distance = _on_edge(point, triangle[2], triangle[0])
    is_better = distance < least
    return tl.where(is_better, other, along), tl.where(is_better, 2, edge)


@jit
def closest(points, vertices, corners, barycentrics, num, LANES: constexpr):
    """Write barycentrics [n 3]."""
    row = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    mask = row < num
    triangle = _load_corners(vertices, corners, row, mask)
    point = load_vector(points, 3 * row, mask)
    v, w, _slope_v, _slope_w, is_inside = _project(point, triangle)
    along, edge = _nearest_edge(point, triangle)
    along = tl.minimum(tl.maximum(along, 0.0), 1.0)
    rest = 1.0 - along
    on_edge = (
        tl.where(edge == 0, rest, tl.where(edge == 1, 0.0, along)),
        tl.where(edge == 0, along, tl.where(edge == 1, rest, 0.0)),
        tl.where(edge == 0, 0.0, tl.where(edge == 1, along, rest)),
    )
    found = (
        tl.where(is_inside, 1.0 - v - w, on_edge[0]),
        tl.where(is_inside, v, on_edge[1]),
        tl.where(is_inside, w, on_edge[2]),
    )
    store_vector(barycentrics, 3 * row, found, mask)


@jit
def closest_backward(points, vertices, corners, grad_found, grad_points, num, LANES: constexpr):
    """Gradient of the points.

    Args:
        grad_found: Of the barycentrics.
        grad_points: Written, [n 3].
    """
    row = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    mask = row < num
    triangle = _load_corners(vertices, corners, row, mask)
    point = load_vector(points, 3 * row, mask)
    grad = load_vector(grad_found, 3 * row, mask)
    _v, _w, slope_v, slope_w, is_inside = _project(point, triangle)
    inside = add3(scale3(grad[1] - grad[0], slope_v), scale3(grad[2] - grad[0], slope_w))
    along, edge = _nearest_edge(point, triangle)
    is_first, is_second = edge == 0, edge == 1
    step = (
        _choose(is_first, is_second, triangle[1][0], triangle[2][0], triangle[0][0])
        - _choose(is_first, is_second, triangle[0][0], triangle[1][0], triangle[2][0]),
        _choose(is_first, is_second, triangle[1][1], triangle[2][1], triangle[0][1])
        - _choose(is_first, is_second, triangle[0][1], triangle[1][1], triangle[2][1]),
        _choose(is_first, is_second, triangle[1][2], triangle[2][2], triangle[0][2])
        - _choose(is_first, is_second, triangle[0][2], triangle[1][2], triangle[2][2]),
    )
    slope = _choose(is_first, is_second, grad[1] - grad[0], grad[2] - grad[1], grad[0] - grad[2])
    squared = dot3(step, step)
    slope = slope / tl.where(squared > 0.0, squared, 1.0)
    # Before a corner nothing moves.
    slope = tl.where((along >= 0.0) & (along <= 1.0), slope, 0.0)
    result = (
        tl.where(is_inside, inside[0], slope * step[0]),
        tl.where(is_inside, inside[1], slope * step[1]),
        tl.where(is_inside, inside[2], slope * step[2]),
    )
    store_vector(grad_points, 3 * row, result, mask)


@jit
def _choose(is_first, is_second, a, b, c):
    return tl.where(is_first, a, tl.where(is_second, b, c))

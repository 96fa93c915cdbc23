"""GPU backend in Triton: one ray per lane, each walking the hierarchy on its own.

A lane searches for its next leaf; once all 32 have one, or are done, all test their triangles
(Aila and Laine, Understanding the Efficiency of Ray Traversal on GPUs, 2009). Neighbouring rays
need not agree, but are faster when they do. Calls can be captured into CUDA graphs.
"""

# ruff: noqa: D417 -- arguments that all kernels share are described once.
from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Int32, UInt8
from torch import Tensor

from vultus.kernels.ray_mesh import _packets, _tree
from vultus.kernels.ray_mesh.bvh import Bvh
from vultus.kernels.ray_mesh.rays import RayHits
from vultus.kernels.triton_math import cross3, dot3, reciprocal
from vultus.kernels.triton_runtime import (
    constexpr,
    is_interpreted,
    is_recording,
    jit,
    launch,
    tl,
)

__all__ = ["any_hit", "first_hit", "vertex_visibility", "visibility_words"]

_LANES, _WARPS = 32, 1
# Lights that a program looks at from its points, one after the other.
_LIGHTS = 4
# Lights of a program whose bits are written: one byte.
_BYTE_LIGHTS = tl.constexpr(8)
_WORD_BITS = 32
# Nodes between two votes whether all lanes have found a leaf.
_STEPS = tl.constexpr(2)
_LEAF_STRIDE = tl.constexpr(_tree.LEAF_STRIDE)
_LEAF_SHIFT = tl.constexpr(_tree.LEAF_STRIDE.bit_length() - 1)
_EDGE_TOLERANCE = tl.constexpr(float(_packets.EDGE_TOLERANCE))
_TINY = tl.constexpr(float(_packets.TINY))


def first_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t_min: float,
    t_max: float,
) -> RayHits:
    """Nearest hits in float32; see ``vultus.kernels.ray_mesh.first_hit``."""
    num_rays = origins.shape[0]
    hits = RayHits(
        torch.empty(num_rays, device=origins.device),
        torch.empty(num_rays, dtype=torch.int64, device=origins.device),
        torch.empty(num_rays, 3, device=origins.device),
    )
    outputs = (hits.distance, hits.face, hits.barycentrics)
    _trace(bvh, origins, directions, t_min, t_max, False, *outputs)
    return hits


def any_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t_min: float,
    t_max: float,
) -> Bool[Tensor, " r"]:
    """Whether rays hit; see ``vultus.kernels.ray_mesh.any_hit``."""
    face = torch.empty(origins.shape[0], dtype=torch.int64, device=origins.device)
    # Distances and barycentrics are not written.
    _trace(bvh, origins, directions, t_min, t_max, True, face, face, face)
    return face >= 0


def vertex_visibility(
    bvh: Bvh,
    points: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"] | None,
    lights: Float[Tensor, "k 4"],
    bias: float,
    is_wanted: Bool[Tensor, " v"] | None,
) -> UInt8[Tensor, "v k"]:
    """Bake visibility; see ``vultus.kernels.ray_mesh.vertex_visibility``."""
    _check_device(bvh, points)
    num_points, num_lights = points.shape[0], lights.shape[0]
    visible = torch.zeros(num_points, num_lights, dtype=torch.uint8, device=points.device)
    points = _plain(points)
    tree = bvh.gpu_tree
    num_programs = -(-num_points // _LANES) * -(-num_lights // _LIGHTS)
    launch(
        bake_visibility, (num_programs,), tree.nodes, tree.triangles, len(tree.nodes),
        points, points if normals is None else _plain(normals), _plain(lights),
        visible if is_wanted is None else is_wanted.to(torch.uint8), visible, num_points,
        num_lights, float(bias), HAS_NORMALS=normals is not None, HAS_MASK=is_wanted is not None,
        LIGHTS=_LIGHTS, IS_FAST=not is_interpreted(), LANES=_LANES, num_warps=_WARPS,
    )  # fmt: skip
    return visible


def visibility_words(
    bvh: Bvh,
    points: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"] | None,
    directions: Float[Tensor, "k 3"],
    bias: float,
    rows: Int[Tensor, " m"] | None,
) -> Int32[Tensor, "v words"]:
    """Bake visibility into words; see ``vultus.kernels.ray_mesh.visibility_words``."""
    _check_device(bvh, points)
    num_lights = directions.shape[0]
    num_words = -(-num_lights // _WORD_BITS)
    words = torch.zeros(points.shape[0], num_words, dtype=torch.int32, device=points.device)
    points, tree = _plain(points), bvh.gpu_tree
    num_rows = points.shape[0] if rows is None else rows.shape[0]
    num_programs = -(-num_rows // _LANES) * -(-num_lights // _BYTE_LIGHTS.value)
    launch(
        bake_words, (num_programs,), tree.nodes, tree.triangles, len(tree.nodes), points,
        points if normals is None else _plain(normals), _plain(directions),
        words if rows is None else rows.contiguous(), words.view(torch.uint8), num_rows,
        num_lights, 4 * num_words, float(bias), HAS_NORMALS=normals is not None,
        HAS_ROWS=rows is not None, IS_FAST=not is_interpreted(), LANES=_LANES, num_warps=_WARPS,
    )  # fmt: skip
    return words


def _trace(
    bvh: Bvh,
    origins: Tensor,
    directions: Tensor,
    t_min: float,
    t_max: float,
    stop_at_any: bool,
    distance: Tensor,
    face: Tensor,
    barycentrics: Tensor,
) -> None:
    _check_device(bvh, origins)
    tree = bvh.gpu_tree
    num_rays = len(face)
    launch(
        trace_rays, (-(-num_rays // _LANES),), tree.nodes, tree.triangles, len(tree.nodes),
        _plain(origins), _plain(directions), num_rays, float(t_min), float(t_max),
        distance, face, barycentrics, STOP_AT_ANY=stop_at_any, IS_FAST=not is_interpreted(),
        LANES=_LANES, num_warps=_WARPS,
    )  # fmt: skip


def _check_device(bvh: Bvh, tensor: Tensor) -> None:
    is_usable = tensor.is_cuda or is_interpreted() or is_recording()
    if bvh.vertices.device != tensor.device or not is_usable:
        raise ValueError(
            "backend='gpu' needs the mesh and the rays on one GPU, got "
            f"{bvh.vertices.device} and {tensor.device}"
        )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


@jit
def _away_from_zero(x):
    return tl.where((x < _TINY) & (x > -_TINY), _TINY, x)


@jit
def _load_rows(rows, index, mask):
    """A vector per lane."""
    return (
        tl.load(rows + 3 * index, mask=mask, other=0.0),
        tl.load(rows + 3 * index + 1, mask=mask, other=0.0),
        tl.load(rows + 3 * index + 2, mask=mask, other=0.0),
    )


@jit
def _load_four(pointers):
    """Four neighbours per lane. Without a mask: zeros for the others cost an instruction each."""
    block = tl.load(pointers[:, None] + tl.arange(0, 4)[None, :])
    even, odd = tl.split(tl.reshape(block, (block.shape[0], 2, 2)))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    return a, b, c, d


@jit
def _find_leaf(nodes, num_nodes, node, start, inverse, t_min, nearest):
    """Let every lane walk to its next leaf.

    Args:
        start: Origin times ``inverse``.
        inverse: Of the direction.

    Returns:
        The node behind the leaf, and the code of the leaf; -1 where there is none.
    """
    code = node * 0 - 1
    is_searching = node < num_nodes
    while tl.max(is_searching.to(tl.int32), 0) > 0:
        for _ in tl.static_range(_STEPS):
            # Lanes that have arrived look at the root, which all of them share.
            at = nodes + 8 * tl.where(is_searching, node, 0).to(tl.int64)
            x0, y0, z0, x1 = _load_four(at)
            y1, z1, skip, leaf = _load_four(at + 4)
            x0 = x0 * inverse[0] - start[0]
            x1 = x1 * inverse[0] - start[0]
            y0 = y0 * inverse[1] - start[1]
            y1 = y1 * inverse[1] - start[1]
            z0 = z0 * inverse[2] - start[2]
            z1 = z1 * inverse[2] - start[2]
            enter = tl.maximum(tl.minimum(x0, x1), tl.minimum(y0, y1))
            enter = tl.maximum(enter, tl.maximum(tl.minimum(z0, z1), t_min))
            leave = tl.minimum(tl.maximum(x0, x1), tl.maximum(y0, y1))
            leave = tl.minimum(leave, tl.minimum(tl.maximum(z0, z1), nearest))
            is_inside = enter <= leave
            behind = tl.where(is_inside, node + 1, skip.to(tl.int32, bitcast=True))
            code = tl.where(is_searching & is_inside, leaf.to(tl.int32, bitcast=True), code)
            node = tl.where(is_searching, behind, node)
            is_searching = (code < 0) & (node < num_nodes)
    return node, code


@jit
def _intersect(triangles, place, origin, direction, IS_FAST: constexpr):
    """Moller and Trumbore 1997; returns t, u, v and the bits of the face's number.

    A degenerate triangle makes them infinite or NaN; u + v <= 1 is then false.
    """
    at = triangles + 12 * place.to(tl.int64)
    x, y, z, face = _load_four(at)
    e0, e1, e2, _ = _load_four(at + 4)
    g0, g1, g2, _ = _load_four(at + 8)
    first = (e0, e1, e2)
    second = (g0, g1, g2)
    p = cross3(direction, second)
    inverse = reciprocal(dot3(p, first), IS_FAST)
    s = (origin[0] - x, origin[1] - y, origin[2] - z)
    q = cross3(s, first)
    u = dot3(s, p) * inverse
    v = dot3(direction, q) * inverse
    return dot3(q, second) * inverse, u, v, face.to(tl.int32, bitcast=True)


@jit
def _walk(
    nodes, triangles, num_nodes, origin, direction, t_min, t_max, is_live, STOP_AT_ANY: constexpr,
    IS_FAST: constexpr,
):  # fmt: skip
    """Send a ray per lane through the hierarchy.

    Args:
        nodes: See ``GpuTree``.
        triangles: See ``GpuTree``.
        origin: Three coordinates.
        direction: Three coordinates; zeros are allowed.
        t_min: Start of the interval.
        t_max: End of the interval, per lane.
        is_live: Lanes that have a ray.
        STOP_AT_ANY: Whether a hit ends the walk.
        IS_FAST: See ``reciprocal``.

    Returns:
        Distance, face (-1 on a miss) and last two barycentric coordinates of the nearest hit; with
        STOP_AT_ANY only the sign of the face counts.
    """
    direction = (
        _away_from_zero(direction[0]), _away_from_zero(direction[1]), _away_from_zero(direction[2])
    )  # fmt: skip
    inverse = (1.0 / direction[0], 1.0 / direction[1], 1.0 / direction[2])
    start = (origin[0] * inverse[0], origin[1] * inverse[1], origin[2] * inverse[2])
    nearest = t_max
    best_face = is_live.to(tl.int32) * 0 - 1
    best_u = origin[0] * 0.0
    best_v = best_u
    node = tl.where(is_live, 0, num_nodes)
    while tl.min(node, 0) < num_nodes:
        node, code = _find_leaf(nodes, num_nodes, node, start, inverse, t_min, nearest)
        count = tl.where(code >= 0, code & (_LEAF_STRIDE - 1), 0)
        first = code >> _LEAF_SHIFT
        longest = tl.max(count, 0)
        k = 0
        while k < longest:
            mask = k < count
            place = tl.where(mask, first + k, 0)
            t, u, v, face = _intersect(triangles, place, origin, direction, IS_FAST)
            is_hit = mask & (tl.minimum(u, v) >= -_EDGE_TOLERANCE)
            is_hit = is_hit & (u + v <= 1.0 + _EDGE_TOLERANCE) & (t >= t_min) & (t < nearest)
            nearest = tl.where(is_hit, t, nearest)
            best_face = tl.where(is_hit, face, best_face)
            if not STOP_AT_ANY:
                best_u = tl.where(is_hit, u, best_u)
                best_v = tl.where(is_hit, v, best_v)
            k += 1
        if STOP_AT_ANY:
            node = tl.where(best_face >= 0, num_nodes, node)
    return nearest, best_face, best_u, best_v


@jit
def trace_rays(
    nodes, triangles, num_nodes, origins, directions, num_rays, t_min, t_max,
    distance, face, barycentrics, STOP_AT_ANY: constexpr, IS_FAST: constexpr, LANES: constexpr,
):  # fmt: skip
    """Trace LANES rays; with STOP_AT_ANY only ``face`` is written."""
    ray = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = ray < num_rays
    origin = _load_rows(origins, ray.to(tl.int64), mask)
    direction = _load_rows(directions, ray.to(tl.int64), mask)
    end = tl.zeros([LANES], tl.float32) + t_max
    t, hit, u, v = _walk(
        nodes, triangles, num_nodes, origin, direction, t_min, end, mask, STOP_AT_ANY, IS_FAST
    )
    tl.store(face + ray, hit.to(tl.int64), mask=mask)
    if not STOP_AT_ANY:
        is_hit = hit >= 0
        u = tl.maximum(u, 0.0)
        v = tl.maximum(v, 0.0)
        total = tl.maximum(u + v, 1.0)  # above 1 only within the slack at the edge
        u = u / total
        v = v / total
        at = barycentrics + 3 * ray.to(tl.int64)
        tl.store(distance + ray, tl.where(is_hit, t, float("inf")), mask=mask)
        tl.store(at, tl.where(is_hit, 1.0 - u - v, 0.0), mask=mask)
        tl.store(at + 1, tl.where(is_hit, u, 0.0), mask=mask)
        tl.store(at + 2, tl.where(is_hit, v, 0.0), mask=mask)


@jit
def bake_visibility(
    nodes, triangles, num_nodes, points, normals, lights, is_wanted, visible, num_points,
    num_lights, bias, HAS_NORMALS: constexpr, HAS_MASK: constexpr, LIGHTS: constexpr,
    IS_FAST: constexpr, LANES: constexpr,
):  # fmt: skip
    """Visibility of at most LIGHTS homogeneous lights from LANES points; zeros stay unwritten."""
    num_blocks = tl.cdiv(num_points, LANES)
    light = tl.program_id(0) // num_blocks * LIGHTS
    point = tl.program_id(0) % num_blocks * LANES + tl.arange(0, LANES)
    is_live = point < num_points
    if HAS_MASK:
        is_live = tl.load(is_wanted + point, mask=is_live, other=0) > 0
    origin = _load_rows(points, point.to(tl.int64), is_live)
    if HAS_NORMALS:
        normal = _load_rows(normals, point.to(tl.int64), is_live)
        origin = (
            origin[0] + normal[0] * bias, origin[1] + normal[1] * bias, origin[2] + normal[2] * bias
        )  # fmt: skip
    out = visible + point.to(tl.int64) * num_lights
    last = tl.minimum(light + LIGHTS, num_lights)
    last = tl.where(tl.max(is_live.to(tl.int32), 0) > 0, last, light)
    while light < last:
        w = tl.load(lights + 4 * light + 3)
        direction = (
            tl.load(lights + 4 * light) - origin[0] * w,
            tl.load(lights + 4 * light + 1) - origin[1] * w,
            tl.load(lights + 4 * light + 2) - origin[2] * w,
        )
        is_above = is_live
        if HAS_NORMALS:
            is_above = is_live & (dot3(normal, direction) >= 0.0)
        # The ray to a light at a position has the light at t = 1.
        end = tl.zeros([LANES], tl.float32) + tl.where(w > 0.0, 1.0, float("inf"))
        _, hit, _, _ = _walk(
            nodes, triangles, num_nodes, origin, direction, 0.0, end, is_above, True, IS_FAST
        )
        is_seen = is_above & (hit < 0)
        tl.store(out + light, is_seen.to(tl.uint8), mask=is_above)
        light += 1


@jit
def bake_words(
    nodes, triangles, num_nodes, points, normals, directions, rows, flags, num_rows, num_lights,
    stride, bias, HAS_NORMALS: constexpr, HAS_ROWS: constexpr, IS_FAST: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Visibility of eight lights at infinity from LANES points: a byte of their words.

    Args:
        rows: Which points.
        flags: Words as bytes; others stay unwritten.
        stride: Bytes of a point.
    """
    num_blocks = tl.cdiv(num_rows, LANES)
    first = tl.program_id(0) // num_blocks * _BYTE_LIGHTS
    point = (tl.program_id(0) % num_blocks * LANES + tl.arange(0, LANES)).to(tl.int64)
    is_live = point < num_rows
    if HAS_ROWS:
        point = tl.load(rows + point, mask=is_live, other=0)
    origin = _load_rows(points, point, is_live)
    if HAS_NORMALS:
        normal = _load_rows(normals, point, is_live)
        origin = (
            origin[0] + normal[0] * bias, origin[1] + normal[1] * bias, origin[2] + normal[2] * bias
        )  # fmt: skip
    end = tl.full([LANES], float("inf"), tl.float32)
    byte = tl.zeros([LANES], tl.int32)
    light = first
    while light < tl.minimum(first + _BYTE_LIGHTS, num_lights):
        direction = (
            tl.load(directions + 3 * light),
            tl.load(directions + 3 * light + 1),
            tl.load(directions + 3 * light + 2),
        )
        is_above = is_live
        if HAS_NORMALS:
            is_above = is_live & (dot3(normal, direction) >= 0.0)
        _, hit, _, _ = _walk(
            nodes, triangles, num_nodes, origin, direction, 0.0, end, is_above, True, IS_FAST
        )
        bit = tl.full([LANES], 1, tl.int32) << (light - first)
        byte = tl.where(is_above & (hit < 0), byte | bit, byte)
        light += 1
    tl.store(flags + point * stride + first // _BYTE_LIGHTS, byte.to(tl.uint8), mask=is_live)

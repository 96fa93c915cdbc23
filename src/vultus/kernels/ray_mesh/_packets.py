"""Numba kernels that send packets of 16 rays through the hierarchy.

A packet takes a node when any of its rays does, so neighbours in the list should be neighbours in
space. Results are the same for any number of workers.
"""

from typing import no_type_check

import numpy as np

from vultus.core.simd import (
    LANES,
    bits,
    fetch_add,
    kernel,
    splat,
    vload,
    vmax,
    vmin,
    vsel,
    vstore,
)
from vultus.kernels.ray_mesh import _tree
from vultus.kernels.ray_mesh._tree import LEAF_STRIDE

__all__ = ["EDGE_TOLERANCE", "TINY", "bake_visibility", "trace_rays"]

_compile = kernel(_tree.__file__)

# Packets that a worker takes at once: enough work that the shared counter costs nothing.
_PACKETS_PER_JOB = 32
# Barycentric slack of the triangle test. Two neighbours round their common edge differently, and a
# ray aimed at it could slip through the surface.
EDGE_TOLERANCE = np.float32(1e-5)
# Smaller components of directions become this one, so that reciprocals and products are finite.
TINY = np.float32(1e-18)
_ZERO, _ONE = np.float32(0), np.float32(1)


@_compile
@no_type_check
def _away_from_zero(x):
    return vsel((x < TINY) & (x > -TINY), splat(TINY), x)


@_compile
@no_type_check
def _walk(  # noqa: PLR0915 - one loop, so that the packet stays in registers
    boxes, skip, leaf, triangles, ox, oy, oz, dx, dy, dz, t_min, t_max, live, stop_at_any
):
    """Send one packet through the hierarchy.

    ``live`` has a bit per ray. Returns the distance, place in the leaf order (-1 on a miss) and two
    barycentric coordinates of the nearest hit per lane, and the bits of the rays that hit; with
    ``stop_at_any`` only the bits count. The hit test is Moller and Trumbore 1997.
    """
    dx = _away_from_zero(dx)
    dy = _away_from_zero(dy)
    dz = _away_from_zero(dz)
    ix = _ONE / dx
    iy = _ONE / dy
    iz = _ONE / dz
    kx = ox * ix
    ky = oy * iy
    kz = oz * iz
    nearest = splat(t_max)
    place = splat(np.float32(-1))
    best_u = splat(_ZERO)
    best_v = splat(_ZERO)
    found = 0
    node = 0
    while node < skip.shape[0]:
        x0 = ix * boxes[node, 0] - kx
        x1 = ix * boxes[node, 3] - kx
        y0 = iy * boxes[node, 1] - ky
        y1 = iy * boxes[node, 4] - ky
        z0 = iz * boxes[node, 2] - kz
        z1 = iz * boxes[node, 5] - kz
        enter = vmax(vmax(vmin(x0, x1), vmin(y0, y1)), vmax(vmin(z0, z1), t_min))
        leave = vmin(vmin(vmax(x0, x1), vmax(y0, y1)), vmin(vmax(z0, z1), nearest))
        if bits(enter <= leave) & live == 0:
            node = skip[node]
            continue
        first = leaf[node] // LEAF_STRIDE
        for k in range(first, first + max(leaf[node], 0) % LEAF_STRIDE):
            e0 = triangles[k, 3]
            e1 = triangles[k, 4]
            e2 = triangles[k, 5]
            g0 = triangles[k, 6]
            g1 = triangles[k, 7]
            g2 = triangles[k, 8]
            px = dy * g2 - dz * g1
            py = dz * g0 - dx * g2
            pz = dx * g1 - dy * g0
            inverse = _ONE / (px * e0 + py * e1 + pz * e2)
            sx = ox - triangles[k, 0]
            sy = oy - triangles[k, 1]
            sz = oz - triangles[k, 2]
            qx = sy * e2 - sz * e1
            qy = sz * e0 - sx * e2
            qz = sx * e1 - sy * e0
            # A degenerate triangle makes these infinite or NaN, and comparisons below are false.
            u = (sx * px + sy * py + sz * pz) * inverse
            v = (dx * qx + dy * qy + dz * qz) * inverse
            t = (qx * g0 + qy * g1 + qz * g2) * inverse
            hit = (vmin(u, v) >= -EDGE_TOLERANCE) & (u + v <= _ONE + EDGE_TOLERANCE)
            hit = hit & (t >= t_min) & (t < nearest)
            mask = bits(hit) & live
            if mask == 0:
                continue
            found |= mask
            if stop_at_any:
                live &= ~mask
            else:
                nearest = vsel(hit, t, nearest)
                place = vsel(hit, np.float32(k), place)
                best_u = vsel(hit, u, best_u)
                best_v = vsel(hit, v, best_v)
        if live == 0:
            break
        node += 1
    return nearest, place, best_u, best_v, found


@_compile
@no_type_check
def _gather(origins, directions, order, start, count, lanes):
    """Copy up to 16 pairs of rows into the six planes of a scratch array."""
    for lane in range(count):
        row = order[start + lane]
        for axis in range(3):
            lanes[axis, lane] = origins[row, axis]
            lanes[3 + axis, lane] = directions[row, axis]


@_compile
@no_type_check
def trace_rays(
    job,
    boxes,
    skip,
    leaf,
    triangles,
    triangle_faces,
    origins,
    directions,
    order,
    t_min,
    t_max,
    stop_at_any,
    distance,
    face,
    barycentrics,
):
    """Trace rays in the given order, as one of the workers that share ``job``.

    With ``stop_at_any``, ``face`` is 0 for a hit and -1 for a miss, and nothing else is written.
    """
    num_rays = order.shape[0]
    lanes = np.zeros((10, LANES), np.float32)
    flat = lanes.reshape(-1)
    step = _PACKETS_PER_JOB * LANES
    while True:
        begin = fetch_add(job, 0, 1) * step
        if begin >= num_rays:
            break
        for start in range(begin, min(begin + step, num_rays), LANES):
            count = min(LANES, num_rays - start)
            _gather(origins, directions, order, start, count, lanes)
            ox, oy, oz = vload(flat, 0), vload(flat, 16), vload(flat, 32)
            dx, dy, dz = vload(flat, 48), vload(flat, 64), vload(flat, 80)
            live = (1 << count) - 1
            t, k, u, v, found = _walk(
                boxes,
                skip,
                leaf,
                triangles,
                ox,
                oy,
                oz,
                dx,
                dy,
                dz,
                t_min,
                t_max,
                live,
                stop_at_any,
            )
            if stop_at_any:
                for lane in range(count):
                    face[order[start + lane]] = ((found >> lane) & 1) - 1
                continue
            u = vmax(u, _ZERO)
            v = vmax(v, _ZERO)
            total = vmax(u + v, _ONE)  # above 1 only within the slack at the edge
            vstore(flat, 96, t)
            vstore(flat, 112, k)
            vstore(flat, 128, u / total)
            vstore(flat, 144, v / total)
            for lane in range(count):
                ray = order[start + lane]
                is_hit = (found >> lane) & 1
                distance[ray] = lanes[6, lane] if is_hit else np.float32(np.inf)
                face[ray] = triangle_faces[int(lanes[7, lane])] if is_hit else -1
                barycentrics[ray, 0] = _ONE - lanes[8, lane] - lanes[9, lane] if is_hit else _ZERO
                barycentrics[ray, 1] = lanes[8, lane]
                barycentrics[ray, 2] = lanes[9, lane]


@_compile
@no_type_check
def bake_visibility(
    job, boxes, skip, leaf, triangles, points, normals, order, lights, bias, use_horizon, visible
):
    """Visibility of homogeneous ``lights`` [k, 4]; a packet is 16 neighbours and one light."""
    num_points = order.shape[0]
    lanes = np.zeros((6, LANES), np.float32)
    flat = lanes.reshape(-1)
    while True:
        start = fetch_add(job, 0, 1) * LANES
        if start >= num_points:
            break
        count = min(LANES, num_points - start)
        _gather(points, normals, order, start, count, lanes)
        nx = vload(flat, 48)
        ny = vload(flat, 64)
        nz = vload(flat, 80)
        ox = vload(flat, 0) + nx * bias
        oy = vload(flat, 16) + ny * bias
        oz = vload(flat, 32) + nz * bias
        for k in range(lights.shape[0]):
            w = lights[k, 3]
            dx = lights[k, 0] - ox * w
            dy = lights[k, 1] - oy * w
            dz = lights[k, 2] - oz * w
            live = (1 << count) - 1
            if use_horizon:
                live &= bits(nx * dx + ny * dy + nz * dz >= _ZERO)
            found = 0
            if live != 0:
                # The ray to a light at a position has the light at t = 1.
                t_max = _ONE if w > _ZERO else np.float32(np.inf)
                _, _, _, _, found = _walk(
                    boxes, skip, leaf, triangles, ox, oy, oz, dx, dy, dz, _ZERO, t_max, live, True
                )
            for lane in range(count):
                visible[order[start + lane], k] = ((live & ~found) >> lane) & 1

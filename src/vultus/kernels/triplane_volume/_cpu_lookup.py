"""Texels of a point and their weights, for the CPU backend.

The mean over the planes of a point's features is a weighted sum of at most 24 texels, whatever the
kind of planes: 6 planes of 4 for two spheres, 3 of 4 for tri-planes, 3 of 8 for tri-grids. What
follows, forward and backward, knows nothing else of planes. Formulas are those of ``lookup.py``, in
double precision.
"""

# ruff: noqa: D417 -- scalars of points explain themselves; a sphere's slopes are one table.
from __future__ import annotations

import math
from typing import no_type_check

from vultus.core.simd import helper, kernel

__all__ = ["MAX_TAPS", "fill_taps"]

MAX_TAPS = 24


@helper
@no_type_check
def _axis(u, size):
    """Clamped indices of the two texels around u, weights, and slopes of the weights by u."""
    position = min(max((u + 1.0) * (0.5 * size) - 0.5, -2.0), size + 1.0)
    below = math.floor(position)
    rest = position - below
    i = int(below)
    w_0, w_1, s_0, s_1 = 0.0, 0.0, 0.0, 0.0
    if 0 <= i < size:
        w_0, s_0 = 1.0 - rest, -0.5 * size
    if -1 <= i < size - 1:
        w_1, s_1 = rest, 0.5 * size
    last = size - 1
    return (min(max(i, 0), last), min(max(i + 1, 0), last)), (w_0, w_1), (s_0, s_1)


@kernel()
@no_type_check
def _put_plane(place, first, u, v, size, stride, share, gu, gv, gs, has_slopes, taps):
    """Write the four texels around (u, v): offsets, weights, gradients of weights by the point.

    Args:
        place: Number of the first of the four.
        first: Offset of the plane.
        share: Factor of all four weights.
        gu: Gradient of u by the point, as gv of v and gs of ``share``.
    """
    offsets, weights, slopes = taps
    for j in range(2):
        for i in range(2):
            k = v[1][j] * u[1][i]
            offsets[place] = first + (v[0][j] * size + u[0][i]) * stride
            weights[place] = k * share
            if has_slopes:
                by_u = v[1][j] * u[2][i] * share
                by_v = v[2][j] * u[1][i] * share
                slopes[3 * place] = by_u * gu[0] + by_v * gv[0] + k * gs[0]
                slopes[3 * place + 1] = by_u * gu[1] + by_v * gv[1] + k * gs[1]
                slopes[3 * place + 2] = by_u * gu[2] + by_v * gv[2] + k * gs[2]
            place += 1


@helper
@no_type_check
def _trust(a, b, ring, r2):
    """Weight of a sphere; ring + a cancels near the seam, where a < 0."""
    if ring == 0.0:
        return 0.0
    ahead = ring + a if a >= 0.0 else b * b / (ring - a)
    return 0.5 * ring * ahead / r2


@helper
@no_type_check
def _sphere_slopes(a, b, c, ring, r2):
    """Gradients by (a, b, c) of polar, azimuth and the weight; zero on the axis.

    That of the weight lacks what r² contributes.
    """
    zero = (0.0, 0.0, 0.0)
    if ring == 0.0:
        return zero, zero, zero
    da, db = a / ring, b / ring
    polar, turn = 2.0 / math.pi / r2, 1.0 / (math.pi * ring * ring)
    by_ring = (ring + 0.5 * a) / r2
    return (
        (polar * c * da, polar * c * db, -polar * ring),
        (-turn * b, turn * a, 0.0),
        (by_ring * da + 0.5 * ring / r2, by_ring * db, 0.0),
    )


@helper
@no_type_check
def _from_axes_a(g):
    """Gradient by (x, y, z) from that by sphere A's (z, y, -x)."""
    return -g[2], g[1], g[0]


@helper
@no_type_check
def _from_axes_b(g):
    """Gradient by (x, y, z) from that by sphere B's (-z, -x, y)."""
    return -g[1], g[2], -g[0]


@helper
@no_type_check
def _share_slope(g_own, g_total, share, own):
    """Gradient of share * trust, share being 1 / (3 total)."""
    factor = 3.0 * share * own
    return (
        share * g_own[0] - factor * g_total[0],
        share * g_own[1] - factor * g_total[1],
        share * g_own[2] - factor * g_total[2],
    )


@kernel()
@no_type_check
def _put_sphere(place, first, coordinates, size, strides, share, slopes, has_slopes, taps):
    """Write the twelve texels of one sphere: polar by azimuth, polar and azimuth by radius."""
    stride, plane_stride = strides
    polar, azimuth, radius = coordinates
    g_polar, g_azimuth, g_radius, g_share = slopes
    _put_plane(
        place, first, polar, azimuth, size, stride, share, g_polar, g_azimuth, g_share,
        has_slopes, taps,
    )  # fmt: skip
    _put_plane(
        place + 4, first + plane_stride, polar, radius, size, stride, share, g_polar, g_radius,
        g_share, has_slopes, taps,
    )  # fmt: skip
    _put_plane(
        place + 8, first + 2 * plane_stride, azimuth, radius, size, stride, share, g_azimuth,
        g_radius, g_share, has_slopes, taps,
    )  # fmt: skip


@kernel()
@no_type_check
def _fill_spheres(x, y, z, size, strides, has_slopes, taps):
    r2 = x * x + y * y + z * z
    ring_a, ring_b = math.sqrt(z * z + y * y), math.sqrt(z * z + x * x)
    trust_a, trust_b = _trust(z, y, ring_a, r2), _trust(-z, -x, ring_b, r2)
    share = 1.0 / (3.0 * (trust_a + trust_b + 1e-8))
    length = math.sqrt(r2)
    radius = _axis(2.0 / math.sqrt(3.0) * length - 1.0, size)
    polar_a = _axis(2.0 / math.pi * math.atan2(ring_a, -x) - 1.0, size)
    azimuth_a = _axis(math.atan2(y, z) / math.pi, size)
    polar_b = _axis(2.0 / math.pi * math.atan2(ring_b, y) - 1.0, size)
    azimuth_b = _axis(math.atan2(-x, -z) / math.pi, size)
    zero = (0.0, 0.0, 0.0)
    slopes_a, slopes_b = (zero, zero, zero, zero), (zero, zero, zero, zero)
    if has_slopes and r2 > 0.0:
        outward = 2.0 / math.sqrt(3.0) / length
        g_radius = (outward * x, outward * y, outward * z)
        p, q, t = _sphere_slopes(z, y, -x, ring_a, r2)
        g_polar_a, g_azimuth_a, ga = _from_axes_a(p), _from_axes_a(q), _from_axes_a(t)
        p, q, t = _sphere_slopes(-z, -x, y, ring_b, r2)
        g_polar_b, g_azimuth_b, gb = _from_axes_b(p), _from_axes_b(q), _from_axes_b(t)
        fa, fb = -2.0 * trust_a / r2, -2.0 * trust_b / r2
        ga = (ga[0] + fa * x, ga[1] + fa * y, ga[2] + fa * z)
        gb = (gb[0] + fb * x, gb[1] + fb * y, gb[2] + fb * z)
        both = (ga[0] + gb[0], ga[1] + gb[1], ga[2] + gb[2])
        g_share_a = _share_slope(ga, both, share, trust_a * share)
        g_share_b = _share_slope(gb, both, share, trust_b * share)
        slopes_a = (g_polar_a, g_azimuth_a, g_radius, g_share_a)
        slopes_b = (g_polar_b, g_azimuth_b, g_radius, g_share_b)
    places_a, places_b = (polar_a, azimuth_a, radius), (polar_b, azimuth_b, radius)
    _put_sphere(0, 0, places_a, size, strides, trust_a * share, slopes_a, has_slopes, taps)
    first_b = 3 * strides[1]
    _put_sphere(12, first_b, places_b, size, strides, trust_b * share, slopes_b, has_slopes, taps)


@kernel()
@no_type_check
def _put_layers(place, first, u, v, w, layout, gu, gv, gw, has_slopes, taps):
    """Write the eight texels around (u, v, w) of a thick plane."""
    layers, size, stride = layout
    k = _axis(w, layers)
    for i in range(2):
        slope = k[2][i] / 3.0
        layer = first + k[0][i] * size * size * stride
        gs = (slope * gw[0], slope * gw[1], slope * gw[2])
        _put_plane(
            place + 4 * i, layer, u, v, size, stride, k[1][i] / 3.0, gu, gv, gs, has_slopes, taps
        )


@kernel()
@no_type_check
def fill_taps(point, layout, has_slopes, taps):
    """Write offsets and weights of the texels whose weighted sum is a point's mean feature.

    Args:
        point: In half boxes.
        layout: Kind of planes, layers, side, and the strides of texels and planes.
        has_slopes: Write the gradients of the weights by the point, too.
        taps: Arrays of offsets, weights, and gradients, to be filled.

    Returns:
        Number of texels, and how many of them belong to each plane.
    """
    x, y, z = point
    kind, layers, size, stride, plane = layout
    if kind == 0:
        _fill_spheres(x, y, z, size, (stride, plane), has_slopes, taps)
        return 24, 4
    gx, gy, gz, zero = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)
    u, v, w = _axis(x, size), _axis(y, size), _axis(z, size)
    if kind == 1:
        third = 1.0 / 3.0
        _put_plane(0, 0, u, v, size, stride, third, gx, gy, zero, has_slopes, taps)
        _put_plane(4, plane, u, w, size, stride, third, gx, gz, zero, has_slopes, taps)
        _put_plane(8, 2 * plane, w, u, size, stride, third, gz, gx, zero, has_slopes, taps)
        return 12, 4
    thick = (layers, size, stride)
    _put_layers(0, 0, u, v, z, thick, gx, gy, gz, has_slopes, taps)
    _put_layers(8, plane, u, w, y, thick, gx, gz, gy, has_slopes, taps)
    _put_layers(16, 2 * plane, v, w, x, thick, gy, gz, gx, has_slopes, taps)
    return 24, 8

"""Numba kernels of shading: 16 texels of one Gaussian at a time.

A table of lights holds rows of directions (x, y, z) and irradiances (red, green, blue), each padded
to whole words of visibility with texels that give no light. Symbols are those of the package's
docstring; with u = F D / (4 A B), A = (n.l)+ (1 - k) + k and B = (n.v)+ (1 - k) + k, the lobe is
(n.l)+ u. For a loss with gradient Q on the lobe:

- by (n.l)+: Q u k / A; by k: -Q (n.l)+ u ((1 - (n.l)+) / A + (1 - (n.v)+) / B);
- by (n.v)+: -Q (n.l)+ u (1 - k) / B; by t, where the divisor is not bounded: -2 Q (n.l)+ u / t;
- by the half vector's products n.h = n.(l + v) i and l.h = l.(l + v) i, i = 1 / |l + v|:
  d(n.h)/dn = (l + v) i, d(n.h)/dv = n i - n.h (l + v) i^2, d(l.h)/dv = l i - l.h (l + v) i^2.
"""

# ruff: noqa: D417, PLR0915 -- shared arguments are described once; loops keep sums in registers.
from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from vultus.core.simd import (
    LANES,
    helper,
    hsum,
    hsum16,
    kernel,
    splat,
    vload,
    vmax,
    vmin,
    vsel,
    vsqrt,
    vstore,
)
from vultus.kernels.env_shade import constants

__all__ = ["CHUNK", "WORD_BITS", "shade_chunks", "shade_chunks_backward"]

CHUNK = 256
"""Gaussians whose gradients of irradiances are summed by one thread, whatever their number."""
WORD_BITS = 32
_F0 = np.float32(constants.NORMAL_REFLECTANCE)
_ONE_MINUS_F0 = np.float32(1 - constants.NORMAL_REFLECTANCE)
_MIN_DIVISOR = np.float32(constants.MIN_LOBE_DIVISOR)
_MIN_HALF = np.float32(constants.MIN_HALF_SQUARED)
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_QUARTER, _EIGHTH, _FOUR = np.float32(0.25), np.float32(0.125), np.float32(4)
_BITS = ((np.arange(257)[:, None] >> np.arange(8)) & 1).astype(np.float32).reshape(-1)
"""Of each byte, lowest first: shifting words takes twice as long as all of the rest."""
_PI, _INVERSE_PI = np.float32(math.pi), np.float32(1 / math.pi)
_FRESNEL_SLOPE = np.float32(-5 * (1 - constants.NORMAL_REFLECTANCE))


@helper
@no_type_check
def _mix_visibility(words, row, probes, weights, strength, visible):
    """What three probes see of every texel, mixed; 1 without probes."""
    if len(probes) == 0:
        visible[:] = _ONE
        return
    base = _ONE - strength
    a, b, c = probes[row, 0], probes[row, 1], probes[row, 2]
    wa, wb, wc = strength * weights[row, 0], strength * weights[row, 1], strength * weights[row, 2]
    for byte in range(words.shape[1]):
        x = vload(_BITS, np.int64(words[a, byte]) * 8)
        y = vload(_BITS, np.int64(words[b, byte]) * 8)
        z = vload(_BITS, np.int64(words[c, byte]) * 8)
        # The upper half belongs to other bytes; the next one overwrites it.
        vstore(visible, 8 * byte, x * wa + y * wb + z * wc + base)


@helper
@no_type_check
def _load_rows(lights, at, size):
    """Three rows of the table: 16 directions, or irradiances from its middle on."""
    return vload(lights, at), vload(lights, size + at), vload(lights, 2 * size + at)


@helper
@no_type_check
def _half_products(lx, ly, lz, vx, vy, vz, n_l, n_v):
    """n.h, l.h and 1 / |l + v|, which are 0 where l + v has no direction."""
    hx = lx + vx
    hy = ly + vy
    hz = lz + vz
    squared = hx * hx + hy * hy + hz * hz
    has_half = squared > _MIN_HALF
    inverse = vsel(has_half, splat(_ONE) / vsqrt(vsel(has_half, squared, _ONE)), _ZERO)
    return (n_l + n_v) * inverse, (hx * lx + hy * ly + hz * lz) * inverse, inverse


@helper
@no_type_check
def _roughness_terms(r, n_v):
    """k, 1 - k, a - 1, 1 / B and a / (4 B)."""
    k = (r + _ONE) * (r + _ONE) * _EIGHTH
    a = r * r * r * r
    inverse = _ONE / (max(n_v, _ZERO) * (_ONE - k) + k)
    return k, _ONE - k, a - _ONE, inverse, _QUARTER * a * inverse


@helper
@no_type_check
def _fresnel_power(l_h):
    """(1 - clamp(l.h))^4 and (1 - clamp(l.h))."""
    x = splat(_ONE) - vmin(vmax(l_h, splat(_ZERO)), splat(_ONE))
    square = x * x
    return square * square, x


@helper
@no_type_check
def _lobe_gradients(light, view, n_l, n_v, lit, terms, q):
    """The lobe over (n.l)+, and what a gradient of the lobe, 0 where unlit, means for the rest.

    Returns:
        u; the gradient of (n.l)+; the weights of l + v in that of n and, negative, of v; that of l
        in that of v; the gradients of the logarithm of the lobe's scale, of -k apart from B, of a
        in t.
    """
    k, rest, a_less, _, scale = terms
    n_h, l_h, inverse = _half_products(*light, *view, n_l, n_v)
    fourth, x = _fresnel_power(l_h)
    t = n_h * n_h * a_less + _ONE
    square = t * t * _PI
    is_free = square >= splat(_MIN_DIVISOR)
    inverse_a = splat(_ONE) / (lit * rest + k)
    inverse_t = splat(_ONE) / vsel(is_free, square, _MIN_DIVISOR)
    level = inverse_a * inverse_t * scale
    u = (fourth * x * _ONE_MINUS_F0 + _F0) * level
    g_lobe = q * lit * u
    g_t = vsel(is_free, g_lobe * t * inverse_t * (-_TWO * _PI), _ZERO)
    g_nh = g_t * n_h * (_TWO * a_less)
    is_inside = (l_h >= splat(_ZERO)) & (l_h <= splat(_ONE))
    g_lh = vsel(is_inside, q * lit * level * fourth * _FRESNEL_SLOPE, _ZERO)
    across = g_nh * inverse
    radial = (g_nh * n_h + g_lh * l_h) * inverse * inverse
    along = g_lh * inverse - radial
    g_k = g_lobe * (splat(_ONE) - lit) * inverse_a
    return u, q * u * inverse_a * k, across, radial, along, g_lobe, g_k, g_t * n_h * n_h


@helper
@no_type_check
def _finish_gradients(row, sums, n, v, n_v, r, grad_normals, grad_views, grad_roughness):
    """Turn what has been summed over texels into gradients of a Gaussian."""
    _, rest, _, inverse_b, _ = _roughness_terms(r, n_v)
    lobes, seen = sums[8], max(n_v, _ZERO)
    both = sums[6]
    if n_v > _ZERO:
        both -= lobes * rest * inverse_b
    for axis in range(3):
        grad_normals[row, axis] = sums[axis] + both * v[axis]
        grad_views[row, axis] = sums[3 + axis] + both * n[axis] - sums[7] * v[axis]
    g_k = -(sums[9] + lobes * (_ONE - seen) * inverse_b)
    # The lobe is proportional to a = r^4, apart from t.
    by_scale = _FOUR * lobes / r if r > _ZERO else _ZERO
    grad_roughness[row] = by_scale + _FOUR * r * r * r * sums[10] + g_k * (_ONE + r) * _QUARTER


@kernel(constants.__file__)
@no_type_check
def shade_chunks(
    start, stop, table, words, probes, weights, strength, normals, views, roughness,
    has_specular, has_back_faces, diffuse, specular,
):  # fmt: skip
    """Fill ``diffuse`` and ``specular`` of one frame's Gaussians from ``start`` to ``stop``.

    Args:
        table: [6, padded texels].
        words: [v, 4 w], as bytes, the lowest first.
    """
    size = table.shape[1]
    lights = table.reshape(-1)
    visible = np.empty(size + LANES, np.float32)
    for row in range(start, stop):
        nx, ny, nz = normals[row, 0], normals[row, 1], normals[row, 2]
        vx, vy, vz = views[row, 0], views[row, 1], views[row, 2]
        n_v = nx * vx + ny * vy + nz * vz
        diffuse[row, :] = _ZERO
        specular[row, :] = _ZERO
        if not has_back_faces and not n_v > _ZERO:
            continue
        _mix_visibility(words, row, probes, weights, strength, visible)
        k, rest, a_less, _, scale = _roughness_terms(roughness[row], n_v)
        d0 = splat(_ZERO)
        d1 = splat(_ZERO)
        d2 = splat(_ZERO)
        s0 = splat(_ZERO)
        s1 = splat(_ZERO)
        s2 = splat(_ZERO)
        for at in range(0, size, LANES):
            lx, ly, lz = _load_rows(lights, at, size)
            n_l = lx * nx + ly * ny + lz * nz
            lit = vmax(n_l, splat(_ZERO))
            share = lit * vload(visible, at)
            e0, e1, e2 = _load_rows(lights, 3 * size + at, size)
            d0 = d0 + e0 * share
            d1 = d1 + e1 * share
            d2 = d2 + e2 * share
            if has_specular:
                n_h, l_h, _ = _half_products(lx, ly, lz, vx, vy, vz, n_l, n_v)
                fourth, x = _fresnel_power(l_h)
                fresnel = fourth * x * _ONE_MINUS_F0 + _F0
                t = n_h * n_h * a_less + _ONE
                divisor = vmax(t * t * _PI, splat(_MIN_DIVISOR)) * (lit * rest + k)
                lobe = share * fresnel * scale / divisor
                s0 = s0 + e0 * lobe
                s1 = s1 + e1 * lobe
                s2 = s2 + e2 * lobe
        diffuse[row, 0] = hsum(d0) * _INVERSE_PI
        diffuse[row, 1] = hsum(d1) * _INVERSE_PI
        diffuse[row, 2] = hsum(d2) * _INVERSE_PI
        specular[row, 0] = hsum(s0)
        specular[row, 1] = hsum(s1)
        specular[row, 2] = hsum(s2)


@kernel(constants.__file__)
@no_type_check
def shade_chunks_backward(
    first, last, table, words, probes, weights, strength, normals, views, roughness,
    has_specular, has_back_faces, grad_diffuse, grad_specular,
    grad_normals, grad_views, grad_roughness, grad_table,
):  # fmt: skip
    """Gradients of one frame's Gaussians in the chunks from ``first`` to ``last``.

    Args:
        grad_diffuse: Of the diffuse radiance, what comes through the colour included.
        grad_specular: As well.
        grad_normals: Written; also ``grad_views`` and ``grad_roughness``.
        grad_table: Written, [chunks, 3, padded texels]: gradients of irradiances.
    """
    size = table.shape[1]
    lights = table.reshape(-1)
    visible = np.empty(size + LANES, np.float32)
    sums = np.empty(LANES, np.float32)
    for chunk in range(first, last):
        grads = grad_table[chunk].reshape(-1)
        grads[:] = _ZERO
        for row in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(normals))):
            nx, ny, nz = normals[row, 0], normals[row, 1], normals[row, 2]
            vx, vy, vz = views[row, 0], views[row, 1], views[row, 2]
            n_v = nx * vx + ny * vy + nz * vz
            if not has_back_faces and not n_v > _ZERO:
                grad_normals[row, :] = _ZERO
                grad_views[row, :] = _ZERO
                grad_roughness[row] = _ZERO
                continue
            _mix_visibility(words, row, probes, weights, strength, visible)
            r = roughness[row]
            terms = _roughness_terms(r, n_v)
            p0, p1, p2 = grad_diffuse[row, 0], grad_diffuse[row, 1], grad_diffuse[row, 2]
            p0, p1, p2 = p0 * _INVERSE_PI, p1 * _INVERSE_PI, p2 * _INVERSE_PI
            q0, q1, q2 = grad_specular[row, 0], grad_specular[row, 1], grad_specular[row, 2]
            zero = splat(_ZERO)
            # Sums over texels: of gradients by l in n.l and in l + v, of weights of n and v, and
            # of what roughness gets.
            nl_x = nl_y = nl_z = vl_x = vl_y = vl_z = zero
            n_weight = v_weight = by_lobe = by_k = by_a = zero
            for at in range(0, size, LANES):
                lx, ly, lz = _load_rows(lights, at, size)
                e0, e1, e2 = _load_rows(lights, 3 * size + at, size)
                n_l = lx * nx + ly * ny + lz * nz
                lit = vmax(n_l, zero)
                # What a hidden or unlit texel would change is weighted with 0.
                seen = vsel(n_l > zero, vload(visible, at), zero)
                share = seen * lit
                g0 = share * p0
                g1 = share * p1
                g2 = share * p2
                p = seen * (e0 * p0 + e1 * p1 + e2 * p2)
                if has_specular:
                    q = seen * (e0 * q0 + e1 * q1 + e2 * q2)
                    u, by_lit, across, radial, along, g_lobe, g_k, g_a = _lobe_gradients(
                        (lx, ly, lz), (vx, vy, vz), n_l, n_v, lit, terms, q
                    )
                    p = p + by_lit + across
                    g0 = g0 + share * u * q0
                    g1 = g1 + share * u * q1
                    g2 = g2 + share * u * q2
                    vl_x = vl_x + along * lx
                    vl_y = vl_y + along * ly
                    vl_z = vl_z + along * lz
                    n_weight = n_weight + across
                    v_weight = v_weight + radial
                    by_lobe = by_lobe + g_lobe
                    by_k = by_k + g_k
                    by_a = by_a + g_a
                nl_x = nl_x + p * lx
                nl_y = nl_y + p * ly
                nl_z = nl_z + p * lz
                vstore(grads, at, vload(grads, at) + g0)
                vstore(grads, size + at, vload(grads, size + at) + g1)
                vstore(grads, 2 * size + at, vload(grads, 2 * size + at) + g2)
            vstore(sums, 0, hsum16((
                nl_x, nl_y, nl_z, vl_x, vl_y, vl_z, n_weight, v_weight, by_lobe, by_k, by_a,
                zero, zero, zero, zero, zero,
            )))  # fmt: skip
            _finish_gradients(
                row, sums, (nx, ny, nz), (vx, vy, vz), n_v, r, grad_normals, grad_views,
                grad_roughness,
            )  # fmt: skip

"""Gradients of shading on a GPU: lanes as in ``_gpu_texels``, formulas as in ``_cpu_texels``.

Gradients of Gaussians are summed in registers. Those of irradiances are summed over the lanes of a
program, which adds them up in a map of its own: no atomics, so that results are reproducible.
"""

# ruff: noqa: D417, PLR0915 -- shared arguments are described once; loops keep sums in registers.
from __future__ import annotations

import math

from vultus.kernels.env_shade import constants
from vultus.kernels.env_shade._gpu_texels import (
    WORD_BITS,
    fresnel_power,
    half_products,
    load_probes,
    load_scalars,
    load_words,
    roughness_terms,
    visibility,
)
from vultus.kernels.triton_math import add3, dot3, reciprocal, scale3
from vultus.kernels.triton_matrices import load_vector, store_vector
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["shade_texels_backward"]

_WORD_BITS = tl.constexpr(WORD_BITS)
_F0 = tl.constexpr(constants.NORMAL_REFLECTANCE)
_MIN_DIVISOR = tl.constexpr(constants.MIN_LOBE_DIVISOR)
_PI = tl.constexpr(math.pi)
_INVERSE_PI = tl.constexpr(1 / math.pi)


@jit
def _load_upstream(color, other, factor, share, row, mask):
    """Gradient of a kind of radiance, what comes through the colour included; and the factor's."""
    g = load_vector(color, 3 * row, mask)
    direct, gain = load_vector(other, 3 * row, mask), load_vector(factor, 3 * row, mask)
    radiance = load_vector(share, 3 * row, mask)
    total = (direct[0] + gain[0] * g[0], direct[1] + gain[1] * g[1], direct[2] + gain[2] * g[2])
    return total, (radiance[0] * g[0], radiance[1] * g[1], radiance[2] * g[2])


@jit
def _lobe_gradients(light, view, n_l, n_v, lit, k, a_less, scale, q, IS_FAST: constexpr):
    """The lobe over (n.l)+, and what a gradient q of the lobe means; as in ``_cpu_texels``."""
    n_h, l_h, inverse = half_products(light, view, n_l, n_v)
    fourth, x = fresnel_power(l_h)
    t = n_h * n_h * a_less + 1.0
    square = t * t * _PI
    inverse_a = reciprocal(lit * (1.0 - k) + k, IS_FAST)
    inverse_t = reciprocal(tl.maximum(square, _MIN_DIVISOR), IS_FAST)
    level = scale * inverse_a * inverse_t
    u = (fourth * x * (1.0 - _F0) + _F0) * level
    g_lobe = q * lit * u
    g_t = tl.where(square >= _MIN_DIVISOR, g_lobe * t * inverse_t * (-2.0 * _PI), 0.0)
    g_nh = g_t * n_h * (2.0 * a_less)
    slope = q * lit * level * fourth * (-5.0 * (1.0 - _F0))
    g_lh = tl.where((l_h >= 0.0) & (l_h <= 1.0), slope, 0.0)
    across = g_nh * inverse
    radial = (g_nh * n_h + g_lh * l_h) * inverse * inverse
    along = g_lh * inverse - radial
    g_k = g_lobe * (1.0 - lit) * inverse_a
    return u, q * u * inverse_a * k, across, radial, along, g_lobe, g_k, g_t * n_h * n_h


@jit
def _store_gradients(
    grad_normals, grad_views, grad_roughness, row, mask, normal, view, n_v, r, by_normal, by_light,
    n_weight, v_weight, by_lobe, by_k, by_a,
):  # fmt: skip
    """Turn what has been summed over texels into gradients of Gaussians."""
    k, _a_less, inverse_b, _scale = roughness_terms(r, n_v)
    both = n_weight - tl.where(n_v > 0.0, by_lobe * (1.0 - k) * inverse_b, 0.0)
    store_vector(grad_normals, 3 * row, add3(by_normal, scale3(both, view)), mask)
    g_view = add3(by_light, add3(scale3(both, normal), scale3(-v_weight, view)))
    store_vector(grad_views, 3 * row, g_view, mask)
    g_k = -(by_k + by_lobe * (1.0 - tl.maximum(n_v, 0.0)) * inverse_b)
    # The lobe is proportional to a = r^4, apart from t.
    by_scale = tl.where(r > 0.0, 4.0 * by_lobe / r, 0.0)
    g_r = by_scale + 4.0 * r * r * r * by_a + 0.25 * (1.0 + r) * g_k
    tl.store(grad_roughness + row, g_r, mask=mask)


@jit
def _add_scalar(pointer, value, is_later):
    """Add to a number that only this program changes, or, at first, overwrite it."""
    tl.store(pointer, value + tl.load(pointer, mask=is_later, other=0.0))


@jit
def shade_texels_backward(
    normals, views, albedo, roughness, gloss, directions, irradiances, words, probes, weights,
    strength, diffuse, specular, grad_color, grad_diffuse, grad_specular, grad_normals, grad_views,
    grad_albedo, grad_roughness, grad_gloss, partials, num, num_lights, num_probes, num_words,
    HAS_SHADOWS: constexpr, HAS_STRENGTH: constexpr, HAS_SPECULAR: constexpr,
    HAS_BACK_FACES: constexpr, HAS_LIGHT_GRADIENT: constexpr, IS_FAST: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Gradients of every so many-th LANES Gaussians of one frame; of irradiances summed over them.

    Args:
        grad_normals: Written, as all gradients of Gaussians.
        partials: Written, [frames, programs, texels, 3], with HAS_LIGHT_GRADIENT.
    """
    frame = tl.program_id(1).to(tl.int64)
    lights = directions + 3 * frame * num_lights
    sums = partials + 3 * num_lights * (frame * tl.num_programs(0) + tl.program_id(0))
    for block in range(tl.program_id(0), tl.cdiv(num, LANES), tl.num_programs(0)):
        is_later = block >= tl.num_programs(0)
        index = block * LANES + tl.arange(0, LANES)
        mask = index < num
        row = frame * num + index
        normal, view = load_vector(normals, 3 * row, mask), load_vector(views, 3 * row, mask)
        n_v = dot3(normal, view)
        r = tl.load(roughness + row, mask=mask, other=1.0)
        k, a_less, _inverse_b, scale = roughness_terms(r, n_v)
        p, g_albedo = _load_upstream(grad_color, grad_diffuse, albedo, diffuse, row, mask)
        q, g_gloss = _load_upstream(grad_color, grad_specular, gloss, specular, row, mask)
        store_vector(grad_albedo, 3 * row, g_albedo, mask)
        store_vector(grad_gloss, 3 * row, g_gloss, mask)
        p = (p[0] * _INVERSE_PI, p[1] * _INVERSE_PI, p[2] * _INVERSE_PI)
        if not HAS_BACK_FACES:
            is_front = tl.where(n_v > 0.0, 1.0, 0.0)
            p, q = scale3(is_front, p), scale3(is_front, q)
        if HAS_SHADOWS:
            rows, shares, base = load_probes(
                words, probes, weights, strength, frame, num_probes, num_words, index, mask,
                HAS_STRENGTH,
            )  # fmt: skip
        # Sums over texels: of gradients by l in n.l and in l + v, of weights of n and v, and of
        # what roughness gets.
        zero = tl.zeros((LANES,), tl.float32)
        by_normal, by_light = (zero, zero, zero), (zero, zero, zero)
        n_weight, v_weight, by_lobe, by_k, by_a = zero, zero, zero, zero, zero
        for word in range(num_words):
            if HAS_SHADOWS:
                packed = load_words(rows, word, mask)
            for bit in range(tl.minimum(num_lights - word * _WORD_BITS, _WORD_BITS)):
                texel = 3 * (word * _WORD_BITS + bit)
                light, e = load_scalars(lights + texel), load_scalars(irradiances + texel)
                n_l = dot3(normal, light)
                lit = tl.maximum(n_l, 0.0)
                # What a hidden or unlit texel would change is weighted with 0.
                seen = tl.where(n_l > 0.0, 1.0, 0.0)
                if HAS_SHADOWS:
                    seen = tl.where(n_l > 0.0, visibility(packed, shares, base, bit), 0.0)
                share = seen * lit
                g_nl, g_e = seen * dot3(p, e), scale3(share, p)
                if HAS_SPECULAR:
                    u, by_lit, across, radial, along, g_lobe, g_k, g_a = _lobe_gradients(
                        light, view, n_l, n_v, lit, k, a_less, scale, seen * dot3(q, e), IS_FAST
                    )
                    g_nl += by_lit + across
                    g_e = add3(g_e, scale3(share * u, q))
                    by_light = add3(by_light, scale3(along, light))
                    n_weight += across
                    v_weight += radial
                    by_lobe += g_lobe
                    by_k += g_k
                    by_a += g_a
                by_normal = add3(by_normal, scale3(g_nl, light))
                if HAS_LIGHT_GRADIENT:
                    _add_scalar(sums + texel, tl.sum(g_e[0], 0), is_later)
                    _add_scalar(sums + texel + 1, tl.sum(g_e[1], 0), is_later)
                    _add_scalar(sums + texel + 2, tl.sum(g_e[2], 0), is_later)
        _store_gradients(
            grad_normals, grad_views, grad_roughness, row, mask, normal, view, n_v, r,
            by_normal, by_light, n_weight, v_weight, by_lobe, by_k, by_a,
        )  # fmt: skip
        # The next sums add to what other threads of this program have written.
        tl.debug_barrier()

"""Triton kernels of shading: Gaussians side by side in lanes, texels one after the other.

Texels are the same for all lanes of a program and stay in the cache; what a Gaussian needs, and
the words of its probes, stay in registers.
"""

# ruff: noqa: D417 -- arguments that all kernels share are described once.
from __future__ import annotations

import math

from vultus.kernels.env_shade import constants
from vultus.kernels.triton_math import dot3, reciprocal, scale3
from vultus.kernels.triton_matrices import load_vector, store_vector
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = [
    "WORD_BITS",
    "fresnel_power",
    "half_products",
    "load_probes",
    "load_scalars",
    "load_words",
    "roughness_terms",
    "shade_texels",
    "visibility",
]

WORD_BITS = 32
_WORD_BITS = tl.constexpr(WORD_BITS)
_F0 = tl.constexpr(constants.NORMAL_REFLECTANCE)
_MIN_DIVISOR = tl.constexpr(constants.MIN_LOBE_DIVISOR)
_MIN_HALF = tl.constexpr(constants.MIN_HALF_SQUARED)
_PI = tl.constexpr(math.pi)
_INVERSE_PI = tl.constexpr(1 / math.pi)


@jit
def load_probes(
    words, probes, weights, strength, frame, num_probes, num_words, index, mask,
    HAS_STRENGTH: constexpr,
):  # fmt: skip
    """Where the words of three probes start, their shares, and the share of no shadow."""
    first = frame * num_probes
    a = first + tl.load(probes + 3 * index, mask=mask, other=0)
    b = first + tl.load(probes + 3 * index + 1, mask=mask, other=0)
    c = first + tl.load(probes + 3 * index + 2, mask=mask, other=0)
    rows = (words + a * num_words, words + b * num_words, words + c * num_words)
    shares = load_vector(weights, 3 * index, mask)
    if HAS_STRENGTH:
        factor = tl.load(strength)
        return rows, scale3(factor, shares), 1.0 - factor
    else:
        return rows, shares, 0.0


@jit
def load_words(rows, word, mask):
    """One word of each probe."""
    return (
        tl.load(rows[0] + word, mask=mask, other=0),
        tl.load(rows[1] + word, mask=mask, other=0),
        tl.load(rows[2] + word, mask=mask, other=0),
    )


@jit
def visibility(packed, shares, base, bit):
    """Mix what three probes see of a texel."""
    flag = tl.full([], 1, tl.int32) << bit
    mixed = tl.where((packed[0] & flag) != 0, shares[0], 0.0)
    mixed += tl.where((packed[1] & flag) != 0, shares[1], 0.0)
    return mixed + tl.where((packed[2] & flag) != 0, shares[2], 0.0) + base


@jit
def load_scalars(pointer):
    """Three numbers that all lanes share."""
    return (tl.load(pointer), tl.load(pointer + 1), tl.load(pointer + 2))


@jit
def half_products(light, view, n_l, n_v):
    """n.h, l.h and 1 / |l + v|, which are 0 where l + v has no direction."""
    h = (light[0] + view[0], light[1] + view[1], light[2] + view[2])
    squared = dot3(h, h)
    inverse = tl.where(squared > _MIN_HALF, tl.rsqrt(squared), 0.0)
    return (n_l + n_v) * inverse, dot3(h, light) * inverse, inverse


@jit
def roughness_terms(r, n_v):
    """k, a - 1, 1 / B and a / (4 B)."""
    k = (r + 1.0) * (r + 1.0) * 0.125
    square = r * r
    a = square * square
    inverse_b = 1.0 / (tl.maximum(n_v, 0.0) * (1.0 - k) + k)
    return k, a - 1.0, inverse_b, 0.25 * a * inverse_b


@jit
def fresnel_power(l_h):
    """(1 - clamp(l.h))^4 and (1 - clamp(l.h))."""
    x = tl.minimum(tl.maximum(1.0 - l_h, 0.0), 1.0)
    square = x * x
    return square * square, x


@jit
def shade_texels(
    normals, views, albedo, roughness, gloss, directions, irradiances, words, probes, weights,
    strength, color, diffuse, specular, num, num_lights, num_probes, num_words,
    HAS_SHADOWS: constexpr, HAS_STRENGTH: constexpr, HAS_SPECULAR: constexpr,
    HAS_BACK_FACES: constexpr, IS_FAST: constexpr, LANES: constexpr,
):  # fmt: skip
    """Shade LANES Gaussians of one frame.

    Args:
        gloss: What scales the lobe.
        color: Written; also ``diffuse`` and ``specular``.
        num: Gaussians.
    """
    index = tl.program_id(0) * LANES + tl.arange(0, LANES)
    frame = tl.program_id(1).to(tl.int64)
    mask = index < num
    row = frame * num + index
    normal, view = load_vector(normals, 3 * row, mask), load_vector(views, 3 * row, mask)
    n_v = dot3(normal, view)
    k, a_less, _inverse_b, scale = roughness_terms(
        tl.load(roughness + row, mask=mask, other=1.0), n_v
    )
    if HAS_SHADOWS:
        rows, shares, base = load_probes(
            words, probes, weights, strength, frame, num_probes, num_words, index, mask,
            HAS_STRENGTH,
        )  # fmt: skip
    lights = directions + 3 * frame * num_lights
    d0 = tl.zeros((LANES,), tl.float32)
    d1 = tl.zeros((LANES,), tl.float32)
    d2 = tl.zeros((LANES,), tl.float32)
    s0 = tl.zeros((LANES,), tl.float32)
    s1 = tl.zeros((LANES,), tl.float32)
    s2 = tl.zeros((LANES,), tl.float32)
    for word in range(num_words):
        if HAS_SHADOWS:
            packed = load_words(rows, word, mask)
        for bit in range(tl.minimum(num_lights - word * _WORD_BITS, _WORD_BITS)):
            texel = 3 * (word * _WORD_BITS + bit)
            light, e = load_scalars(lights + texel), load_scalars(irradiances + texel)
            n_l = dot3(normal, light)
            lit = tl.maximum(n_l, 0.0)
            share = lit
            if HAS_SHADOWS:
                share = lit * visibility(packed, shares, base, bit)
            d0 += share * e[0]
            d1 += share * e[1]
            d2 += share * e[2]
            if HAS_SPECULAR:
                n_h, l_h, _inverse = half_products(light, view, n_l, n_v)
                fourth, x = fresnel_power(l_h)
                t = n_h * n_h * a_less + 1.0
                divisor = tl.maximum(t * t * _PI, _MIN_DIVISOR) * (lit * (1.0 - k) + k)
                level = scale * reciprocal(divisor, IS_FAST)
                lobe = share * (fourth * x * (1.0 - _F0) + _F0) * level
                s0 += lobe * e[0]
                s1 += lobe * e[1]
                s2 += lobe * e[2]
    white, shine = (d0 * _INVERSE_PI, d1 * _INVERSE_PI, d2 * _INVERSE_PI), (s0, s1, s2)
    if not HAS_BACK_FACES:
        is_front = tl.where(n_v > 0.0, 1.0, 0.0)
        white, shine = scale3(is_front, white), scale3(is_front, shine)
    store_vector(diffuse, 3 * row, white, mask)
    store_vector(specular, 3 * row, shine, mask)
    base_color, gain = load_vector(albedo, 3 * row, mask), load_vector(gloss, 3 * row, mask)
    mixed = (
        base_color[0] * white[0] + gain[0] * shine[0],
        base_color[1] * white[1] + gain[1] * shine[1],
        base_color[2] * white[2] + gain[2] * shine[2],
    )
    store_vector(color, 3 * row, mixed, mask)

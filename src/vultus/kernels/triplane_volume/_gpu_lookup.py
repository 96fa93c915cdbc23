"""Features of points from planes, and gradients back to texels and positions: blocks of kernels.

Points are a block of lanes, features [points, channels] with the channels contiguous in memory. An
axis is a tuple of two clamped indices, their weights, and the weights' derivatives by the index;
texels outside have no weight. Formulas are those of ``lookup.py``; a plane's share of the mean is
part of its weight.

Symbols: lw is the weight of all taps of one plane or layer (a sphere's fusion weight, a layer's
interpolation), ld the derivative of lw by what it depends on.
"""

# ruff: noqa: D417 -- flags explain themselves; the gradient of three kinds is one table.
from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["DUAL_SPHERE", "TRI_GRID", "TRI_PLANE", "gather_features", "scatter_features"]

DUAL_SPHERE, TRI_PLANE, TRI_GRID = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_THIRD = tl.constexpr(1.0 / 3.0)
_TO_POLAR, _TO_AZIMUTH = tl.constexpr(0.6366197723675814), tl.constexpr(0.3183098861837907)
_TO_RADIUS = tl.constexpr(1.1547005383792517)
_FUSION_EPSILON = tl.constexpr(1e-8)


@jit
def _atan2(y, x):
    """Angle within 1e-6; the library's call has no counterpart in the interpreter."""
    ax, ay = tl.abs(x), tl.abs(y)
    t = tl.minimum(ax, ay) / tl.maximum(tl.maximum(ax, ay), 1e-30)
    s = t * t
    p = 0.002456722315400839 * s - 0.014401349239051342
    p = p * s + 0.03978120908141136
    p = p * s - 0.07234856486320496
    p = p * s + 0.10498945415019989
    p = p * s - 0.14161229133605957
    p = p * s + 0.19985906779766083
    p = p * s - 0.33332598209381104
    p = p * s + 0.9999998807907104
    angle = p * t
    angle = tl.where(ay > ax, 1.5707963267948966 - angle, angle)
    angle = tl.where(x < 0, 3.141592653589793 - angle, angle)
    return tl.where(y < 0, -angle, angle)


@jit
def _axis(u, N: constexpr):
    """Where u in [-1, 1] lies between the texels of an axis."""
    position = (u + 1.0) * (0.5 * N) - 0.5
    below = tl.floor(position)
    rest = position - below
    i = below.to(tl.int32)
    has_0, has_1 = (i >= 0) & (i < N), (i >= -1) & (i < N - 1)
    i_0, i_1 = tl.minimum(tl.maximum(i, 0), N - 1), tl.minimum(tl.maximum(i + 1, 0), N - 1)
    w_0, w_1 = tl.where(has_0, 1.0 - rest, 0.0), tl.where(has_1, rest, 0.0)
    return i_0, i_1, w_0, w_1, tl.where(has_0, -1.0, 0.0), tl.where(has_1, 1.0, 0.0)


@jit
def _trust(a, b, ring, inverse_r2):
    """Weight of a sphere, ring (ring + a) / (2 r²); ring + a cancels near the seam, where a < 0."""
    return 0.5 * ring * inverse_r2 * tl.where(a < 0, b * b / tl.maximum(ring - a, 1e-30), ring + a)


@jit
def _sphere(a, b, c, inverse_r2):
    """Polar angle and azimuth, scaled to [-1, 1], and the weight before fusion."""
    ring = tl.sqrt(a * a + b * b)
    polar = _atan2(ring, c) * _TO_POLAR - 1.0
    return polar, _atan2(b, a) * _TO_AZIMUTH, _trust(a, b, ring, inverse_r2)


@jit
def _tap(base, offset, weight, mask, total):
    texel = tl.load(base + offset[:, None], mask=mask, other=0.0).to(tl.float32)
    return total + weight[:, None] * texel


@jit
def _gather_plane(base, u, v, lw, mask, total, SIZE: constexpr, TEXEL: constexpr):
    """Add the four texels around (u, v), u along the width."""
    w_0, w_1 = u[2] * lw, u[3] * lw
    total = _tap(base, (v[0] * SIZE + u[0]) * TEXEL, v[2] * w_0, mask, total)
    total = _tap(base, (v[0] * SIZE + u[1]) * TEXEL, v[2] * w_1, mask, total)
    total = _tap(base, (v[1] * SIZE + u[0]) * TEXEL, v[3] * w_0, mask, total)
    return _tap(base, (v[1] * SIZE + u[1]) * TEXEL, v[3] * w_1, mask, total)


@jit
def _gather_sphere(
    base, polar, azimuth, radius, lw, mask, total,
    SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr,
):  # fmt: skip
    p, a = _axis(polar, SIZE), _axis(azimuth, SIZE)
    total = _gather_plane(base, p, a, lw, mask, total, SIZE, TEXEL)
    total = _gather_plane(base + PLANE, p, radius, lw, mask, total, SIZE, TEXEL)
    return _gather_plane(base + 2 * PLANE, a, radius, lw, mask, total, SIZE, TEXEL)


@jit
def _gather_layers(
    base, u, v, w, mask, total, LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr
):
    """Add the eight texels around (u, v, w) of a thick plane."""
    k = _axis(w, LAYERS)
    layer: constexpr = SIZE * SIZE * TEXEL
    near, far = base + (k[0] * layer)[:, None], base + (k[1] * layer)[:, None]
    total = _gather_plane(near, u, v, k[2] * _THIRD, mask, total, SIZE, TEXEL)
    return _gather_plane(far, u, v, k[3] * _THIRD, mask, total, SIZE, TEXEL)


@jit
def gather_features(
    base, x, y, z, mask, total,
    KIND: constexpr, LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr,
):  # fmt: skip
    """Add the mean of the planes' features at (x, y, z), in half boxes, to ``total``.

    Args:
        base: Pointers to the image's first texel, a column per channel.
    """
    if KIND == DUAL_SPHERE:
        r2 = x * x + y * y + z * z
        inverse_r2 = 1.0 / tl.maximum(r2, 1e-30)
        polar_a, azimuth_a, trust_a = _sphere(z, y, -x, inverse_r2)
        polar_b, azimuth_b, trust_b = _sphere(-z, -x, y, inverse_r2)
        share = _THIRD / (trust_a + trust_b + _FUSION_EPSILON)
        radius = _axis(tl.sqrt(r2) * _TO_RADIUS - 1.0, SIZE)
        total = _gather_sphere(
            base, polar_a, azimuth_a, radius, trust_a * share, mask, total, SIZE, TEXEL, PLANE
        )
        return _gather_sphere(
            base + 3 * PLANE, polar_b, azimuth_b, radius, trust_b * share, mask, total,
            SIZE, TEXEL, PLANE,
        )  # fmt: skip
    u, v, w = _axis(x, SIZE), _axis(y, SIZE), _axis(z, SIZE)
    if KIND == TRI_PLANE:
        third = x * 0.0 + _THIRD
        total = _gather_plane(base, u, v, third, mask, total, SIZE, TEXEL)
        total = _gather_plane(base + PLANE, u, w, third, mask, total, SIZE, TEXEL)
        return _gather_plane(base + 2 * PLANE, w, u, third, mask, total, SIZE, TEXEL)
    else:
        total = _gather_layers(base, u, v, z, mask, total, LAYERS, SIZE, TEXEL)
        total = _gather_layers(base + PLANE, u, w, y, mask, total, LAYERS, SIZE, TEXEL)
        return _gather_layers(base + 2 * PLANE, v, w, x, mask, total, LAYERS, SIZE, TEXEL)


@jit
def _scatter_tap(grad, base, offset, k, ku, kv, kl, mask, dx, su, sv, sl, HAS_POINTS: constexpr):
    """Add to the gradient of one texel; with HAS_POINTS also sum the texel by three weights."""
    tl.atomic_add(grad + offset[:, None], k[:, None] * dx, mask=mask, sem="relaxed")
    if HAS_POINTS:
        # Four channels a lane, the layout of the vector atomics: else the loaded texels would pass
        # through shared memory.
        pointers = tl.max_contiguous(base + offset[:, None], [1, 4])
        texel = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
        su += ku[:, None] * texel
        sv += kv[:, None] * texel
        sl += kl[:, None] * texel
    return su, sv, sl


@jit
def _scatter_plane(
    grad, base, u, v, lw, ld, mask, dx, su, sv, sl,
    SIZE: constexpr, TEXEL: constexpr, HAS_POINTS: constexpr,
):  # fmt: skip
    """``_scatter_tap`` for the four texels around (u, v)."""
    for j in tl.static_range(2):
        for i in tl.static_range(2):
            k = v[2 + j] * u[2 + i]
            su, sv, sl = _scatter_tap(
                grad, base, (v[j] * SIZE + u[i]) * TEXEL, k * lw,
                v[2 + j] * u[4 + i] * lw, v[4 + j] * u[2 + i] * lw, k * ld,
                mask, dx, su, sv, sl, HAS_POINTS,
            )  # fmt: skip
    return su, sv, sl


@jit
def _scatter_sphere(
    grad, base, polar, azimuth, radius, lw, mask, dx, zero,
    SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr, HAS_POINTS: constexpr,
):  # fmt: skip
    """Scatter to one sphere's planes; gradients of polar, azimuth, radius and the fusion weight."""
    p, a = _axis(polar, SIZE), _axis(azimuth, SIZE)
    one = lw * 0.0 + 1.0
    sp, sa, sl = _scatter_plane(
        grad, base, p, a, lw, one, mask, dx, zero, zero, zero, SIZE, TEXEL, HAS_POINTS
    )
    sp, sr, sl = _scatter_plane(
        grad + PLANE, base + PLANE, p, radius, lw, one, mask, dx, sp, zero, sl,
        SIZE, TEXEL, HAS_POINTS,
    )  # fmt: skip
    sa, sr, sl = _scatter_plane(
        grad + 2 * PLANE, base + 2 * PLANE, a, radius, lw, one, mask, dx, sa, sr, sl,
        SIZE, TEXEL, HAS_POINTS,
    )  # fmt: skip
    half: constexpr = 0.5 * SIZE
    return (
        tl.sum(sp * dx, 1) * half,
        tl.sum(sa * dx, 1) * half,
        tl.sum(sr * dx, 1) * half,
        tl.sum(sl * dx, 1),
    )


@jit
def _sphere_gradient(a, b, c, inverse_r2, g_polar, g_azimuth, g_trust):
    """Gradient of (a, b, c), but for what the weight's r² contributes."""
    ring = tl.sqrt(a * a + b * b)
    inverse = tl.where(ring > 0.0, 1.0 / tl.maximum(ring, 1e-12), 0.0)
    g_ring = g_polar * _TO_POLAR * c * inverse_r2 + g_trust * (ring + 0.5 * a) * inverse_r2
    turn = g_azimuth * _TO_AZIMUTH * inverse * inverse
    return (
        g_ring * a * inverse - turn * b + g_trust * 0.5 * ring * inverse_r2,
        g_ring * b * inverse + turn * a,
        -g_polar * _TO_POLAR * ring * inverse_r2,
    )


@jit
def _scatter_spheres(
    grad, base, x, y, z, mask, dx, zero,
    SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr, HAS_POINTS: constexpr,
):  # fmt: skip
    r2 = x * x + y * y + z * z
    inverse_r2 = 1.0 / tl.maximum(r2, 1e-30)
    polar_a, azimuth_a, trust_a = _sphere(z, y, -x, inverse_r2)
    polar_b, azimuth_b, trust_b = _sphere(-z, -x, y, inverse_r2)
    share = _THIRD / (trust_a + trust_b + _FUSION_EPSILON)
    radius = _axis(tl.sqrt(r2) * _TO_RADIUS - 1.0, SIZE)
    gp_a, ga_a, gr_a, gw_a = _scatter_sphere(
        grad, base, polar_a, azimuth_a, radius, trust_a * share, mask, dx, zero,
        SIZE, TEXEL, PLANE, HAS_POINTS,
    )  # fmt: skip
    gp_b, ga_b, gr_b, gw_b = _scatter_sphere(
        grad + 3 * PLANE, base + 3 * PLANE, polar_b, azimuth_b, radius, trust_b * share, mask, dx,
        zero, SIZE, TEXEL, PLANE, HAS_POINTS,
    )  # fmt: skip
    # Fused = sum of trust times gw, over the sum of trusts.
    mean = (trust_a * gw_a + trust_b * gw_b) * share
    gt_a, gt_b = share * gw_a - 3.0 * share * mean, share * gw_b - 3.0 * share * mean
    a_a, b_a, c_a = _sphere_gradient(z, y, -x, inverse_r2, gp_a, ga_a, gt_a)
    a_b, b_b, c_b = _sphere_gradient(-z, -x, y, inverse_r2, gp_b, ga_b, gt_b)
    by_r2 = -(gt_a * trust_a + gt_b * trust_b) * inverse_r2
    g_r = (gr_a + gr_b) * _TO_RADIUS * tl.sqrt(inverse_r2) + 2.0 * by_r2
    g_r = tl.where(r2 > 1e-24, g_r, 0.0)
    return -c_a - b_b + g_r * x, b_a + c_b + g_r * y, a_a - a_b + g_r * z


@jit
def _scatter_layers(
    grad, base, u, v, w, mask, dx, zero,
    LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr, HAS_POINTS: constexpr,
):  # fmt: skip
    """Scatter to a thick plane; gradients of u, v and w."""
    k = _axis(w, LAYERS)
    layer: constexpr = SIZE * SIZE * TEXEL
    su, sv, sl = zero, zero, zero
    for i in tl.static_range(2):
        offset = (k[i] * layer)[:, None]
        su, sv, sl = _scatter_plane(
            grad + offset, base + offset, u, v, k[2 + i] * _THIRD, k[4 + i] * _THIRD,
            mask, dx, su, sv, sl, SIZE, TEXEL, HAS_POINTS,
        )  # fmt: skip
    half: constexpr = 0.5 * SIZE
    return (
        tl.sum(su * dx, 1) * half, tl.sum(sv * dx, 1) * half, tl.sum(sl * dx, 1) * (0.5 * LAYERS)
    )  # fmt: skip


@jit
def scatter_features(
    grad, base, x, y, z, mask, dx,
    KIND: constexpr, LAYERS: constexpr, SIZE: constexpr, TEXEL: constexpr, PLANE: constexpr,
    HAS_POINTS: constexpr,
):  # fmt: skip
    """Add ``dx``, the gradient of the mean features at (x, y, z), to that of the texels.

    Args:
        grad: Pointers like ``base``, to the gradient.
        base: As for ``gather_features``.

    Returns:
        Gradients of x, y and z with HAS_POINTS; else nothing of use.
    """
    zero = dx * 0.0
    if KIND == DUAL_SPHERE:
        return _scatter_spheres(grad, base, x, y, z, mask, dx, zero, SIZE, TEXEL, PLANE, HAS_POINTS)
    u, v, w = _axis(x, SIZE), _axis(y, SIZE), _axis(z, SIZE)
    if KIND == TRI_PLANE:
        third, none = x * 0.0 + _THIRD, x * 0.0
        su, sv, sl = _scatter_plane(
            grad, base, u, v, third, none, mask, dx, zero, zero, zero, SIZE, TEXEL, HAS_POINTS
        )
        su, sw, sl = _scatter_plane(
            grad + PLANE, base + PLANE, u, w, third, none, mask, dx, su, zero, sl,
            SIZE, TEXEL, HAS_POINTS,
        )  # fmt: skip
        sw, su, sl = _scatter_plane(
            grad + 2 * PLANE, base + 2 * PLANE, w, u, third, none, mask, dx, sw, su, sl,
            SIZE, TEXEL, HAS_POINTS,
        )  # fmt: skip
        half: constexpr = 0.5 * SIZE
        return tl.sum(su * dx, 1) * half, tl.sum(sv * dx, 1) * half, tl.sum(sw * dx, 1) * half
    else:
        gx_1, gy_1, gz_1 = _scatter_layers(
            grad, base, u, v, z, mask, dx, zero, LAYERS, SIZE, TEXEL, HAS_POINTS
        )
        gx_2, gz_2, gy_2 = _scatter_layers(
            grad + PLANE, base + PLANE, u, w, y, mask, dx, zero, LAYERS, SIZE, TEXEL, HAS_POINTS
        )
        gy_3, gz_3, gx_3 = _scatter_layers(
            grad + 2 * PLANE, base + 2 * PLANE, v, w, x, mask, dx, zero,
            LAYERS, SIZE, TEXEL, HAS_POINTS,
        )  # fmt: skip
        return gx_1 + gx_2 + gx_3, gy_1 + gy_2 + gy_3, gz_1 + gz_2 + gz_3

"""Kernels with one lane per ray: fine depths, weights of samples, gradients of densities.

Samples are rows, rays columns: rows 0 to S - 1 hold the coarse samples, S to S + F - 1 the fine
ones, both in the order of depth. What should be in one order is walked with two pointers: no lane
ever sorts. Formulas are those of ``marching.py``.
"""

# ruff: noqa: D417, PLR0915 -- rows explain themselves; all of a ray stays in registers.
from __future__ import annotations

from vultus.kernels.triplane_volume._gpu_decoder import softplus2
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["place_fine_samples", "weigh_samples", "weigh_samples_backward"]

_LOG2E = tl.constexpr(1.4426950408889634)
_TRANSPARENT = tl.constexpr(1e-10)
_FLOOR = tl.constexpr(0.01 + 1e-5)


@jit
def _interval(depth_0, depth_1, density_0, density_1, IS_HARDWARE: constexpr):
    """Opacity and transmittance of the interval between two samples."""
    optical2 = softplus2((0.5 * (density_0 + density_1) - 1.0) * _LOG2E, IS_HARDWARE)
    passed = tl.exp2(-optical2 * (depth_1 - depth_0))
    return 1.0 - passed, passed


@jit
def _load(rows, row, lane, mask, R, other):
    return tl.load(rows + row * R + lane, mask=mask, other=other)


@jit
def _advance(is_coarse, i, j, ok, S, F):
    """Step in the list whose sample came next; its next row, and whether there is one."""
    step = is_coarse.to(tl.int32)
    i, j = i + step, j + 1 - step
    row = tl.where(is_coarse, i, S + j)
    return i, j, row, ok & tl.where(is_coarse, i < S, j < F)


@jit
def _is_coarse_next(coarse, fine, j, F):
    """Whether the next sample is a coarse one; also where its depth is NaN and no other is left.

    Else a walk would go on past the last row.
    """
    return (coarse <= fine) | (j >= F)


@jit
def _add_bin(before, middle, after):
    """Share of a bin: the smoothed weight of its interval, never zero."""
    return 0.5 * (tl.maximum(before, middle) + tl.maximum(middle, after)) + _FLOOR


@jit
def _cumulate(depths, densities, cumulative, lane, ok, R, S, BLOCK: constexpr, FAST: constexpr):
    """Write the upper ends of the S - 3 bins of the distribution, not divided by their total."""
    depth = _load(depths, 0, lane, ok, R, 0.0)
    density = _load(densities, 0, lane, ok, R, 0.0)
    passed = tl.full([BLOCK], 1.0, tl.float32)
    # Not one tensor under three names: Triton would take a name that gets another's value as
    # unchanged by the loop.
    first = tl.zeros([BLOCK], tl.float32)
    second = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for k in range(0, S - 1):
        next_depth = _load(depths, k + 1, lane, ok, R, 0.0)
        next_density = _load(densities, k + 1, lane, ok, R, 0.0)
        alpha, kept = _interval(depth, next_depth, density, next_density, FAST)
        weight = alpha * passed
        passed *= kept + _TRANSPARENT
        if k >= 2:
            total += _add_bin(first, second, weight)
            tl.store(cumulative + (k - 2) * R + lane, total, mask=ok)
        first = second
        second = weight
        depth = next_depth
        density = next_density
    return total


@jit
def place_fine_samples(
    depths, densities, uniforms, cumulative, R, S, F, BLOCK: constexpr, IS_HARDWARE: constexpr
):
    """Write F sorted depths, where the coarse samples found weight.

    Args:
        uniforms: Sorted along the ray.
        cumulative: Scratch of S - 3 rows.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = lane < R
    total = _cumulate(depths, densities, cumulative, lane, ok, R, S, BLOCK, IS_HARDWARE)
    tl.debug_barrier()
    # Bins end at the middles of the coarse depths; m is the bin, j the fine sample.
    j = tl.zeros([BLOCK], tl.int32)
    m = tl.zeros([BLOCK], tl.int32)
    low = tl.zeros([BLOCK], tl.float32)
    a = _load(depths, 0, lane, ok, R, 0.0)
    b = _load(depths, 1, lane, ok, R, 0.0)
    c = _load(depths, 2, lane, ok, R, 0.0)
    high = _load(cumulative, 0, lane, ok, R, 0.0)
    u = _load(uniforms, 0, lane, ok, R, 0.0) * total
    for _ in range(0, F + S - 4):
        is_here = (u < high) | (m >= S - 4)
        start, end = 0.5 * (a + b), 0.5 * (b + c)
        depth = start + (u - low) / (high - low) * (end - start)
        tl.store(depths + (S + j) * R + lane, depth, mask=ok & is_here & (j < F))
        step = is_here.to(tl.int32)
        j += step
        m += 1 - step
        moves = ok & (is_here == 0)
        u_next = _load(uniforms, tl.minimum(j, F - 1), lane, ok & is_here, R, 0.0) * total
        u = tl.where(is_here, u_next, u)
        low = tl.where(is_here, low, high)
        high = tl.where(is_here, high, _load(cumulative, tl.minimum(m, S - 4), lane, moves, R, 0.0))
        a = tl.where(is_here, a, b)
        b = tl.where(is_here, b, c)
        c = tl.where(is_here, c, _load(depths, tl.minimum(m + 2, S - 1), lane, moves, R, 0.0))


@jit
def weigh_samples(
    depths, densities, shares, depth, opacity, R, S, F, BLOCK: constexpr, IS_HARDWARE: constexpr
):
    """Write every sample's share of the ray's features, the mean depth, and the opacity.

    A sample belongs to the intervals before and behind it, and has half of their weights.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = lane < R
    i = tl.zeros([BLOCK], tl.int32)
    j = tl.zeros([BLOCK], tl.int32)
    has_fine = ok & (j < F)
    coarse = _load(depths, 0, lane, ok, R, 0.0)
    coarse_density = _load(densities, 0, lane, ok, R, 0.0)
    fine = _load(depths, S, lane, has_fine, R, float("inf"))
    fine_density = _load(densities, S, lane, has_fine, R, 0.0)
    passed = tl.full([BLOCK], 1.0, tl.float32)
    mean = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    last_weight = tl.zeros([BLOCK], tl.float32)
    last = tl.minimum(coarse, fine)
    last_density = tl.zeros([BLOCK], tl.float32)
    row = tl.zeros([BLOCK], tl.int32)
    for _ in range(0, S + F):
        is_coarse = _is_coarse_next(coarse, fine, j, F)
        this = tl.where(is_coarse, coarse, fine)
        density = tl.where(is_coarse, coarse_density, fine_density)
        is_first = i + j == 0
        alpha, kept = _interval(last, this, last_density, density, IS_HARDWARE)
        weight = alpha * passed
        passed *= tl.where(is_first, 1.0, kept + _TRANSPARENT)
        mean += weight * 0.5 * (last + this)
        total += weight
        tl.store(shares + row * R + lane, 0.5 * (last_weight + weight), mask=ok & (is_first == 0))
        last_weight = weight
        last = this
        last_density = density
        row = tl.where(is_coarse, i, S + j)
        i, j, following, has_next = _advance(is_coarse, i, j, ok, S, F)
        d = _load(depths, following, lane, has_next, R, float("inf"))
        s = _load(densities, following, lane, has_next, R, 0.0)
        coarse, fine = tl.where(is_coarse, d, coarse), tl.where(is_coarse, fine, d)
        coarse_density = tl.where(is_coarse, s, coarse_density)
        fine_density = tl.where(is_coarse, fine_density, s)
    tl.store(shares + row * R + lane, 0.5 * last_weight, mask=ok)
    is_empty = total == 0.0
    mean = tl.where(is_empty, float("inf"), mean / tl.where(is_empty, 1.0, total))
    tl.store(depth + lane, mean, mask=ok)
    tl.store(opacity + lane, total, mask=ok)


@jit
def weigh_samples_backward(
    depths, densities, g_shares, g_opacity, g_depth, depth, opacity, g_densities, g_depths,
    R, S, F, BLOCK: constexpr, HAS_DEPTHS: constexpr, IS_HARDWARE: constexpr,
):  # fmt: skip
    """Gradients of densities, and with HAS_DEPTHS of the coarse depths by intervals and mean depth.

    Two walks: the first sums weight times gradient, so that the second knows what lies behind.
    """
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = lane < R
    total = tl.load(opacity + lane, mask=ok, other=1.0)
    is_empty = total == 0.0
    g_total = tl.load(g_opacity + lane, mask=ok, other=0.0)
    g_mean = tl.load(g_depth + lane, mask=ok, other=0.0) / tl.where(is_empty, 1.0, total)
    g_mean = tl.where(is_empty, 0.0, g_mean)
    mean = tl.where(is_empty, 0.0, tl.load(depth + lane, mask=ok, other=0.0))
    whole = tl.zeros([BLOCK], tl.float32)
    for walk in tl.static_range(2):
        i = tl.zeros([BLOCK], tl.int32)
        j = tl.zeros([BLOCK], tl.int32)
        has_fine = ok & (j < F)
        coarse = _load(depths, 0, lane, ok, R, 0.0)
        coarse_density = _load(densities, 0, lane, ok, R, 0.0)
        coarse_g = _load(g_shares, 0, lane, ok, R, 0.0)
        fine = _load(depths, S, lane, has_fine, R, float("inf"))
        fine_density = _load(densities, S, lane, has_fine, R, 0.0)
        fine_g = _load(g_shares, S, lane, has_fine, R, 0.0)
        passed = tl.full([BLOCK], 1.0, tl.float32)
        so_far = tl.zeros([BLOCK], tl.float32)
        from_before = tl.zeros([BLOCK], tl.float32)
        depth_from_before = tl.zeros([BLOCK], tl.float32)
        last = tl.minimum(coarse, fine)
        last_density = tl.zeros([BLOCK], tl.float32)
        last_g = tl.zeros([BLOCK], tl.float32)
        row = tl.zeros([BLOCK], tl.int32)
        for _ in range(0, S + F):
            is_coarse = _is_coarse_next(coarse, fine, j, F)
            this = tl.where(is_coarse, coarse, fine)
            density = tl.where(is_coarse, coarse_density, fine_density)
            g = tl.where(is_coarse, coarse_g, fine_g)
            is_inner = i + j > 0
            alpha, kept = _interval(last, this, last_density, density, IS_HARDWARE)
            weight = alpha * passed
            passed *= tl.where(is_inner, kept + _TRANSPARENT, 1.0)
            g_weight = 0.5 * (last_g + g) + g_total + g_mean * (0.5 * (last + this) - mean)
            so_far += weight * g_weight
            if walk == 1:
                x = 0.5 * (last_density + density) - 1.0
                g_optical = tl.where(is_inner, passed * g_weight - (whole - so_far), 0.0)
                slope = 1.0 / (1.0 + tl.exp2(-x * _LOG2E))
                g_density = 0.5 * g_optical * (this - last) * slope
                inner = ok & is_inner
                tl.store(g_densities + row * R + lane, from_before + g_density, mask=inner)
                from_before = g_density
                if HAS_DEPTHS:
                    thick = softplus2(x * _LOG2E, IS_HARDWARE) * 0.6931471805599453
                    g_length = g_optical * thick
                    g_middle = 0.5 * weight * g_mean
                    g_last = depth_from_before + g_middle - g_length
                    tl.store(g_depths + row * R + lane, g_last, mask=inner & (row < S))
                    depth_from_before = g_middle + g_length
            last = this
            last_density = density
            last_g = g
            row = tl.where(is_coarse, i, S + j)
            i, j, following, has_next = _advance(is_coarse, i, j, ok, S, F)
            d = _load(depths, following, lane, has_next, R, float("inf"))
            s = _load(densities, following, lane, has_next, R, 0.0)
            e = _load(g_shares, following, lane, has_next, R, 0.0)
            coarse, fine = tl.where(is_coarse, d, coarse), tl.where(is_coarse, fine, d)
            coarse_density = tl.where(is_coarse, s, coarse_density)
            fine_density = tl.where(is_coarse, fine_density, s)
            coarse_g, fine_g = tl.where(is_coarse, e, coarse_g), tl.where(is_coarse, fine_g, e)
        if walk == 0:
            whole = so_far
        else:
            tl.store(g_densities + row * R + lane, from_before, mask=ok)
            if HAS_DEPTHS:
                tl.store(g_depths + row * R + lane, depth_from_before, mask=ok & (row < S))

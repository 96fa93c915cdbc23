"""Fine depths, shares of samples and gradients of densities of one ray, for the CPU backend.

A ray's arrays hold its S coarse samples, then its F fine ones, both in the order of depth. Formulas
are those of ``marching.py``, in double precision.
"""

# ruff: noqa: D417 -- arrays of a ray explain themselves.
from __future__ import annotations

import math
from typing import no_type_check

from vultus.core.simd import helper, kernel

__all__ = ["merge_samples", "place_fine_samples", "weigh_samples", "weigh_samples_backward"]


@helper
@no_type_check
def _density(a, b):
    """Density of an interval, and its slope by the mean of the raw densities at its ends."""
    x = 0.5 * (a + b) - 1.0
    if x > 30.0:
        return x, 1.0
    e = math.exp(x)
    return math.log1p(e), e / (1.0 + e)


@kernel()
@no_type_check
def place_fine_samples(depths, densities, uniforms, num_coarse, num_fine, scratch):
    """Write the fine depths behind the coarse ones.

    Args:
        uniforms: In rising order.
        scratch: Room for the weights of the intervals.
    """
    passed = 1.0
    for k in range(num_coarse - 1):
        density, _ = _density(densities[k], densities[k + 1])
        kept = math.exp(-density * (depths[k + 1] - depths[k]))
        scratch[k] = (1.0 - kept) * passed
        passed *= kept + 1e-10
    # From here on, scratch holds the upper ends of the bins.
    total = 0.0
    bins = num_coarse - 3
    before, middle = scratch[0], scratch[1]
    for m in range(bins):
        after = scratch[m + 2]
        total += 0.5 * (max(before, middle) + max(middle, after)) + 0.01 + 1e-5
        scratch[m] = total
        before, middle = middle, after
    m, low = 0, 0.0
    for j in range(num_fine):
        u = uniforms[j] * total
        while u >= scratch[m] and m < bins - 1:
            low = scratch[m]
            m += 1
        start = 0.5 * (depths[m] + depths[m + 1])
        end = 0.5 * (depths[m + 1] + depths[m + 2])
        depths[num_coarse + j] = start + (u - low) / (scratch[m] - low) * (end - start)


@kernel()
@no_type_check
def merge_samples(depths, num_coarse, num_samples, order):
    """Write the order of depth."""
    i, j = 0, num_coarse
    for k in range(num_samples):
        if j >= num_samples or (i < num_coarse and depths[i] <= depths[j]):
            order[k] = i
            i += 1
        else:
            order[k] = j
            j += 1


@kernel()
@no_type_check
def weigh_samples(depths, densities, order, num_samples, shares):
    """Write every sample's share of the ray's features; returns mean depth and opacity."""
    passed, mean, total = 1.0, 0.0, 0.0
    shares[order[0]] = 0.0
    for k in range(num_samples - 1):
        a, b = order[k], order[k + 1]
        density, _ = _density(densities[a], densities[b])
        kept = math.exp(-density * (depths[b] - depths[a]))
        weight = (1.0 - kept) * passed
        passed *= kept + 1e-10
        shares[a] += 0.5 * weight
        shares[b] = 0.5 * weight
        mean += weight * 0.5 * (depths[a] + depths[b])
        total += weight
    if total == 0.0:
        return math.inf, 0.0
    return mean / total, total


@kernel()
@no_type_check
def weigh_samples_backward(
    depths, densities, order, num_samples, g_shares, g_opacity, g_depth, mean, opacity,
    g_densities, g_depths,
):  # fmt: skip
    """Write the gradients of densities, and of depths by the lengths and middles of intervals."""
    whole = 0.0
    g_mean = g_depth / opacity if opacity > 0.0 else 0.0
    center = mean if opacity > 0.0 else 0.0
    for walk in range(2):
        passed, so_far = 1.0, 0.0
        g_densities[order[0]] = 0.0
        g_depths[order[0]] = 0.0
        for k in range(num_samples - 1):
            a, b = order[k], order[k + 1]
            density, slope = _density(densities[a], densities[b])
            length = depths[b] - depths[a]
            kept = math.exp(-density * length)
            weight = (1.0 - kept) * passed
            passed *= kept + 1e-10
            g_weight = 0.5 * (g_shares[a] + g_shares[b]) + g_opacity
            g_weight += g_mean * (0.5 * (depths[a] + depths[b]) - center)
            so_far += weight * g_weight
            if walk == 1:
                g_optical = passed * g_weight - (whole - so_far)
                g_density = 0.5 * g_optical * length * slope
                g_densities[a] += g_density
                g_densities[b] = g_density
                g_middle, g_length = 0.5 * weight * g_mean, g_optical * density
                g_depths[a] += g_middle - g_length
                g_depths[b] = g_middle + g_length
        whole = so_far

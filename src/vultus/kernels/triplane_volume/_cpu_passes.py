"""Passes over rays, points and planes, for the CPU backend.

A worker takes a range of rays and keeps the samples of one ray in its cache: features x, hidden
values h, gradients. Samples that are cropped away take no part; the others are rows without gaps,
in the order coarse, fine. Hidden values are in base 2, as on the GPU.

Sizes are (S, F, C, K, E): coarse and fine samples, and the padded widths of features, hidden values
and decoded features. Decoders are (w1 as C by K, b1, density row, density bias, w2 as K by E, b2,
activation), scaled for base 2.
"""

# ruff: noqa: D417, PLR0915 -- the groups of arguments are described above.
from __future__ import annotations

from typing import no_type_check

import numpy as np

from vultus.core.simd import LANES, aligned_floats, hsum, kernel, splat, vexp2, vload, vstore
from vultus.kernels.triplane_volume import _cpu_algebra, _cpu_lookup, _cpu_rays
from vultus.kernels.triplane_volume._cpu_algebra import (
    add_outer,
    apply_matrix,
    decoder_slope,
    softplus_rows,
)
from vultus.kernels.triplane_volume._cpu_lookup import MAX_TAPS, fill_taps
from vultus.kernels.triplane_volume._cpu_rays import (
    merge_samples,
    place_fine_samples,
    weigh_samples,
    weigh_samples_backward,
)

__all__ = ["backward_points", "backward_rays", "gather_points", "render_rays", "scatter_taps"]

_WATCHED = (_cpu_algebra.__file__, _cpu_lookup.__file__, _cpu_rays.__file__)
_CROPPED_DENSITY = np.float32(-1000)
_ZERO, _ONE, _LN2 = np.float32(0), np.float32(1), np.float32(0.6931471805599453)


@kernel(*_WATCHED)
@no_type_check
def _gather(texels, start, num_taps, offsets, weights, width, x, at):
    """Weighted sum of texels."""
    for column in range(0, width, LANES):
        total = splat(_ZERO)
        for k in range(num_taps):
            total = total + vload(texels, start + offsets[k] + column) * weights[k]
        vstore(x, at + column, total)


@kernel(*_WATCHED)
@no_type_check
def _dot(a, at_a, b, at_b, width):
    total = splat(_ZERO)
    for column in range(0, width, LANES):
        total = total + vload(a, at_a + column) * vload(b, at_b + column)
    return hsum(total)


@kernel(*_WATCHED)
@no_type_check
def _add_scaled(factor, values, at_values, sums, at_sums, width):
    for column in range(0, width, LANES):
        at = at_sums + column
        vstore(sums, at, vload(sums, at) + vload(values, at_values + column) * factor)


@kernel(*_WATCHED)
@no_type_check
def _sample_span(
    ray, span, live, origins, directions, depths, densities, noise, texels, start, layout, sizes,
    space, decoder, taps, x, h, rows,
):  # fmt: skip
    """Evaluate the samples of a span: features, hidden values, densities; returns the new rows."""
    num_coarse, num_fine, channels, hidden, _ = sizes
    scale, crop, noise_scale = space
    w1, b1, density_row, density_bias = decoder[0], decoder[1], decoder[2], decoder[3]
    ray_start = ray * (num_coarse + num_fine)
    first = live
    for s in range(span[0], span[1]):
        t = depths[ray_start + s]
        px = origins[3 * ray] + t * directions[3 * ray]
        py = origins[3 * ray + 1] + t * directions[3 * ray + 1]
        pz = origins[3 * ray + 2] + t * directions[3 * ray + 2]
        densities[ray_start + s] = _CROPPED_DENSITY
        rows[s] = -1
        if abs(px) <= crop and abs(pz) <= crop:
            point = (px * scale, py * scale, pz * scale)
            num_taps, _ = fill_taps(point, layout, False, taps)
            _gather(texels, start, num_taps, taps[0], taps[1], channels, x, live * channels)
            rows[s] = live
            live += 1
    apply_matrix(x, first, live, w1, b1, channels, hidden, h)
    softplus_rows(h, first * hidden, live * hidden)
    for s in range(span[0], span[1]):
        if rows[s] >= 0:
            density = _dot(h, rows[s] * hidden, density_row, 0, hidden) + density_bias
            if noise_scale > 0.0:
                count = span[1] - span[0]
                density += noise_scale * noise[ray * count + s - span[0]]
            densities[ray_start + s] = density
    return live


@kernel(*_WATCHED)
@no_type_check
def _decode_rows(h, live, sizes, decoder, out):
    """Decoded features before their activation."""
    _, _, _, hidden, decoded = sizes
    apply_matrix(h, 0, live, decoder[4], decoder[5], hidden, decoded, out)


@kernel(*_WATCHED)
@no_type_check
def render_rays(
    first, last, rays_per_image, image_stride, origins, directions, depths, densities, uniforms,
    coarse_noise, fine_noise, texels, layout, sizes, space, decoder, gathered, depth, opacity,
):  # fmt: skip
    """Render rays ``first`` to ``last``.

    Args:
        depths: S + F a ray; the coarse ones are given, the fine ones written.
        gathered: Written: shares times hidden values, or with an activation times decoded features.
    """
    num_coarse, num_fine, channels, hidden, decoded = sizes
    activation = decoder[6]
    total = num_coarse + num_fine
    x, h = aligned_floats((total + 4) * channels), aligned_floats((total + 4) * hidden)
    out = aligned_floats((total + 4) * decoded)
    x[:] = _ZERO
    h[:] = _ZERO
    taps = (np.empty(MAX_TAPS, np.int32), np.empty(MAX_TAPS, np.float32), np.empty(1, np.float32))
    rows, order = np.empty(total, np.int64), np.empty(total, np.int64)
    shares, scratch = np.empty(total, np.float64), np.empty(total, np.float64)
    width = decoded if activation > 0 else hidden
    for ray in range(first, last):
        start = ray // rays_per_image * image_stride
        live = _sample_span(
            ray, (0, num_coarse), 0, origins, directions, depths, densities, coarse_noise, texels,
            start, layout, sizes, space, decoder, taps, x, h, rows,
        )  # fmt: skip
        t, d = depths[ray * total : (ray + 1) * total], densities[ray * total : (ray + 1) * total]
        if num_fine > 0:
            u = uniforms[ray * num_fine : (ray + 1) * num_fine]
            place_fine_samples(t, d, u, num_coarse, num_fine, scratch)
            live = _sample_span(
                ray, (num_coarse, total), live, origins, directions, depths, densities, fine_noise,
                texels, start, layout, sizes, space, decoder, taps, x, h, rows,
            )  # fmt: skip
        merge_samples(t, num_coarse, total, order)
        depth[ray], opacity[ray] = weigh_samples(t, d, order, total, shares)
        gathered[ray * width : (ray + 1) * width] = _ZERO
        if activation > 0:
            _decode_rows(h, live, sizes, decoder, out)
            for at in range(0, live * decoded, LANES):
                value, _ = decoder_slope(vload(out, at), activation)
                vstore(out, at, value)
        for s in range(total):
            if rows[s] >= 0:
                share = np.float32(shares[s])
                source = out if activation > 0 else h
                _add_scaled(share, source, rows[s] * width, gathered, ray * width, width)


@kernel(*_WATCHED)
@no_type_check
def _revisit(
    ray, local, origins, directions, depths, densities, texels, start, layout, sizes, space,
    decoder, has_slopes, tap_rows, x, h, rows,
):  # fmt: skip
    """Evaluate all samples of a ray again, and keep their taps; returns the number of rows."""
    num_coarse, num_fine, channels, hidden, _ = sizes
    total = num_coarse + num_fine
    live = 0
    offsets, weights, slopes = tap_rows
    for s in range(total):
        rows[s] = -1
        if densities[ray * total + s] != _CROPPED_DENSITY:
            t = depths[ray * total + s]
            point = (
                (origins[3 * ray] + t * directions[3 * ray]) * space[0],
                (origins[3 * ray + 1] + t * directions[3 * ray + 1]) * space[0],
                (origins[3 * ray + 2] + t * directions[3 * ray + 2]) * space[0],
            )
            at = (local * total + live) * MAX_TAPS
            taps = (
                offsets[at : at + MAX_TAPS],
                weights[at : at + MAX_TAPS],
                slopes[3 * live * MAX_TAPS : 3 * (live + 1) * MAX_TAPS],
            )
            num_taps, _ = fill_taps(point, layout, has_slopes, taps)
            _gather(texels, start, num_taps, taps[0], taps[1], channels, x, live * channels)
            rows[s] = live
            live += 1
    apply_matrix(x, 0, live, decoder[0], decoder[1], channels, hidden, h)
    softplus_rows(h, 0, live * hidden)
    return live


@kernel(*_WATCHED)
@no_type_check
def _hidden_gradients(
    h, rows, shares, g_densities, g, at_g, sizes, decoder, w2_back, out, g_hidden, live, g_w2, g_b2,
    at_w2, at_b2,
):  # fmt: skip
    """Gradients of the hidden values by what was gathered; adds to those of the last layer."""
    num_coarse, num_fine, _, hidden, decoded = sizes
    total, activation = num_coarse + num_fine, decoder[6]
    if activation == 0:
        for s in range(total):
            if rows[s] >= 0:
                share = np.float32(shares[s])
                for column in range(0, hidden, LANES):
                    vstore(g_hidden, rows[s] * hidden + column, vload(g, at_g + column) * share)
        return
    for s in range(total):
        if rows[s] >= 0:
            share = np.float32(shares[s])
            for column in range(0, decoded, LANES):
                at = rows[s] * decoded + column
                _, slope = decoder_slope(vload(out, at), activation)
                vstore(out, at, slope * vload(g, at_g + column) * share)
            _add_scaled(_ONE, out, rows[s] * decoded, g_b2, at_b2, decoded)
    add_outer(h, out, live, hidden, decoded, at_w2, g_w2)
    apply_matrix(out, 0, live, w2_back[0], w2_back[1], decoded, hidden, g_hidden)


@kernel(*_WATCHED)
@no_type_check
def _share_gradients(h, rows, g, at_g, sizes, decoder, out, g_shares):
    """Gradient of every share: that of what was gathered times the sample's."""
    num_coarse, num_fine, _, hidden, decoded = sizes
    activation = decoder[6]
    for s in range(num_coarse + num_fine):
        g_shares[s] = 0.0
        if rows[s] >= 0:
            if activation == 0:
                g_shares[s] = _LN2 * _dot(h, rows[s] * hidden, g, at_g, hidden)
            else:
                total = splat(_ZERO)
                for column in range(0, decoded, LANES):
                    value, _ = decoder_slope(vload(out, rows[s] * decoded + column), activation)
                    total = total + value * vload(g, at_g + column)
                g_shares[s] = hsum(total)


@kernel(*_WATCHED)
@no_type_check
def _point_gradient(texels, start, num_taps, offsets, weights_slopes, dx, at, width):
    """Gradient by the point, in half boxes: slopes of the weights times texels times ``dx``."""
    gx, gy, gz = 0.0, 0.0, 0.0
    for k in range(num_taps):
        along = _dot(texels, start + offsets[k], dx, at, width)
        gx += along * weights_slopes[3 * k]
        gy += along * weights_slopes[3 * k + 1]
        gz += along * weights_slopes[3 * k + 2]
    return gx, gy, gz


@kernel(*_WATCHED)
@no_type_check
def backward_rays(
    first_block, last_block, block_size, ray_range, image_start, origins, directions, depths,
    densities, depth, opacity, texels, layout, sizes, space, decoder, back, g_gathered, g_depth,
    g_opacity, has_slopes, counts, tap_offsets, tap_weights, dx, sums, g_bias, g_origins,
    g_directions, g_coarse,
):  # fmt: skip
    """Gradients of what rays depend on; those of texels are left to ``scatter_taps``.

    Args:
        block_size: Rays whose gradients of weights are added up.
        ray_range: Rays of this call, all of one image; blocks are counted from the first.
        back: w1 as K by C with zeros for a bias, w2 as E by K with the like, and the density row,
            not scaled for base 2.
        counts: Written: samples that take part, per ray.
        tap_offsets: Written, as their weights: the texels of every such sample.
        dx: Written: gradients of their features.
        sums: Gradients of w1 (C by K), b1, density row, w2 (K by E) and b2 per block, to add to;
            those of the density row and w2 by hidden values in base 2.
        g_bias: Of the density, per ray.
    """
    num_coarse, num_fine, channels, hidden, decoded = sizes
    activation = decoder[6]
    total = num_coarse + num_fine
    x, h = aligned_floats((total + 4) * channels), aligned_floats((total + 4) * hidden)
    out, g_hidden = aligned_floats((total + 4) * decoded), aligned_floats((total + 4) * hidden)
    for buffer in (x, h, out, g_hidden):
        buffer[:] = _ZERO
    slopes = np.empty(3 * MAX_TAPS * total, np.float32)
    rows, order = np.empty(total, np.int64), np.empty(total, np.int64)
    shares, g_shares = np.empty(total, np.float64), np.empty(total, np.float64)
    g_densities, g_depths = np.empty(total, np.float64), np.empty(total, np.float64)
    num_taps = 12 if layout[0] == 1 else MAX_TAPS
    width = decoded if activation > 0 else hidden
    g_w1, g_b1, g_row, g_w2, g_b2 = sums
    for block in range(first_block, last_block):
        begin = ray_range[0] + block * block_size
        for ray in range(begin, min(begin + block_size, ray_range[1])):
            local = ray - ray_range[0]
            live = _revisit(
                ray, local, origins, directions, depths, densities, texels, image_start, layout,
                sizes, space, decoder, has_slopes, (tap_offsets, tap_weights, slopes), x, h, rows,
            )  # fmt: skip
            counts[local] = live
            t = depths[ray * total : (ray + 1) * total]
            d = densities[ray * total : (ray + 1) * total]
            merge_samples(t, num_coarse, total, order)
            weigh_samples(t, d, order, total, shares)
            if activation > 0:
                _decode_rows(h, live, sizes, decoder, out)
            _share_gradients(h, rows, g_gathered, ray * width, sizes, decoder, out, g_shares)
            weigh_samples_backward(
                t, d, order, total, g_shares, g_opacity[ray], g_depth[ray], depth[ray],
                opacity[ray], g_densities, g_depths,
            )  # fmt: skip
            _hidden_gradients(
                h, rows, shares, g_densities, g_gathered, ray * width, sizes, decoder, back[1],
                out, g_hidden, live, g_w2, g_b2, block * hidden * decoded, block * decoded,
            )  # fmt: skip
            bias = 0.0
            for s in range(total):
                bias += g_densities[s]
                if rows[s] >= 0:
                    g_density, at = np.float32(g_densities[s]), rows[s] * hidden
                    _add_scaled(g_density, h, at, g_row, block * hidden, hidden)
                    for column in range(0, hidden, LANES):
                        # The slope of the softplus, 1 / (1 + 2^-x), from its value.
                        slope = _ONE - vexp2(_ZERO - vload(h, at + column))
                        g = vload(g_hidden, at + column) + vload(back[2], column) * g_density
                        vstore(g_hidden, at + column, g * slope)
                    _add_scaled(_ONE, g_hidden, at, g_b1, block * hidden, hidden)
            g_bias[ray] = bias
            add_outer(x, g_hidden, live, channels, hidden, block * channels * hidden, g_w1)
            apply_matrix(g_hidden, 0, live, back[0][0], back[0][1], hidden, channels, x)
            at = local * total * channels
            dx[at : at + live * channels] = x[: live * channels]
            if has_slopes:
                for s in range(total):
                    along = 0.0
                    if rows[s] >= 0:
                        at = (local * total + rows[s]) * MAX_TAPS
                        gx, gy, gz = _point_gradient(
                            texels, image_start, num_taps, tap_offsets[at : at + MAX_TAPS],
                            slopes[3 * rows[s] * MAX_TAPS :], x, rows[s] * channels, channels,
                        )  # fmt: skip
                        for axis, g_axis in enumerate(
                            (gx * space[0], gy * space[0], gz * space[0])
                        ):
                            g_origins[3 * ray + axis] += g_axis
                            g_directions[3 * ray + axis] += g_axis * t[s]
                            along += g_axis * directions[3 * ray + axis]
                    if s < num_coarse:
                        g_coarse[ray * num_coarse + s] = g_depths[s] + along


@kernel(*_WATCHED)
@no_type_check
def scatter_taps(
    first_plane, last_plane, taps_per_plane, num_rays, num_samples, channels, start, counts,
    tap_offsets, tap_weights, dx, g_texels,
):  # fmt: skip
    """Add gradients of features to those of the texels of some planes.

    No two workers have the same plane: nothing is atomic, and sums have one order.
    """
    for plane in range(first_plane, last_plane):
        for ray in range(num_rays):
            for q in range(counts[ray]):
                row = ray * num_samples + q
                for k in range(plane * taps_per_plane, (plane + 1) * taps_per_plane):
                    weight = tap_weights[row * MAX_TAPS + k]
                    if weight != _ZERO:
                        at = start + tap_offsets[row * MAX_TAPS + k]
                        _add_scaled(weight, dx, row * channels, g_texels, at, channels)


@kernel(*_WATCHED)
@no_type_check
def gather_points(first, last, points_per_image, image_stride, points, texels, layout, scale, out):
    """Mean features of points."""
    taps = (np.empty(MAX_TAPS, np.int32), np.empty(MAX_TAPS, np.float32), np.empty(1, np.float32))
    channels = layout[3]
    for p in range(first, last):
        point = (points[3 * p] * scale, points[3 * p + 1] * scale, points[3 * p + 2] * scale)
        num_taps, _ = fill_taps(point, layout, False, taps)
        start = p // points_per_image * image_stride
        _gather(texels, start, num_taps, taps[0], taps[1], channels, out, p * channels)


@kernel(*_WATCHED)
@no_type_check
def backward_points(
    first, last, first_point, image_start, points, texels, layout, scale, has_slopes, counts,
    tap_offsets, tap_weights, dx, g_points,
):  # fmt: skip
    """Gradients of points, and the taps with which ``scatter_taps`` finds those of texels.

    Args:
        first_point: Of this call; ``first`` and ``last`` count from it.
        dx: Gradients of the features of all points.
    """
    slopes = np.empty(3 * MAX_TAPS, np.float32)
    for local in range(first, last):
        p = first_point + local
        point = (points[3 * p] * scale, points[3 * p + 1] * scale, points[3 * p + 2] * scale)
        at = local * MAX_TAPS
        taps = (tap_offsets[at : at + MAX_TAPS], tap_weights[at : at + MAX_TAPS], slopes)
        num_taps, _ = fill_taps(point, layout, has_slopes, taps)
        counts[local] = 1
        if has_slopes:
            channels = layout[3]
            gx, gy, gz = _point_gradient(
                texels, image_start, num_taps, taps[0], slopes, dx, p * channels, channels
            )
            g_points[3 * p] = gx * scale
            g_points[3 * p + 1] = gy * scale
            g_points[3 * p + 2] = gz * scale

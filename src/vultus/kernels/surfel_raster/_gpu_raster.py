"""Forward blending: one warp per subtile, pixels on lanes, 32 surfels of the list per trip.

Tensors of a trip are [surfels, pixels]. With one warp and the pixels last, Triton keeps the whole
surfel axis in the registers of each lane, so that scans and sums along it are plain sequential code
without a shuffle.
"""

# ruff: noqa: PLR0915, RUF005, D417 -- Triton unpacks no tuples; flags explain themselves.
from __future__ import annotations

from vultus.kernels.surfel_raster._gpu_layout import (
    FAR,
    MAX_ALPHA,
    RECORD,
    RECORD_ALPHA,
    RECORD_COLOR,
    RECORD_NORMAL,
    RECORD_UV,
    RECORD_VZ,
)
from vultus.kernels.triton_blend import (
    add_weighted,
    as_columns,
    load_features,
    store_colors,
    zeros,
)
from vultus.kernels.triton_math import load4, multiply, multiply_pairs, reciprocal
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import (
    MIN_LOG2_ALPHA,
    MIN_TRANSMITTANCE,
    PIXELS,
    pixel_coordinates,
    subtile_origin,
)

__all__ = ["blend", "evaluate", "load_channels", "load_geometry"]

HALF_LOG2_E = tl.constexpr(0.7213475204444817)
# Planes met further away than this many units count as parallel to the ray.
MIN_INVERSE_DEPTH = tl.constexpr(1e-12)


@jit
def load_geometry(record, mask, NEEDS_DEPTH: constexpr):
    """What decides a surfel's opacity and depth at a pixel; masked surfels are transparent."""
    center_x, center_y, u_x, u_y = load4(record + RECORD_UV, mask)
    v_x, v_y, z_x, z_y = load4(record + RECORD_VZ, mask)
    inverse_depth, log2_opacity, low_x, low_y = load4(record + RECORD_ALPHA, mask)
    log2_opacity = tl.where(mask, log2_opacity, -1e30)
    depth = inverse_depth
    if NEEDS_DEPTH:
        depth = tl.load(record + RECORD_COLOR, mask=mask, other=1.0)
    return (
        center_x, center_y, u_x, u_y, v_x, v_y, z_x, z_y, inverse_depth, log2_opacity, low_x, low_y,
        depth,
    )  # fmt: skip


@jit
def evaluate(surfel, x, y, max_inverse, IS_SURFHEAD: constexpr, IS_FAST: constexpr):
    """Meet rays with surfels; all arguments broadcast against each other.

    Returns opacity (0 where skipped), opacity before clamping, whether the plane decides it and not
    the low-pass, offsets from the centre, tangent coordinates, inverse depth and depth of the
    intersection, inverse depth and depth to blend, offsets from the low-pass centre.
    """
    (
        center_x, center_y, u_x, u_y, v_x, v_y, z_x, z_y, inverse_depth, log2_opacity, low_x, low_y,
        depth,
    ) = surfel  # fmt: skip
    dx, dy = x - center_x, y - center_y
    hz = inverse_depth + z_x * dx + z_y * dy
    if IS_SURFHEAD:
        is_met = hz * hz > MIN_INVERSE_DEPTH * MIN_INVERSE_DEPTH
    else:
        is_met = (hz > MIN_INVERSE_DEPTH) & (hz < max_inverse)
    inverse = reciprocal(tl.where(is_met, hz, 1.0), IS_FAST)
    u, v = (u_x * dx + u_y * dy) * inverse, (v_x * dx + v_y * dy) * inverse
    rho = u * u + v * v
    low_dx, low_dy = x - low_x, y - low_y
    low_rho = (low_dx * low_dx + low_dy * low_dy) * 2.0
    on_plane = rho <= low_rho
    blended_inverse, blended_depth = hz, inverse
    if IS_SURFHEAD:
        blended_inverse = tl.where(on_plane, hz, inverse_depth)
        blended_depth = tl.where(on_plane, inverse, depth)
        is_met = is_met & (blended_inverse > 0.0) & (blended_inverse < max_inverse)
    power = log2_opacity - tl.minimum(rho, low_rho) * HALF_LOG2_E
    raw = tl.exp2(power)
    alpha = tl.where((power >= MIN_LOG2_ALPHA) & is_met, tl.minimum(raw, MAX_ALPHA), 0.0)
    return (
        alpha, raw, on_plane, dx, dy, u, v, hz, inverse, blended_inverse, blended_depth, low_dx,
        low_dy,
    )  # fmt: skip


@jit
def load_channels(
    record, features, rows, mask, HAS_COLOR: constexpr, FIRST: constexpr, END: constexpr,
    NUM_FEATURES: constexpr, HAS_NORMAL: constexpr,
):  # fmt: skip
    """Values to blend, one tensor per channel: colour, features FIRST to END, normal."""
    values = ()
    if HAS_COLOR:
        _, red, green, blue = load4(record + RECORD_COLOR, mask)
        values = values + (red, green, blue)
    values = values + load_features(features, rows, mask, FIRST, END, NUM_FEATURES)
    if HAS_NORMAL:
        x, y, z, _ = load4(record + RECORD_NORMAL, mask)
        values = values + (x, y, z)
    return values


@jit
def blend(
    lists, lengths, records, features, background, counts,
    image, alpha_image, normal_image, depth_image, median_image, distortion_image, moments, ends,
    width, height, bins_x, bins_y, capacity, near,
    HAS_COLOR: constexpr, NUM_FEATURES: constexpr, HAS_NORMAL: constexpr,
    HAS_DEPTH: constexpr, HAS_MEDIAN: constexpr, HAS_DISTORTION: constexpr,
    HAS_BACKGROUND: constexpr, IS_SURFHEAD: constexpr, IS_FAST: constexpr, CHUNK: constexpr,
):  # fmt: skip
    """Blend one subtile front to back.

    A subtile whose list did not fit (length -1) becomes NaN: it is never silently wrong.

    Args:
        lists: Rows of records by depth, one segment of ``capacity`` per subtile.
        lengths: Length of every list.
        records: One per surfel.
        features: [rows, NUM_FEATURES], blended after the colour.
        background: Value per channel.
        counts: Starts with the counters, of which one is a mask of problems with the inputs.
        image: And the other images: [frames, channels, height, width].
        moments: [frames, 3, height, width]: first and second moment of inverse depth about that of
            the list's first surfel; position of the median surfel in the list.
        ends: Length of the part of every list that was needed.
    """
    subtile = tl.program_id(0)
    frame, x0, y0 = subtile_origin(subtile, bins_x, bins_y)
    column, line = pixel_coordinates(x0, y0)
    x, y = (column.to(tl.float32) + 0.5)[None, :], (line.to(tl.float32) + 0.5)[None, :]
    segment = lists + subtile.to(tl.int64) * capacity
    length = tl.load(lengths + subtile)
    max_inverse = 1.0 / near
    COLORS: constexpr = 3 * HAS_COLOR + NUM_FEATURES
    sums = zeros(COLORS + 3 * HAS_NORMAL, PIXELS)
    zero = tl.zeros([PIXELS], tl.float32)
    total, depth, median, first_moment, second_moment = zero, zero, zero, zero, zero
    position = zero.to(tl.int32) - 1
    transmittance = zero + 1.0
    is_first = tl.arange(0, CHUNK)[:, None] == 0
    reference = 0.0
    if HAS_DISTORTION:
        front = tl.load(segment, mask=length > 0, other=0)
        reference = tl.load(records + front * RECORD + RECORD_ALPHA, mask=length > 0, other=0.0)
    i = 0
    alive = 1
    while (i < length) & (alive > 0):
        k = i + tl.arange(0, CHUNK)
        mask = k < length
        row = tl.load(segment + k, mask=mask, other=0)
        record = records + row * RECORD
        surfel = as_columns(load_geometry(record, mask, IS_SURFHEAD))
        alpha, _, _, _, _, _, _, _, _, inverse_z, z, _, _ = evaluate(
            surfel, x, y, max_inverse, IS_SURFHEAD, IS_FAST
        )
        # Exclusive and inclusive transmittance from one scan; the first row carries the past.
        rest = tl.where(is_first, (1.0 - alpha) * transmittance[None, :], 1.0 - alpha)
        start = tl.where(is_first, transmittance[None, :], 1.0)
        after, before = tl.associative_scan((rest, start), 0, multiply_pairs)
        weight = tl.where(after > MIN_TRANSMITTANCE, before * alpha, 0.0)
        total += tl.sum(weight, 0)
        values = load_channels(
            record, features, row, mask, HAS_COLOR, 0, NUM_FEATURES, NUM_FEATURES, HAS_NORMAL
        )
        sums = add_weighted(sums, weight, values)
        if HAS_DEPTH:
            depth += tl.sum(weight * z, 0)
        if HAS_MEDIAN:
            is_candidate = (weight > 0.0) & (before > 0.5)
            best = tl.max(tl.where(is_candidate, k[:, None], -1), 0)
            chosen = tl.sum(tl.where(k[:, None] == best[None, :], z, 0.0), 0)
            median = tl.where(best >= 0, chosen, median)
            position = tl.maximum(position, best)
        if HAS_DISTORTION:
            offset = inverse_z - reference
            moment = weight * offset
            first_moment += tl.sum(moment, 0)
            second_moment += tl.sum(moment * offset, 0)
        # The last row of ``after``; Triton 3.6 finds it in the scan.
        transmittance = tl.reduce(rest, 0, multiply)
        alive = tl.max((transmittance > MIN_TRANSMITTANCE).to(tl.int32), 0)
        i += CHUNK
    tl.store(ends + subtile, tl.minimum(i, tl.maximum(length, 0)))

    inside = (column < width) & (line < height)
    size = width * height
    pixel = frame.to(tl.int64) * size + line * width + column
    # Images with several channels advance by their number of channels per frame.
    at = line * width + column + frame.to(tl.int64) * size * COLORS
    poison = tl.where(length < 0, float("nan"), 0.0)
    store_colors(
        image + at, size, sums, total, poison, background, inside, counts, COLORS, HAS_BACKGROUND
    )
    tl.store(alpha_image + pixel, total + poison, mask=inside)
    if HAS_NORMAL:
        at = line * width + column + frame.to(tl.int64) * size * 3
        for c in tl.static_range(3):
            tl.store(normal_image + at + c * size, sums[COLORS + c] + poison, mask=inside)
    if HAS_DEPTH:
        tl.store(depth_image + pixel, depth + poison, mask=inside)
    moments += line * width + column + frame.to(tl.int64) * size * 3
    if HAS_MEDIAN:
        tl.store(median_image + pixel, median + poison, mask=inside)
        tl.store(moments + 2 * size, position.to(tl.float32), mask=inside)
    if HAS_DISTORTION:
        # sum_i sum_j<i w_i w_j (m_i - m_j)^2 = scale (A Z2 - Z1^2), moments of inverse depth.
        scale = FAR * near / (FAR - near)
        spread = tl.maximum(total * second_moment - first_moment * first_moment, 0.0)
        tl.store(distortion_image + pixel, spread * scale * scale + poison, mask=inside)
        tl.store(moments, first_moment, mask=inside)
        tl.store(moments + size, second_moment, mask=inside)

"""Backward pass of blending: one warp per subtile, 32 surfels on lanes, a few pixels per trip.

With a surfel per lane its record and all of its sums over pixels stay in registers of that lane;
only the two scans along the list, of transmittance and of the loss, cross lanes. With pixels on
lanes, as in the forward pass, every sum would need one register per surfel of a trip.

The loss behind a surfel is the total minus the running prefix, so the pass walks front to back over
the part of the list that the forward pass needed, and stores nothing per pair.
"""

# ruff: noqa: PLR0915, RUF005, D417 -- Triton unpacks no tuples; flags explain themselves.
from __future__ import annotations

from vultus.kernels.surfel_raster._gpu_layout import (
    FAR,
    GRADIENT,
    GRADIENT_COLOR,
    GRADIENT_NORMAL,
    GRADIENT_U,
    GRADIENT_V,
    GRADIENT_Z,
    MAX_ALPHA,
    RECORD,
    RECORD_ALPHA,
)
from vultus.kernels.surfel_raster._gpu_raster import (
    evaluate,
    load_channels,
    load_geometry,
)
from vultus.kernels.triton_blend import add_sums, as_rows, emit, emit4, emit_features, zeros
from vultus.kernels.triton_math import reciprocal
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import (
    CHUNK,
    MIN_TRANSMITTANCE,
    PIXELS,
    SUBTILE_WIDTH,
    pixel_coordinates,
    subtile_origin,
)

__all__ = ["FIRST_CHANNEL_PLANE", "blend_backward"]

# Planes of a subtile's scratch, 32 pixels each. The state of the walk is kept twice, since a trip
# reads what the last one wrote; then what multiplies weights and depths.
STATE = tl.constexpr(0)  # transmittance, rest of the loss; twice
GAIN, GRAD_DEPTH, GRAD_MEDIAN = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6)
MEDIAN_POSITION, MOMENT_0, MOMENT_1 = tl.constexpr(7), tl.constexpr(8), tl.constexpr(9)
FIRST_CHANNEL_PLANE = tl.constexpr(10)


@jit
def _prepare_pixels(
    planes, frame, column, line, width, height, channels, near, background,
    image, alpha_image, normal_image, depth_image, distortion_image, moments,
    grad_image, grad_alpha, grad_normal, grad_depth, grad_median, grad_distortion,
    FIRST_CHANNEL: constexpr, COLORS: constexpr, HAS_ALPHA: constexpr,
    HAS_NORMAL: constexpr, HAS_DEPTH: constexpr, HAS_MEDIAN: constexpr,
    HAS_DISTORTION: constexpr, HAS_BACKGROUND: constexpr, IS_DETACHED: constexpr,
):  # fmt: skip
    """Write a subtile's planes: gradients of the images, and the state before the first surfel."""
    inside = (column < width) & (line < height)
    size = width * height
    local = line * width + column
    pixel = frame * size + local
    opaque = tl.load(alpha_image + pixel, mask=inside, other=0.0)
    gain = opaque * 0.0
    if HAS_ALPHA:
        gain = tl.load(grad_alpha + pixel, mask=inside, other=0.0)
    # The image over its background is a sum of weighted values minus alpha times the background.
    rest = gain * opaque
    for c in tl.static_range(COLORS):
        at = (frame * channels + FIRST_CHANNEL + c) * size + local
        grad = tl.load(grad_image + at, mask=inside, other=0.0)
        value = tl.load(image + at, mask=inside, other=0.0)
        if HAS_BACKGROUND:
            behind = tl.load(background + FIRST_CHANNEL + c)
            value -= behind
            gain -= grad * behind
        rest += grad * value
        tl.store(planes + (FIRST_CHANNEL_PLANE + c) * PIXELS, grad)
    if HAS_NORMAL:
        for c in tl.static_range(3):
            at = (frame * 3 + c) * size + local
            grad = tl.load(grad_normal + at, mask=inside, other=0.0)
            rest += grad * tl.load(normal_image + at, mask=inside, other=0.0)
            tl.store(planes + (FIRST_CHANNEL_PLANE + COLORS + c) * PIXELS, grad)
    if HAS_DEPTH:
        grad = tl.load(grad_depth + pixel, mask=inside, other=0.0)
        rest += grad * tl.load(depth_image + pixel, mask=inside, other=0.0)
        tl.store(planes + GRAD_DEPTH * PIXELS, grad)
    moments += frame * 3 * size + local
    if HAS_MEDIAN:
        grad = tl.load(grad_median + pixel, mask=inside, other=0.0)
        position = tl.load(moments + 2 * size, mask=inside, other=-1.0)
        tl.store(planes + GRAD_MEDIAN * PIXELS, grad)
        tl.store(planes + MEDIAN_POSITION * PIXELS, position)
    if HAS_DISTORTION:
        grad = tl.load(grad_distortion + pixel, mask=inside, other=0.0)
        scale = FAR * near / (FAR - near)
        scaled = grad * scale * scale
        if not IS_DETACHED:
            # Distortion is quadratic in the weights: twice itself is the sum of weighted gains.
            value = tl.load(distortion_image + pixel, mask=inside, other=0.0)
            rest += 2.0 * grad * value
            gain += scaled * tl.load(moments + size, mask=inside, other=0.0)
        tl.store(planes + MOMENT_0 * PIXELS, scaled * opaque)
        tl.store(planes + MOMENT_1 * PIXELS, scaled * tl.load(moments, mask=inside, other=0.0))
    tl.store(planes + GAIN * PIXELS, gain)
    tl.store(planes + STATE * PIXELS, tl.where(inside, 1.0, 0.0))
    tl.store(planes + (STATE + 1) * PIXELS, rest)


@jit
def _walk_pixels(
    planes, parity, p, x0, y0, k, surfel, values, max_inverse, reference,
    HAS_DEPTH: constexpr, HAS_MEDIAN: constexpr, HAS_DISTORTION: constexpr,
    IS_DETACHED: constexpr, IS_SURFHEAD: constexpr, IS_FAST: constexpr,
    STEP: constexpr,
):  # fmt: skip
    """Take a few pixels through a trip's surfels.

    Returns what a surfel sums over its pixels: twelve terms of its geometry, then one per channel.
    """
    pixel = p + tl.arange(0, STEP)
    x = (x0 + pixel % SUBTILE_WIDTH).to(tl.float32) + 0.5
    y = (y0 + pixel // SUBTILE_WIDTH).to(tl.float32) + 0.5
    (
        alpha, raw, on_plane, dx, dy, u, v, hz, inverse, inverse_z, z, low_dx, low_dy,
    ) = evaluate(surfel, x[:, None], y[:, None], max_inverse, IS_SURFHEAD, IS_FAST)  # fmt: skip
    source = planes + (STATE + 2 * parity) * PIXELS + pixel
    target = planes + (STATE + 2 - 2 * parity) * PIXELS + pixel
    planes += pixel
    keep = 1.0 - alpha
    inverse_keep = reciprocal(keep, IS_FAST)
    after = tl.cumprod(keep, 1) * tl.load(source)[:, None]
    is_blended = after > MIN_TRANSMITTANCE
    alpha = tl.where(is_blended, alpha, 0.0)
    weight = after * inverse_keep * alpha

    # gain: gradient of the weight; slope: of the inverse depth, over the weight.
    gain = tl.load(planes + GAIN * PIXELS)[:, None] + weight * 0.0
    slope = weight * 0.0
    channel_terms = ()
    for c in tl.static_range(len(values)):
        grad = tl.load(planes + (FIRST_CHANNEL_PLANE + c) * PIXELS)[:, None]
        gain += grad * values[c]
        channel_terms = channel_terms + (weight * grad,)
    if HAS_DEPTH:
        grad = tl.load(planes + GRAD_DEPTH * PIXELS)[:, None]
        gain += grad * z
        slope -= grad * z * z
    if HAS_DISTORTION:
        offset = inverse_z - reference
        moment_0 = tl.load(planes + MOMENT_0 * PIXELS)[:, None]
        moment_1 = tl.load(planes + MOMENT_1 * PIXELS)[:, None]
        if not IS_DETACHED:
            gain += offset * (moment_0 * offset - 2.0 * moment_1)
        slope += 2.0 * (offset * moment_0 - moment_1)
    grad_z = weight * slope
    if HAS_MEDIAN:
        position = tl.load(planes + MEDIAN_POSITION * PIXELS)[:, None]
        grad = tl.load(planes + GRAD_MEDIAN * PIXELS)[:, None]
        grad_z -= tl.where(position == k.to(tl.float32)[None, :], grad * z * z, 0.0)
    gained = weight * gain
    rest = tl.load(source + PIXELS)[:, None] - tl.cumsum(gained, 1)
    is_last = (tl.arange(0, CHUNK) == CHUNK - 1)[None, :]
    tl.store(target[:, None] + tl.zeros([1, CHUNK], tl.int32), after, mask=is_last)
    tl.store(target[:, None] + PIXELS + tl.zeros([1, CHUNK], tl.int32), rest, mask=is_last)

    grad = tl.where(raw < MAX_ALPHA, gained - rest * (alpha * inverse_keep), 0.0)
    grad_rho, grad_low = tl.where(on_plane, -grad, 0.0), tl.where(on_plane, 0.0, grad)
    grad_u, grad_v = grad_rho * u * inverse, grad_rho * v * inverse
    low_depth = weight * 0.0
    if IS_SURFHEAD:
        low_depth = tl.where(on_plane, 0.0, grad_z)
        grad_z = tl.where(on_plane, grad_z, 0.0)
    elif HAS_DEPTH or HAS_MEDIAN or HAS_DISTORTION:
        low_depth = tl.where(on_plane, 0.0, grad_z * hz)
    grad_z -= grad_u * u + grad_v * v
    return (
        grad_u, grad_u * dx, grad_u * dy, low_depth, grad_v, grad_v * dx, grad_v * dy, grad,
        grad_z, grad_z * dx, grad_z * dy, 2.0 * grad_low * low_dx, 2.0 * grad_low * low_dy,
    ), channel_terms  # fmt: skip


@jit
def _emit_gradients(
    gradients, grad_features, slot, mask, sums, channels,
    HAS_COLOR: constexpr, FIRST: constexpr, END: constexpr, NUM_FEATURES: constexpr,
    HAS_NORMAL: constexpr, IS_DETERMINISTIC: constexpr,
):  # fmt: skip
    """Hand over what a trip's surfels have summed; ``slot`` is the row to add to."""
    target = gradients + slot.to(tl.int64) * GRADIENT
    emit4(target + GRADIENT_U, sums[0], sums[1], sums[2], sums[3], mask, IS_DETERMINISTIC)
    emit4(target + GRADIENT_V, sums[4], sums[5], sums[6], sums[7], mask, IS_DETERMINISTIC)
    emit4(target + GRADIENT_Z, sums[8], sums[9], sums[10], sums[11], mask, IS_DETERMINISTIC)
    COLORS: constexpr = 3 if HAS_COLOR else 0
    if HAS_COLOR:
        emit4(
            target + GRADIENT_COLOR, sums[12], channels[0], channels[1], channels[2], mask,
            IS_DETERMINISTIC,
        )  # fmt: skip
    else:
        emit(target + GRADIENT_COLOR, sums[12], mask, IS_DETERMINISTIC)
    if HAS_NORMAL:
        at: constexpr = COLORS + END - FIRST
        zero = sums[0] * 0.0
        emit4(
            target + GRADIENT_NORMAL, channels[at], channels[at + 1], channels[at + 2], zero, mask,
            IS_DETERMINISTIC,
        )  # fmt: skip
    emit_features(
        grad_features, slot, mask, channels, COLORS, FIRST, END, NUM_FEATURES, IS_DETERMINISTIC
    )


@jit
def blend_backward(
    lists, ends, records, features, background, scratch,
    image, alpha_image, normal_image, depth_image, distortion_image, moments,
    grad_image, grad_alpha, grad_normal, grad_depth, grad_median, grad_distortion,
    gradients, grad_features, first_pairs, num_pairs,
    width, height, bins_x, bins_y, capacity, channels, planes, near,
    FIRST_CHANNEL: constexpr, HAS_COLOR: constexpr, FIRST: constexpr, END: constexpr,
    NUM_FEATURES: constexpr, HAS_ALPHA: constexpr, HAS_NORMAL: constexpr,
    HAS_DEPTH: constexpr, HAS_MEDIAN: constexpr, HAS_DISTORTION: constexpr,
    HAS_BACKGROUND: constexpr, IS_DETACHED: constexpr, IS_SURFHEAD: constexpr,
    IS_DETERMINISTIC: constexpr, IS_FAST: constexpr, STEP: constexpr,
):  # fmt: skip
    """Gradients of records from those of the images, for one subtile and one group of channels.

    The gradient of the loss is linear in the gains of the channels, so that groups may be handled
    by separate launches: colour if HAS_COLOR, features FIRST to END, and the maps of the HAS flags.

    Args:
        lists: As in `blend`; also records, features, background and images.
        ends: Length of the part of every list that the forward pass needed.
        scratch: ``planes`` planes of 32 pixels per subtile.
        grad_image: And so on: gradients of the images.
        gradients: [rows, GRADIENT], to add to; deterministic: one row per pair, to be written.
        grad_features: [rows, NUM_FEATURES], likewise.
        first_pairs: Deterministic: row of every subtile's first pair.
        num_pairs: Deterministic: number of rows.
        channels: Number of channels of the image; those of the group start at FIRST_CHANNEL.
    """
    subtile = tl.program_id(0)
    end = tl.load(ends + subtile)
    if end > 0:
        frame, x0, y0 = subtile_origin(subtile, bins_x, bins_y)
        column, line = pixel_coordinates(x0, y0)
        own_planes = scratch + subtile.to(tl.int64) * planes * PIXELS
        COLORS: constexpr = (3 if HAS_COLOR else 0) + END - FIRST
        _prepare_pixels(
            own_planes + tl.arange(0, PIXELS), frame.to(tl.int64), column, line, width, height,
            channels, near, background,
            image, alpha_image, normal_image, depth_image, distortion_image, moments,
            grad_image, grad_alpha, grad_normal, grad_depth, grad_median, grad_distortion,
            FIRST_CHANNEL, COLORS, HAS_ALPHA, HAS_NORMAL, HAS_DEPTH, HAS_MEDIAN, HAS_DISTORTION,
            HAS_BACKGROUND, IS_DETACHED,
        )  # fmt: skip
        segment = lists + subtile.to(tl.int64) * capacity
        reference = tl.load(records + tl.load(segment) * RECORD + RECORD_ALPHA)
        max_inverse = 1.0 / near
        parity = 0
        i = 0
        while i < end:
            tl.debug_barrier()
            k = i + tl.arange(0, CHUNK)
            mask = k < end
            row = tl.load(segment + k, mask=mask, other=0)
            record = records + row * RECORD
            surfel = as_rows(load_geometry(record, mask, IS_SURFHEAD))
            values = as_rows(
                load_channels(
                    record, features, row, mask, HAS_COLOR, FIRST, END, NUM_FEATURES, HAS_NORMAL
                )
            )
            sums = zeros(13, CHUNK)
            channel_sums = zeros(COLORS + (3 if HAS_NORMAL else 0), CHUNK)
            for p in range(0, PIXELS, STEP):
                # Opaque pixels and those outside of the image gain nothing from here on. A maximum
                # of integers over the warp is a branch that the compiler knows to be the same for
                # all lanes: the scans need no code for others.
                pixel = p + tl.arange(0, CHUNK) % STEP
                state = own_planes + (STATE + 2 * parity) * PIXELS + pixel
                transmittance = tl.load(state)
                if tl.max((transmittance > MIN_TRANSMITTANCE).to(tl.int32), 0) > 0:
                    terms, channel_terms = _walk_pixels(
                        own_planes, parity, p, x0, y0, k, surfel, values, max_inverse, reference,
                        HAS_DEPTH, HAS_MEDIAN, HAS_DISTORTION, IS_DETACHED, IS_SURFHEAD, IS_FAST,
                        STEP,
                    )  # fmt: skip
                    sums = add_sums(sums, terms)
                    channel_sums = add_sums(channel_sums, channel_terms)
                else:
                    tl.store(own_planes + (STATE + 2 - 2 * parity) * PIXELS + pixel, transmittance)
            slot = row
            if IS_DETERMINISTIC:
                slot = tl.load(first_pairs + subtile) + k
                mask = mask & (slot < num_pairs)
            _emit_gradients(
                gradients, grad_features, slot, mask, sums, channel_sums,
                HAS_COLOR, FIRST, END, NUM_FEATURES, HAS_NORMAL, IS_DETERMINISTIC,
            )  # fmt: skip
            parity = 1 - parity
            i += CHUNK

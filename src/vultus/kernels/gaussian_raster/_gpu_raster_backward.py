"""Backward pass of blending: one warp per subtile, 32 Gaussians on lanes, a few pixels per trip.

With a Gaussian per lane its record and all of its sums over pixels stay in registers of that lane;
only the two scans along the list, of transmittance and of the loss, cross lanes. With pixels on
lanes, as in the forward pass, every sum would need one register per Gaussian of a trip.

The loss behind a Gaussian is the total minus the running prefix, so the pass walks front to back
over the part of the list that the forward pass needed, and stores nothing per pair.
"""

# ruff: noqa: RUF005, D417 -- Triton unpacks no tuples; flags explain themselves.
from __future__ import annotations

from vultus.kernels.gaussian_raster._gpu_layout import (
    GRADIENT,
    GRADIENT_POWER,
    GRADIENT_REST,
    GRADIENT_SHAPE,
    RECORD,
    RECORD_COLOR,
    RECORD_DEPTH,
    RECORD_POWER,
)
from vultus.kernels.gaussian_raster._gpu_raster import expand_power
from vultus.kernels.triton_blend import (
    add_sums,
    as_rows,
    emit,
    emit4,
    emit_features,
    load_features,
    zeros,
)
from vultus.kernels.triton_math import load4, reciprocal
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import (
    CHUNK,
    MIN_LOG2_ALPHA,
    MIN_TRANSMITTANCE,
    PIXELS,
    SUBTILE_HEIGHT,
    SUBTILE_WIDTH,
    pixel_coordinates,
    subtile_origin,
)

__all__ = ["FIRST_CHANNEL_PLANE", "blend_backward"]

# Planes of a subtile's scratch, 32 pixels each. The state of the walk is kept twice, since a trip
# reads what the last one wrote; then what multiplies weights.
STATE = tl.constexpr(0)  # transmittance, rest of the loss; twice
GAIN, GRAD_MEDIAN, MEDIAN_POSITION = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6)
FIRST_CHANNEL_PLANE = tl.constexpr(7)
# Offset of a subtile's centre from its first pixel's.
MIDDLE_X = tl.constexpr(SUBTILE_WIDTH.value / 2 - 0.5)
MIDDLE_Y = tl.constexpr(SUBTILE_HEIGHT.value / 2 - 0.5)


@jit
def _load_channels(
    record, features, rows, mask, depth, HAS_COLOR: constexpr, FIRST: constexpr, END: constexpr,
    NUM_FEATURES: constexpr, HAS_DEPTH: constexpr,
):  # fmt: skip
    """Values to blend, one tensor per channel: colour, features FIRST to END, depth."""
    values = ()
    if HAS_COLOR:
        red, green, blue, _ = load4(record + RECORD_COLOR, mask)
        values = values + (red, green, blue)
    values = values + load_features(features, rows, mask, FIRST, END, NUM_FEATURES)
    if HAS_DEPTH:
        values = values + (depth,)
    return values


@jit
def _load_power(record, mask, x0, y0):
    """Coefficients of log2 alpha about a subtile's centre; masked Gaussians are transparent.

    Returns the offset of the Gaussian from there, the coefficients of 1, x, y, xx, xy, yy, and its
    depth.
    """
    center_x, center_y, xx, xy = load4(record + RECORD_POWER, mask)
    yy, log2_opacity, depth, _ = load4(record + RECORD_DEPTH, mask)
    log2_opacity = tl.where(mask, log2_opacity, -1e30)
    dx, dy, one, x, y = expand_power(
        center_x, center_y, xx, xy, yy, log2_opacity,
        x0 + SUBTILE_WIDTH / 2, y0 + SUBTILE_HEIGHT / 2,
    )  # fmt: skip
    return (dx, dy), (one, x, y, xx, xy, yy), depth


@jit
def _prepare_pixels(
    planes, frame, column, line, width, height, channels, background,
    image, alpha_image, depth_image, positions, grad_image, grad_alpha, grad_depth, grad_median,
    FIRST_CHANNEL: constexpr, COLORS: constexpr, HAS_ALPHA: constexpr, HAS_DEPTH: constexpr,
    HAS_MEDIAN: constexpr, HAS_BACKGROUND: constexpr,
):  # fmt: skip
    """Write a subtile's planes: gradients of images, and the state before the first Gaussian."""
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
    if HAS_DEPTH:
        grad = tl.load(grad_depth + pixel, mask=inside, other=0.0)
        rest += grad * tl.load(depth_image + pixel, mask=inside, other=0.0)
        tl.store(planes + (FIRST_CHANNEL_PLANE + COLORS) * PIXELS, grad)
    if HAS_MEDIAN:
        grad = tl.load(grad_median + pixel, mask=inside, other=0.0)
        position = tl.load(positions + pixel, mask=inside, other=-1.0)
        tl.store(planes + GRAD_MEDIAN * PIXELS, grad)
        tl.store(planes + MEDIAN_POSITION * PIXELS, position)
    tl.store(planes + GAIN * PIXELS, gain)
    tl.store(planes + STATE * PIXELS, tl.where(inside, 1.0, 0.0))
    tl.store(planes + (STATE + 1) * PIXELS, rest)


@jit
def _offsets(first, line, STEP: constexpr):
    """Offsets of STEP pixels of a line from the subtile's centre."""
    x = tl.arange(0, STEP).to(tl.float32) - MIDDLE_X + first * 1.0
    return x[:, None], line * 1.0 - MIDDLE_Y


@jit
def _walk_pixels(
    planes, parity, first, line, k, power, values, max_alpha,
    HAS_MEDIAN: constexpr, HAS_PUBLISHED_GRADIENTS: constexpr, IS_FAST: constexpr, STEP: constexpr,
):  # fmt: skip
    """Take a few pixels of a line through a trip's Gaussians.

    Returns per pixel and Gaussian the gradient of log alpha, that of each channel's value, and that
    of the depth of the median.
    """
    x, y = _offsets(first, line, STEP)
    one, along_x, along_y, xx, xy, yy = power
    log2_alpha = one + y * (along_y + yy * y) + x * (along_x + xy * y) + xx * (x * x)
    raw = tl.exp2(log2_alpha)
    alpha = tl.where(log2_alpha >= MIN_LOG2_ALPHA, tl.minimum(raw, max_alpha), 0.0)
    pixel = line * SUBTILE_WIDTH + first + tl.arange(0, STEP)
    source = planes + (STATE + 2 * parity) * PIXELS + pixel
    target = planes + (STATE + 2 - 2 * parity) * PIXELS + pixel
    planes += pixel
    keep = 1.0 - alpha
    after = tl.cumprod(keep, 1) * tl.load(source)[:, None]
    ratio = tl.where(after > MIN_TRANSMITTANCE, alpha * reciprocal(keep, IS_FAST), 0.0)
    weight = after * ratio

    gain = tl.load(planes + GAIN * PIXELS)[:, None]
    channel_terms = ()
    for c in tl.static_range(len(values)):
        grad = tl.load(planes + (FIRST_CHANNEL_PLANE + c) * PIXELS)[:, None]
        gain += grad * values[c]
        channel_terms = channel_terms + (weight * grad,)
    median_term = ()
    if HAS_MEDIAN:
        position = tl.load(planes + MEDIAN_POSITION * PIXELS)[:, None]
        grad = tl.load(planes + GRAD_MEDIAN * PIXELS)[:, None]
        median_term = (tl.where(position == k.to(tl.float32)[None, :], grad, 0.0),)
    gained = weight * gain
    rest = tl.load(source + PIXELS)[:, None] - tl.cumsum(gained, 1)
    is_last = (tl.arange(0, CHUNK) == CHUNK - 1)[None, :]
    tl.store(target[:, None] + tl.zeros([1, CHUNK], tl.int32), after, mask=is_last)
    tl.store(target[:, None] + PIXELS + tl.zeros([1, CHUNK], tl.int32), rest, mask=is_last)

    grad = gained - rest * ratio
    if HAS_PUBLISHED_GRADIENTS:
        # d alpha / d raw = 1 even where alpha is clamped.
        grad = tl.where(raw > max_alpha, grad * (raw / max_alpha), grad)
    else:
        grad = tl.where(raw <= max_alpha, grad, 0.0)
    return grad, channel_terms, median_term


@jit
def _add_moments(moments, grad, first, line, STEP: constexpr):
    """Add the moments 1, x, y, xx, xy, yy of a trip's pixels about the subtile's centre."""
    x, y = _offsets(first, line, STEP)
    one, along_x = tl.sum(grad, 0), tl.sum(grad * x, 0)
    return (
        moments[0] + one,
        moments[1] + along_x,
        moments[2] + y * one,
        moments[3] + tl.sum(grad * (x * x), 0),
        moments[4] + y * along_x,
        moments[5] + y * y * one,
    )


@jit
def _emit_gradients(
    gradients, grad_features, slot, mask, offset, moments, channels, median,
    HAS_COLOR: constexpr, FIRST: constexpr, END: constexpr, NUM_FEATURES: constexpr,
    HAS_DEPTH: constexpr, HAS_MEDIAN: constexpr, IS_DETERMINISTIC: constexpr,
):  # fmt: skip
    """Hand over what a trip's Gaussians have summed; ``slot`` is the row to add to."""
    # From moments about the subtile's centre to those about the Gaussian's.
    dx, dy = offset
    one, x, y, xx, xy, yy = moments
    xx += dx * (dx * one - 2.0 * x)
    xy += dx * (dy * one - y) - dy * x
    yy += dy * (dy * one - 2.0 * y)
    target = gradients + slot.to(tl.int64) * GRADIENT
    emit4(target + GRADIENT_POWER, one, x - dx * one, y - dy * one, xx, mask, IS_DETERMINISTIC)
    red, green = one * 0.0, one * 0.0
    if HAS_COLOR:
        red, green = channels[0], channels[1]
        emit(target + GRADIENT_REST, channels[2], mask, IS_DETERMINISTIC)
    emit4(target + GRADIENT_SHAPE, xy, yy, red, green, mask, IS_DETERMINISTIC)
    COLORS: constexpr = 3 if HAS_COLOR else 0
    depth = one * 0.0
    if HAS_DEPTH:
        depth += channels[COLORS + END - FIRST]
    if HAS_MEDIAN:
        depth += median[0]
    if HAS_DEPTH or HAS_MEDIAN:
        emit(target + GRADIENT_REST + 1, depth, mask, IS_DETERMINISTIC)
    emit_features(
        grad_features, slot, mask, channels, COLORS, FIRST, END, NUM_FEATURES, IS_DETERMINISTIC
    )


@jit
def blend_backward(
    lists, ends, records, features, background, scratch,
    image, alpha_image, depth_image, positions, grad_image, grad_alpha, grad_depth, grad_median,
    gradients, grad_features, first_pairs, num_pairs,
    width, height, bins_x, bins_y, capacity, channels, planes, max_alpha,
    FIRST_CHANNEL: constexpr, HAS_COLOR: constexpr, FIRST: constexpr, END: constexpr,
    NUM_FEATURES: constexpr, HAS_ALPHA: constexpr, HAS_DEPTH: constexpr, HAS_MEDIAN: constexpr,
    HAS_BACKGROUND: constexpr, HAS_PUBLISHED_GRADIENTS: constexpr, IS_DETERMINISTIC: constexpr,
    IS_FAST: constexpr, STEP: constexpr,
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
        column, row_of_pixel = pixel_coordinates(x0, y0)
        own_planes = scratch + subtile.to(tl.int64) * planes * PIXELS
        COLORS: constexpr = (3 if HAS_COLOR else 0) + END - FIRST
        _prepare_pixels(
            own_planes + tl.arange(0, PIXELS), frame.to(tl.int64), column, row_of_pixel, width,
            height, channels, background,
            image, alpha_image, depth_image, positions,
            grad_image, grad_alpha, grad_depth, grad_median,
            FIRST_CHANNEL, COLORS, HAS_ALPHA, HAS_DEPTH, HAS_MEDIAN, HAS_BACKGROUND,
        )  # fmt: skip
        segment = lists + subtile.to(tl.int64) * capacity
        parity = 0
        i = 0
        while i < end:
            tl.debug_barrier()
            k = i + tl.arange(0, CHUNK)
            mask = k < end
            row = tl.load(segment + k, mask=mask, other=0)
            record = records + row * RECORD
            offset, power, depth = _load_power(record, mask, x0, y0)
            power = as_rows(power)
            values = as_rows(
                _load_channels(
                    record, features, row, mask, depth, HAS_COLOR, FIRST, END, NUM_FEATURES,
                    HAS_DEPTH,
                )
            )  # fmt: skip
            moments = zeros(6, CHUNK)
            channel_sums = zeros(COLORS + HAS_DEPTH, CHUNK)
            median_sum = zeros(HAS_MEDIAN, CHUNK)
            for line in range(0, SUBTILE_HEIGHT):
                for first in range(0, SUBTILE_WIDTH, STEP):
                    # Opaque pixels and those outside of the image gain nothing from here on. A
                    # maximum of integers over the warp is a branch that the compiler knows to be
                    # the same for all lanes: the scans need no code for others.
                    pixel = line * SUBTILE_WIDTH + first + tl.arange(0, CHUNK) % STEP
                    state = own_planes + pixel
                    transmittance = tl.load(state + (STATE + 2 * parity) * PIXELS)
                    if tl.max((transmittance > MIN_TRANSMITTANCE).to(tl.int32), 0) > 0:
                        grad, channel_terms, median_term = _walk_pixels(
                            own_planes, parity, first, line, k, power, values, max_alpha,
                            HAS_MEDIAN, HAS_PUBLISHED_GRADIENTS, IS_FAST, STEP,
                        )  # fmt: skip
                        moments = _add_moments(moments, grad, first, line, STEP)
                        channel_sums = add_sums(channel_sums, channel_terms)
                        median_sum = add_sums(median_sum, median_term)
                    else:
                        tl.store(state + (STATE + 2 - 2 * parity) * PIXELS, transmittance)
            slot = row
            if IS_DETERMINISTIC:
                slot = tl.load(first_pairs + subtile) + k
                mask = mask & (slot < num_pairs)
            _emit_gradients(
                gradients, grad_features, slot, mask, offset, moments, channel_sums, median_sum,
                HAS_COLOR, FIRST, END, NUM_FEATURES, HAS_DEPTH, HAS_MEDIAN, IS_DETERMINISTIC,
            )  # fmt: skip
            parity = 1 - parity
            i += CHUNK

"""Parts of the blending kernels that do not depend on what is blended.

Channels are tuples of tensors, since Triton's layouts are chosen per tensor: a loop over a tuple is
unrolled, and its sums stay in registers.
"""

# ruff: noqa: RUF005 -- Triton unpacks no tuples.
from __future__ import annotations

from vultus.kernels.triton_math import is_finite, join4, load_floats
from vultus.kernels.triton_runtime import constexpr, jit, tl
from vultus.kernels.triton_tiles import COUNT_PROBLEMS, PIXELS, report

__all__ = [
    "add_sums",
    "add_weighted",
    "as_columns",
    "as_rows",
    "emit",
    "emit4",
    "emit_features",
    "load_features",
    "store_colors",
    "zeros",
]

# Bit of the problem mask.
BAD_FEATURES = tl.constexpr(64)


@jit
def as_columns(values):
    """Add an axis for the pixels behind every tensor of a tuple."""
    columns = ()
    for k in tl.static_range(len(values)):
        columns = columns + (values[k][:, None],)
    return columns


@jit
def as_rows(values):
    """Add an axis for the pixels in front of every tensor of a tuple."""
    rows = ()
    for k in tl.static_range(len(values)):
        rows = rows + (values[k][None, :],)
    return rows


@jit
def zeros(COUNT: constexpr, SIZE: constexpr):
    """A tuple of zero vectors."""
    values = ()
    for _ in tl.static_range(COUNT):
        values = values + (tl.zeros([SIZE], tl.float32),)
    return values


@jit
def add_weighted(sums, weight, values):
    """Add the values of a trip's primitives, times their weights, to the sums per pixel."""
    results = ()
    for k in tl.static_range(len(values)):
        results = results + (sums[k] + tl.sum(weight * values[k][:, None], 0),)
    return results


@jit
def add_sums(sums, terms):
    """Add the sums over a trip's pixels to the sums per primitive."""
    results = ()
    for k in tl.static_range(len(sums)):
        results = results + (sums[k] + tl.sum(terms[k], 0),)
    return results


@jit
def store_colors(
    image, size, sums, total, poison, background, inside, counts, COUNT: constexpr,
    HAS_BACKGROUND: constexpr,
):  # fmt: skip
    """Store channels of pixels over the background, and report those that are not finite.

    Args:
        image: Points to the first channel of every pixel; the next is ``size`` further.
        size: Pixels of an image.
        sums: Weighted channels, of which the first ``COUNT`` are stored.
        total: Weights.
        poison: Added to what is stored: NaN where lists did not fit.
        background: Channels.
        inside: Which pixels there are.
        counts: The counters of `triton_tiles`.
        COUNT: Number of channels.
        HAS_BACKGROUND: Whether to look at it.
    """
    checked = tl.zeros([PIXELS], tl.float32)
    for c in tl.static_range(COUNT):
        value = sums[c] + poison
        checked += sums[c]
        if HAS_BACKGROUND:
            value += (1.0 - total) * tl.load(background + c)
        tl.store(image + c * size, value, mask=inside)
    report(counts + COUNT_PROBLEMS, BAD_FEATURES, inside & ~is_finite(checked))


@jit
def load_features(
    features, rows, mask, FIRST: constexpr, END: constexpr, NUM_FEATURES: constexpr
):  # fmt: skip
    """Features FIRST to END of rows, one tensor per channel."""
    first = features + rows.to(tl.int64) * NUM_FEATURES + FIRST
    return load_floats(first, mask, END - FIRST, NUM_FEATURES % 4 == 0)


@jit
def emit4(target, a, b, c, d, mask, IS_DETERMINISTIC: constexpr):
    """Store four neighbours where every pair has its own row, else add them atomically."""
    pointers = target[:, None] + tl.arange(0, 4)[None, :]
    if IS_DETERMINISTIC:
        tl.store(pointers, join4(a, b, c, d), mask=mask[:, None])
    else:
        tl.atomic_add(pointers, join4(a, b, c, d), mask=mask[:, None], sem="relaxed")


@jit
def emit(target, value, mask, IS_DETERMINISTIC: constexpr):
    """Store where every pair has its own row, else add atomically."""
    if IS_DETERMINISTIC:
        tl.store(target, value, mask=mask)
    else:
        tl.atomic_add(target, value, mask=mask, sem="relaxed")


@jit
def emit_features(
    grad_features, slot, mask, channels, AT: constexpr, FIRST: constexpr, END: constexpr,
    NUM_FEATURES: constexpr, IS_DETERMINISTIC: constexpr,
):  # fmt: skip
    """Hand over the gradients of features FIRST to END: ``channels`` from AT on."""
    first = grad_features + slot.to(tl.int64) * NUM_FEATURES
    QUADS: constexpr = (END - FIRST) // 4 if NUM_FEATURES % 4 == 0 else 0
    for quad in tl.static_range(QUADS):
        emit4(
            first + FIRST + 4 * quad, channels[AT + 4 * quad], channels[AT + 4 * quad + 1],
            channels[AT + 4 * quad + 2], channels[AT + 4 * quad + 3], mask, IS_DETERMINISTIC,
        )  # fmt: skip
    for c in tl.static_range(FIRST + 4 * QUADS, END):
        emit(first + c, channels[AT + c - FIRST], mask, IS_DETERMINISTIC)

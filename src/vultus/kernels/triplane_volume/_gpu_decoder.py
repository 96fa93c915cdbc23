"""Kernels of the decoder: features of rays from the samples' shares, and the way back.

The last layer is linear, so without an activation a ray's features are that layer applied to the
sum of its samples' hidden values; ``gather_decoded`` sums these, and no sample is decoded further.
With an activation every sample is. Samples without a share are skipped: they are never written.

Hidden values y are in base 2, log2(1 + 2^x): the factors of the natural softplus are folded into
the weights that come in and go out. Sizes C, K, E of features, hidden values and decoded features
are padded to powers of two; padded weights are zero.
"""

# ruff: noqa: D417, PLR0915 -- flags explain themselves; all of a block stays in registers.
from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = [
    "LRELU",
    "NONE",
    "SIGMOID",
    "decode_backward",
    "gather_decoded",
    "share_gradients",
    "softplus2",
]

NONE, SIGMOID, LRELU = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_LN2, _LOG2E = tl.constexpr(0.6931471805599453), tl.constexpr(1.4426950408889634)
_GAIN = tl.constexpr(2.0**0.5)
_LINEAR_FROM = tl.constexpr(64.0)


@jit
def softplus2(x, IS_HARDWARE: constexpr):
    """log2(1 + 2^x): softplus in base 2.

    The library's logarithm takes 20 instructions; the hardware's is exact to 2^-22 here.
    """
    z = 1.0 + tl.exp2(tl.minimum(x, _LINEAR_FROM))
    if IS_HARDWARE:
        y = tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [z], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        y = tl.log2(z)
    return tl.where(x > _LINEAR_FROM, x, y)


@jit
def _activate(x, ACTIVATION: constexpr):
    if ACTIVATION == SIGMOID:
        return 1.002 / (1.0 + tl.exp2(-x * _LOG2E)) - 0.001
    else:
        return tl.where(x > 0, x, 0.2 * x) * _GAIN


@jit
def _slope(x, ACTIVATION: constexpr):
    if ACTIVATION == SIGMOID:
        s = 1.0 / (1.0 + tl.exp2(-x * _LOG2E))
        return 1.002 * s * (1.0 - s)
    else:
        return tl.where(x > 0, 1.0, 0.2) * _GAIN


@jit
def _load_matrix(matrix, ROWS: constexpr, COLUMNS: constexpr):
    return tl.load(matrix + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])


@jit
def _load_transposed(matrix, ROWS: constexpr, COLUMNS: constexpr):
    """A matrix of ROWS by COLUMNS, stored by its columns."""
    return tl.load(matrix + tl.arange(0, COLUMNS)[None, :] * ROWS + tl.arange(0, ROWS)[:, None])


@jit
def gather_decoded(
    features, shares, w1, b1, w2, b2, gathered, R, num_samples,
    C: constexpr, K: constexpr, E: constexpr, ACTIVATION: constexpr, PRECISION: constexpr,
    IS_HARDWARE: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Sum shares times hidden values (R by K), or times decoded features (R by E).

    Args:
        w1: K by C, times log2 e.
        w2: E by K, times ln 2, without the density; unused without an activation.
    """
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = ray < R
    channel = tl.arange(0, C)
    weight = _load_transposed(w1, C, K)
    bias = tl.load(b1 + tl.arange(0, K))[None, :]
    width: constexpr = K if ACTIVATION == NONE else E
    total = tl.zeros([BLOCK, width], tl.float32)
    for s in range(0, num_samples):
        row = ray.to(tl.int64) + s * R
        share = tl.load(shares + row, mask=ok, other=0.0)
        live = share != 0.0
        if tl.max(live.to(tl.int32), axis=0) > 0:
            x = tl.load(features + row[:, None] * C + channel[None, :], mask=live[:, None], other=0)
            y = tl.dot(x.to(weight.dtype), weight, input_precision=PRECISION) + bias
            y = softplus2(y, IS_HARDWARE)
            if ACTIVATION != NONE:
                out_weight = _load_transposed(w2, K, E)
                out = tl.dot(y.to(out_weight.dtype), out_weight, input_precision=PRECISION)
                y = _activate(out + tl.load(b2 + tl.arange(0, E))[None, :], ACTIVATION)
            total += share[:, None] * y
    column = tl.arange(0, width)
    tl.store(gathered + ray[:, None] * width + column[None, :], total, mask=ok[:, None])


@jit
def share_gradients(
    features, shares, g_gathered, w1, b1, w2, b2, g_shares, R, num_samples,
    C: constexpr, K: constexpr, E: constexpr, ACTIVATION: constexpr, PRECISION: constexpr,
    IS_HARDWARE: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Gradient of every share: the gradient of what ``gather_decoded`` sums times the sample's."""
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = ray < R
    channel = tl.arange(0, C)
    weight = _load_transposed(w1, C, K)
    bias = tl.load(b1 + tl.arange(0, K))[None, :]
    width: constexpr = K if ACTIVATION == NONE else E
    place = ray[:, None] * width + tl.arange(0, width)[None, :]
    g = tl.load(g_gathered + place, mask=ok[:, None], other=0.0)
    for s in range(0, num_samples):
        row = ray.to(tl.int64) + s * R
        live = tl.load(shares + row, mask=ok, other=0.0) != 0.0
        g_share = tl.zeros([BLOCK], tl.float32)
        if tl.max(live.to(tl.int32), axis=0) > 0:
            x = tl.load(features + row[:, None] * C + channel[None, :], mask=live[:, None], other=0)
            y = tl.dot(x.to(weight.dtype), weight, input_precision=PRECISION) + bias
            y = softplus2(y, IS_HARDWARE)
            if ACTIVATION != NONE:
                out_weight = _load_transposed(w2, K, E)
                out = tl.dot(y.to(out_weight.dtype), out_weight, input_precision=PRECISION)
                y = _activate(out + tl.load(b2 + tl.arange(0, E))[None, :], ACTIVATION)
            g_share = tl.where(live, tl.sum(y * g, axis=1), 0.0)
        tl.store(g_shares + row, g_share, mask=ok)


@jit
def decode_backward(
    features, shares, g_densities, g_gathered, w1, b1, w1_back, w2, b2, w2_back, w_density,
    g_features, g_w1, g_b1, g_w_density, g_w2, g_b2, R, first, num_samples, num_parts,
    C: constexpr, K: constexpr, E: constexpr, ACTIVATION: constexpr, PRECISION: constexpr,
    IS_HARDWARE: constexpr, ADDS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Gradients of the samples' features, and each program's sums of those of the weights.

    Everything is transposed, [hidden, samples]: the gradients of the weights then take their left
    operand from registers, and sums over samples stay within a warp.

    Args:
        g_gathered: Gradient of what was summed, K or E by R.
        w1_back: K by C, unscaled, in the dtype of gradients.
        w2_back: E by K, unscaled, in the dtype of gradients.
        w_density: Row of the density, unscaled.
        g_features: From sample ``first`` on.
        g_w1: One K by C per program, as all that follow.
        num_parts: Programs that share the samples of one block of rays.
        ADDS: Add to the sums of earlier samples.
    """
    part = tl.program_id(1)
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = ray < R
    channel = tl.arange(0, C)
    hidden = tl.arange(0, K)
    weight = _load_matrix(w1, K, C)
    bias = tl.load(b1 + hidden)[:, None]
    back = _load_matrix(w1_back, K, C)
    density_row = tl.load(w_density + hidden)[:, None]
    width: constexpr = K if ACTIVATION == NONE else E
    column = tl.arange(0, width)
    g = tl.load(g_gathered + column[:, None] * R + ray[None, :], mask=ok[None, :], other=0.0)
    decoded = tl.arange(0, E)
    sum_w1 = tl.zeros([K, C], tl.float32)
    sum_b1 = tl.zeros([K], tl.float32)
    sum_density = tl.zeros([K], tl.float32)
    sum_w2 = tl.zeros([E, K], tl.float32)
    sum_b2 = tl.zeros([E], tl.float32)
    for s in range(first + part, first + num_samples, num_parts):
        row = ray.to(tl.int64) + s * R
        share = tl.load(shares + row, mask=ok, other=0.0)
        g_density = tl.load(g_densities + row, mask=ok, other=0.0)
        live = (share != 0.0) | (g_density != 0.0)
        if tl.max(live.to(tl.int32), axis=0) > 0:
            x = tl.load(features + row[:, None] * C + channel[None, :], mask=live[:, None], other=0)
            y = tl.dot(weight, tl.trans(x.to(weight.dtype)), input_precision=PRECISION) + bias
            y = softplus2(y, IS_HARDWARE)
            g_y = g_density[None, :] * density_row
            if ACTIVATION == NONE:
                g_y += share[None, :] * g
            else:
                out = tl.dot(_load_matrix(w2, E, K), y.to(weight.dtype), input_precision=PRECISION)
                out += tl.load(b2 + decoded)[:, None]
                g_out = share[None, :] * g * _slope(out, ACTIVATION)
                sum_b2 += tl.sum(g_out, 1)
                g_out_low = g_out.to(back.dtype)
                sum_w2 += tl.dot(g_out_low, tl.trans(y.to(back.dtype)), input_precision=PRECISION)
                out_back = _load_transposed(w2_back, K, E)
                g_y += tl.dot(out_back, g_out_low, input_precision=PRECISION)
            sum_density += tl.sum(g_density[None, :] * y, 1)
            # The slope of the softplus, 1 / (1 + 2^-x).
            g_pre = g_y * (1.0 - tl.exp2(-y))
            sum_b1 += tl.sum(g_pre, 1)
            g_low = g_pre.to(back.dtype)
            sum_w1 += tl.dot(g_low, x.to(back.dtype), input_precision=PRECISION)
            g_x = tl.dot(tl.trans(g_low), back, input_precision=PRECISION)
            place = (row - first * R)[:, None] * C + channel[None, :]
            tl.store(g_features + place, g_x.to(g_features.dtype.element_ty), mask=live[:, None])
    program = tl.program_id(0) * num_parts + part
    matrix = g_w1 + program * K * C + hidden[:, None] * C + channel[None, :]
    vector = program * K + hidden
    out_matrix = g_w2 + program * E * K + decoded[:, None] * K + hidden[None, :]
    sum_density *= _LN2
    sum_w2 *= _LN2
    if ADDS:
        sum_w1 += tl.load(matrix)
        sum_b1 += tl.load(g_b1 + vector)
        sum_density += tl.load(g_w_density + vector)
        if ACTIVATION != NONE:
            sum_w2 += tl.load(out_matrix)
            sum_b2 += tl.load(g_b2 + program * E + decoded)
    tl.store(matrix, sum_w1)
    tl.store(g_b1 + vector, sum_b1)
    tl.store(g_w_density + vector, sum_density)
    if ACTIVATION != NONE:
        tl.store(out_matrix, sum_w2)
        tl.store(g_b2 + program * E + decoded, sum_b2)

"""Small matrix products on rows of samples, for the CPU backend.

Widths are multiples of 16. Four rows, or four columns, are worked on at a time: a loaded vector
then serves four multiply-adds. Buffers have room for three more rows than are used.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from vultus.core.simd import LANES, helper, kernel, splat, vexp2, vload, vlog2, vsel, vstore

__all__ = ["add_outer", "apply_matrix", "decoder_slope", "softplus2", "softplus_rows"]

_ONE = np.float32(1)
_LINEAR_FROM = np.float32(64)


@kernel()
@no_type_check
def apply_matrix(rows, first, last, matrix, bias, inner, outer, out):
    """``out = rows @ matrix + bias`` for some rows; the matrix is inner by outer."""
    for q in range(first, last, 4):
        a = q * inner
        for column in range(0, outer, LANES):
            sum_0 = vload(bias, column)
            sum_1, sum_2, sum_3 = sum_0, sum_0, sum_0
            for i in range(inner):
                values = vload(matrix, i * outer + column)
                sum_0 = sum_0 + values * rows[a + i]
                sum_1 = sum_1 + values * rows[a + inner + i]
                sum_2 = sum_2 + values * rows[a + 2 * inner + i]
                sum_3 = sum_3 + values * rows[a + 3 * inner + i]
            at = q * outer + column
            vstore(out, at, sum_0)
            vstore(out, at + outer, sum_1)
            vstore(out, at + 2 * outer, sum_2)
            vstore(out, at + 3 * outer, sum_3)


@kernel()
@no_type_check
def add_outer(left, right, count, inner, outer, start, sums):
    """Add ``left.T @ right`` of some rows to an inner by outer matrix at ``start``."""
    for i in range(0, inner, 4):
        for column in range(0, outer, LANES):
            at = start + i * outer + column
            sum_0, sum_1 = vload(sums, at), vload(sums, at + outer)
            sum_2, sum_3 = vload(sums, at + 2 * outer), vload(sums, at + 3 * outer)
            for q in range(count):
                values = vload(right, q * outer + column)
                sum_0 = sum_0 + values * left[q * inner + i]
                sum_1 = sum_1 + values * left[q * inner + i + 1]
                sum_2 = sum_2 + values * left[q * inner + i + 2]
                sum_3 = sum_3 + values * left[q * inner + i + 3]
            vstore(sums, at, sum_0)
            vstore(sums, at + outer, sum_1)
            vstore(sums, at + 2 * outer, sum_2)
            vstore(sums, at + 3 * outer, sum_3)


@helper
@no_type_check
def softplus2(x):
    """log2(1 + 2^x): softplus in base 2."""
    is_linear = x > _LINEAR_FROM
    small = vsel(is_linear, splat(_LINEAR_FROM), x)
    return vsel(is_linear, x, vlog2(vexp2(small) + _ONE))


@kernel()
@no_type_check
def softplus_rows(values, start, stop):
    """Apply ``softplus2`` in place; at least one vector's worth lies behind ``stop``."""
    for at in range(start, stop, LANES):
        vstore(values, at, softplus2(vload(values, at)))


_LOG2E = np.float32(1.4426950408889634)
_SIGMOID_GAIN, _SIGMOID_SHIFT = np.float32(1.002), np.float32(0.001)
_LRELU_GAIN, _LRELU_LOW = np.float32(2.0**0.5), np.float32(0.2 * 2.0**0.5)
_LARGEST_EXPONENT = np.float32(100)


@helper
@no_type_check
def decoder_slope(x, activation):
    """Value and slope of the decoder's activation: 1 for the sigmoid, 2 for the leaky ReLU."""
    if activation == 1:
        exponent = x * -_LOG2E
        limit = splat(_LARGEST_EXPONENT)
        s = _ONE / (vexp2(vsel(exponent > limit, limit, exponent)) + _ONE)
        return s * _SIGMOID_GAIN - _SIGMOID_SHIFT, s * (_ONE - s) * _SIGMOID_GAIN
    is_positive = x > np.float32(0)
    slope = vsel(is_positive, splat(_LRELU_GAIN), splat(_LRELU_LOW))
    return x * slope, slope

"""CPU backend of SSIM: all moments of a row in one pass, 16 pixels at a time, on all threads.

Per output row: the window's 11 rows are summed into one line per moment (vertical blur), the lines
are blurred horizontally, and the pixels are finished while they are in registers. The backward pass
blurs the three partial derivatives in the same way. Nothing but those three maps is stored, and
rows are independent, so results are the same for any number of threads.

Symbols: with blurred moments m_a, m_b, e_aa, e_bb, e_ab and S = (A1 A2) / (B1 B2), where
A1 = 2 m_a m_b + C1, A2 = 2 (e_ab - m_a m_b) + C2, B1 = m_a^2 + m_b^2 + C1 and
B2 = e_aa + e_bb - m_a^2 - m_b^2 + C2:
    dS/dm_a  = 2 m_b (A2 - A1) / (B1 B2) + 2 m_a S (1/B2 - 1/B1)
    dS/de_aa = -S / B2
    dS/de_ab = 2 A1 / (B1 B2)
and for a loss with gradient g on S, blur being its own transpose,
    dL/da = blur(g dS/dm_a) + 2 a blur(g dS/de_aa) + b blur(g dS/de_ab).
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from vultus.core.simd import LANES, kernel, run_chunks, splat, vload, vstore
from vultus.kernels.ssim.window import C1, C2, RADIUS, WEIGHTS

__all__ = ["ssim_map"]

_TAPS = 2 * RADIUS + 1
# Zeros on both sides of a line: at least the radius, and a full vector so that loads stay aligned.
_MARGIN = LANES
# Arguments of the kernels, not constants inside: Numba's disk cache would not see them change.
_WINDOW = (np.array(WEIGHTS, np.float32), np.float32(C1), np.float32(C2))
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


def ssim_map(
    a: Float[Tensor, "*b c h w"], b: Float[Tensor, "*b c h w"]
) -> Float[Tensor, "*b c h w"]:
    """See ``vultus.kernels.ssim.ssim_map``."""
    width = a.shape[-1]
    # The window pads with zeros, so columns of zeros on the right leave the other columns alone.
    missing = -width % LANES
    if missing:
        a, b = pad(a, (0, missing)), pad(b, (0, missing))
    result: Tensor = _Ssim.apply(a, b)  # pyright: ignore[reportAssignmentType]
    return result[..., :width] if missing else result


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = a.detach().contiguous(), b.detach().contiguous()
        result, partials = torch.empty_like(a), a.new_empty((3, *a.shape))
        _run(_forward_rows, a, b, result, *partials)
        ctx.save_for_backward(a, b, partials)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b, partials = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_a = torch.empty_like(a)
            _run(_backward_rows, a, b, grad, *partials, grad_a)
        if ctx.needs_input_grad[1]:
            # SSIM is symmetric: the other gradient is this one with the images exchanged.
            grad_b, partials = torch.empty_like(b), torch.empty_like(partials)
            _run(_forward_rows, b, a, grad_b, *partials)
            _run(_backward_rows, b, a, grad, *partials, grad_b)
        return grad_a, grad_b


def _run(function: Any, *images: Tensor) -> None:
    """Call a kernel for all rows, on all threads."""
    height, width = images[0].shape[-2:]
    rows = images[0].numel() // width if width else 0
    if rows:
        flat = [image.view(-1).numpy() for image in images]
        run_chunks(torch.get_num_threads(), function, rows, height, width, _WINDOW, *flat)


@kernel()
@no_type_check
def _clipped_taps(row, height):
    """First and last tap of the vertical window that lie inside the plane of a row."""
    y = row % height
    return max(0, RADIUS - y), min(_TAPS, height + RADIUS - y)


@kernel()
@no_type_check
def _blurred(lines, at, weights):
    """Horizontal blur of 16 pixels; ``at`` is the first one's place in a line with margins."""
    total = splat(_ZERO)
    for tap in range(_TAPS):
        total = total + vload(lines, at + tap - RADIUS) * weights[tap]
    return total


@kernel()
@no_type_check
def _moment_lines(lines, a, b, row, height, width, weights):
    """Vertical blur of a, b, a a, b b and a b into five lines."""
    first, last = _clipped_taps(row, height)
    stride = width + 2 * _MARGIN
    for x in range(0, width, LANES):
        m_a = splat(_ZERO)
        m_b = splat(_ZERO)
        e_aa = splat(_ZERO)
        e_bb = splat(_ZERO)
        e_ab = splat(_ZERO)
        for tap in range(first, last):
            at = (row + tap - RADIUS) * width + x
            va = vload(a, at)
            vb = vload(b, at)
            wa = va * weights[tap]
            wb = vb * weights[tap]
            m_a = m_a + wa
            m_b = m_b + wb
            e_aa = e_aa + wa * va
            e_bb = e_bb + wb * vb
            e_ab = e_ab + wa * vb
        vstore(lines, _MARGIN + x, m_a)
        vstore(lines, stride + _MARGIN + x, m_b)
        vstore(lines, 2 * stride + _MARGIN + x, e_aa)
        vstore(lines, 3 * stride + _MARGIN + x, e_bb)
        vstore(lines, 4 * stride + _MARGIN + x, e_ab)


@kernel()
@no_type_check
def _forward_rows(start, stop, height, width, window, a, b, result, d_mean, d_square, d_product):
    stride = width + 2 * _MARGIN
    lines = np.zeros(5 * stride, np.float32)
    weights, c1, c2 = window
    for row in range(start, stop):
        _moment_lines(lines, a, b, row, height, width, weights)
        for x in range(0, width, LANES):
            at = _MARGIN + x
            m_a = _blurred(lines, at, weights)
            m_b = _blurred(lines, at + stride, weights)
            e_aa = _blurred(lines, at + 2 * stride, weights)
            e_bb = _blurred(lines, at + 3 * stride, weights)
            e_ab = _blurred(lines, at + 4 * stride, weights)
            m_ab = m_a * m_b
            squares = m_a * m_a + m_b * m_b
            a1 = m_ab * _TWO + c1
            a2 = (e_ab - m_ab) * _TWO + c2
            inv_b1 = _ONE / (squares + c1)
            inv_b2 = _ONE / (e_aa + e_bb - squares + c2)
            inv = inv_b1 * inv_b2
            s = a1 * a2 * inv
            out = row * width + x
            vstore(result, out, s)
            vstore(d_mean, out, (m_b * (a2 - a1) * inv + m_a * s * (inv_b2 - inv_b1)) * _TWO)
            vstore(d_square, out, s * inv_b2 * (-_ONE))
            vstore(d_product, out, a1 * inv * _TWO)


@kernel()
@no_type_check
def _gradient_lines(lines, grad, d_mean, d_square, d_product, row, height, width, weights):
    """Vertical blur of the three partial derivatives times the incoming gradient."""
    first, last = _clipped_taps(row, height)
    stride = width + 2 * _MARGIN
    for x in range(0, width, LANES):
        mean = splat(_ZERO)
        square = splat(_ZERO)
        product = splat(_ZERO)
        for tap in range(first, last):
            at = (row + tap - RADIUS) * width + x
            g = vload(grad, at) * weights[tap]
            mean = mean + g * vload(d_mean, at)
            square = square + g * vload(d_square, at)
            product = product + g * vload(d_product, at)
        vstore(lines, _MARGIN + x, mean)
        vstore(lines, stride + _MARGIN + x, square)
        vstore(lines, 2 * stride + _MARGIN + x, product)


@kernel()
@no_type_check
def _backward_rows(
    start, stop, height, width, window, a, b, grad, d_mean, d_square, d_product, grad_a
):
    stride = width + 2 * _MARGIN
    lines = np.zeros(3 * stride, np.float32)
    weights = window[0]
    for row in range(start, stop):
        _gradient_lines(lines, grad, d_mean, d_square, d_product, row, height, width, weights)
        for x in range(0, width, LANES):
            at = _MARGIN + x
            out = row * width + x
            mean = _blurred(lines, at, weights)
            square = _blurred(lines, at + stride, weights)
            product = _blurred(lines, at + 2 * stride, weights)
            vstore(
                grad_a,
                out,
                mean + vload(a, out) * square * _TWO + vload(b, out) * product,
            )

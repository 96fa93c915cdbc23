"""GPU backend of SSIM in Triton: one kernel forward, one backward, nothing stored in between.

A program owns a strip of columns, a lane each, and marches down its rows. Each new row is blurred
along x with loads that hit the cache, then added to the 11 output rows that it reaches: these live
in registers and move up by one per row, so that the vertical blur costs 11 multiply-adds per moment
and no memory. Strips overlap by the radius of the window. No atomics: results are reproducible.

Training wants two numbers, not maps: `l1_ssim` lets the same two kernels add up SSIM and absolute
differences per strip and add both gradients, so that L1 costs no pass over the images of its own.

The formulas are those of the CPU backend; see there.
"""

# ruff: noqa: RUF005, D417 -- Triton unpacks no tuples; flags explain themselves.
from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.kernels.ssim.window import C1, C2, RADIUS, WEIGHTS
from vultus.kernels.triton_runtime import constexpr, is_interpreted, is_recording, jit, launch, tl

__all__ = ["l1_ssim", "ssim_map"]

_RADIUS, _TAPS = tl.constexpr(RADIUS), tl.constexpr(2 * RADIUS + 1)
_WEIGHTS = tl.constexpr(WEIGHTS)
_C1, _C2 = tl.constexpr(C1), tl.constexpr(C2)

# Ten more rows than a strip has are blurred for the overlap, so that long strips waste less; small
# images are cut into shorter ones, so that every multiprocessor has several. L1 + SSIM forward and
# backward on an H100, microseconds, with 32 / 16 / 8 rows: 65 / 44 / 50 for RGB of 512 x 512,
# 149 / 152 / 162 for 1024 x 1024.
_ROWS, _MIN_PROGRAMS = (32, 16), 768
_COLUMNS, _WARPS = 64, 2
_SUM_BLOCK, _SUM_WARPS = 1024, 4


def ssim_map(
    a: Float[Tensor, "*b c h w"], b: Float[Tensor, "*b c h w"]
) -> Float[Tensor, "*b c h w"]:
    """See ``vultus.kernels.ssim.ssim_map``.

    Raises:
        TypeError: If the images are not float32 on one GPU.
    """
    _check(a, b)
    return _Ssim.apply(a, b)  # pyright: ignore[reportReturnType]


def l1_ssim(
    a: Float[Tensor, "*b c h w"], b: Float[Tensor, "*b c h w"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """See ``vultus.kernels.ssim.l1_ssim``.

    Raises:
        TypeError: If the images are not float32 on one GPU.
    """
    _check(a, b)
    return _L1Ssim.apply(a, b)  # pyright: ignore[reportReturnType]


def _check(a: Tensor, b: Tensor) -> None:
    for image in (a, b):
        is_usable = image.is_cuda or is_interpreted() or is_recording()
        if image.dtype != torch.float32 or image.device != a.device or not is_usable:
            raise TypeError(
                'backend="gpu" needs float32 images on one GPU, got '
                f"{a.dtype} on {a.device} and {b.dtype} on {b.device}"
            )


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = a.detach().contiguous(), b.detach().contiguous()
        result = torch.empty_like(a)
        partials = _partials(a) if ctx.needs_input_grad[0] else None
        _launch_compare(a, b, partials, result=result)
        ctx.save_for_backward(a, b, partials)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        grad = grad_outputs[0]
        # The gradient of a sum is one number; broadcasting it would cost as much as reading a map.
        is_uniform = not any(grad.stride())
        return _gradients(ctx, grad if is_uniform else grad.contiguous(), is_uniform=is_uniform)


class _L1Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = a.detach().contiguous(), b.detach().contiguous()
        partials = _partials(a) if ctx.needs_input_grad[0] else None
        sums = a.new_empty(2, math.prod(_grid(a)))
        _launch_compare(a, b, partials, sums=sums)
        l1, similarity = a.new_empty(()), a.new_empty(())
        launch(
            mean_of_sums, (2,), sums, l1, similarity, sums.shape[1], a.numel(),
            BLOCK=_SUM_BLOCK, num_warps=_SUM_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(a, b, partials)
        return l1, similarity

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        grad_l1, grad = grad_outputs
        return _gradients(ctx, grad, is_uniform=True, grad_l1=grad_l1)


def _partials(image: Tensor) -> Tensor:
    """Room for the three derivatives that the backward pass blurs."""
    return image.new_empty((3, *image.shape))


def _gradients(
    ctx: Any, grad: Tensor, *, is_uniform: bool, grad_l1: Tensor | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of those images that need one."""
    a, b, partials = ctx.saved_tensors
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        grad_a = _launch_gradient(a, b, grad, grad_l1, is_uniform, partials)
    if ctx.needs_input_grad[1]:
        # Both terms are symmetric: the other gradient is this one with the images exchanged.
        partials = _partials(a)
        _launch_compare(b, a, partials)
        grad_b = _launch_gradient(b, a, grad, grad_l1, is_uniform, partials)
    return grad_a, grad_b


def _grid(image: Tensor) -> tuple[int, int, int]:
    height, width = image.shape[-2:]
    planes = image.numel() // (height * width) if height * width else 0
    return -(-width // _COLUMNS), -(-height // _rows(image)), planes


def _rows(image: Tensor) -> int:
    """Rows of a strip: as many as leave enough programs."""
    pixels = image.numel() // _COLUMNS
    return next((rows for rows in _ROWS if pixels // rows >= _MIN_PROGRAMS), _ROWS[-1])


def _launch_compare(
    a: Tensor,
    b: Tensor,
    partials: Tensor | None,
    *,
    result: Tensor | None = None,
    sums: Tensor | None = None,
) -> None:
    """Write what there is room for: derivatives, a map of SSIM, sums per program."""
    unused = a
    launch(
        compare, _grid(a), a, b,
        unused if result is None else result,
        unused if partials is None else partials,
        unused if sums is None else sums,
        a.numel(), *a.shape[-2:],
        HAS_MAP=result is not None, HAS_PARTIALS=partials is not None, HAS_SUMS=sums is not None,
        ROWS=_rows(a), COLUMNS=_COLUMNS, num_warps=_WARPS,
    )  # fmt: skip


def _launch_gradient(
    a: Tensor,
    b: Tensor,
    grad: Tensor,
    grad_l1: Tensor | None,
    is_uniform: bool,
    partials: Tensor,
) -> Tensor:
    grad_a = torch.empty_like(a)
    launch(
        compare_backward, _grid(a), a, b, grad, grad if grad_l1 is None else grad_l1, partials,
        grad_a, a.numel(), *a.shape[-2:],
        IS_UNIFORM=is_uniform, HAS_L1=grad_l1 is not None, ROWS=_rows(a), COLUMNS=_COLUMNS,
        num_warps=_WARPS,
    )  # fmt: skip
    return grad_a


@jit
def _add_row(sums, row):
    """Move the sums of 11 output rows up by one and add a row; the first is then complete."""
    moved = ()
    for k in tl.static_range(_TAPS - 1):
        moved = moved + (sums[k + 1] + row * _WEIGHTS[k],)
    return moved + (row * _WEIGHTS[_TAPS - 1],)


@jit
def _no_rows(COLUMNS: constexpr):
    """Eleven sums that are zero."""
    zero = tl.zeros([COLUMNS], tl.float32)
    sums = ()
    for _ in tl.static_range(_TAPS):
        sums = sums + (zero,)
    return sums


@jit
def _strip(height, width, ROWS: constexpr, COLUMNS: constexpr):
    """Start of the program's plane, its columns, and its first row."""
    start = tl.program_id(2).to(tl.int64) * height * width
    return start, tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS), tl.program_id(1) * ROWS


@jit
def _moments(a, b, x, end, COLUMNS: constexpr):
    """Blur a, b, a a, b b and a b of one line around the columns x; it ends before ``end``."""
    m_a = tl.zeros([COLUMNS], tl.float32)
    m_b = m_a
    e_aa = m_a
    e_bb = m_a
    e_ab = m_a
    for k in tl.static_range(_TAPS):
        column = x + (k - _RADIUS)
        mask = (column >= 0) & (column < end)
        value_a = tl.load(a + x + (k - _RADIUS), mask=mask, other=0.0)
        value_b = tl.load(b + x + (k - _RADIUS), mask=mask, other=0.0)
        weighted_a = value_a * _WEIGHTS[k]
        weighted_b = value_b * _WEIGHTS[k]
        m_a += weighted_a
        m_b += weighted_b
        e_aa += weighted_a * value_a
        e_bb += weighted_b * value_b
        e_ab += weighted_a * value_b
    return m_a, m_b, e_aa, e_bb, e_ab


@jit
def compare(
    a, b, result, partials, sums, size, height, width,
    HAS_MAP: constexpr, HAS_PARTIALS: constexpr, HAS_SUMS: constexpr,
    ROWS: constexpr, COLUMNS: constexpr,
):  # fmt: skip
    """SSIM of a strip, and its derivatives for the blurred a, a a and a b.

    Args:
        partials: Three maps of ``size`` values.
        sums: Absolute differences of every program's strip, then its SSIM.
    """
    start, x, first = _strip(height, width, ROWS, COLUMNS)
    sum_difference = tl.zeros([COLUMNS], tl.float32)
    sum_similarity = sum_difference
    mean_a = _no_rows(COLUMNS)
    mean_b = _no_rows(COLUMNS)
    square_a = _no_rows(COLUMNS)
    square_b = _no_rows(COLUMNS)
    product = _no_rows(COLUMNS)
    for step in range(ROWS + 2 * _RADIUS):
        y = first + step - _RADIUS
        # A row outside the image ends before its first column.
        end = tl.where((y >= 0) & (y < height), width, 0)
        line = start + y * width
        m_a, m_b, e_aa, e_bb, e_ab = _moments(a + line, b + line, x, end, COLUMNS)
        mean_a = _add_row(mean_a, m_a)
        mean_b = _add_row(mean_b, m_b)
        square_a = _add_row(square_a, e_aa)
        square_b = _add_row(square_b, e_bb)
        product = _add_row(product, e_ab)
        row = y - _RADIUS
        if (row >= first) & (row < height):
            m_a = mean_a[0]
            m_b = mean_b[0]
            m_ab = m_a * m_b
            squares = m_a * m_a + m_b * m_b
            a1 = 2 * m_ab + _C1
            a2 = 2 * (product[0] - m_ab) + _C2
            inverse_b1 = 1.0 / (squares + _C1)
            inverse_b2 = 1.0 / (square_a[0] + square_b[0] - squares + _C2)
            inverse = inverse_b1 * inverse_b2
            similarity = a1 * a2 * inverse
            out = start + row * width + x
            mask = x < width
            if HAS_MAP:
                tl.store(result + out, similarity, mask=mask)
            if HAS_SUMS:
                value_a = tl.load(a + out, mask=mask, other=0.0)
                value_b = tl.load(b + out, mask=mask, other=0.0)
                sum_difference += tl.abs(value_a - value_b)
                sum_similarity += tl.where(mask, similarity, 0.0)
            if HAS_PARTIALS:
                d_mean = m_b * (a2 - a1) * inverse + m_a * similarity * (inverse_b2 - inverse_b1)
                tl.store(partials + out, 2 * d_mean, mask=mask)
                tl.store(partials + size + out, -similarity * inverse_b2, mask=mask)
                tl.store(partials + 2 * size + out, 2 * a1 * inverse, mask=mask)
    if HAS_SUMS:
        line = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
        program = line * tl.num_programs(0) + tl.program_id(0)
        programs = tl.num_programs(0) * tl.num_programs(1) * tl.num_programs(2)
        tl.store(sums + program, tl.sum(sum_difference, 0))
        tl.store(sums + programs + program, tl.sum(sum_similarity, 0))


@jit
def mean_of_sums(sums, l1, similarity, programs, size, BLOCK: constexpr):
    """Divide what all programs of ``compare`` have added up; one program per number."""
    which = tl.program_id(0)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, programs, BLOCK):
        offset = start + tl.arange(0, BLOCK)
        total += tl.load(sums + which * programs + offset, mask=offset < programs, other=0.0)
    mean = tl.sum(total, 0) / size
    if which == 0:
        tl.store(l1, mean)
    else:
        tl.store(similarity, mean)


@jit
def compare_backward(
    a, b, grad, grad_l1, partials, grad_a, size, height, width,
    IS_UNIFORM: constexpr, HAS_L1: constexpr, ROWS: constexpr, COLUMNS: constexpr,
):  # fmt: skip
    """Gradient of a for a strip.

    Args:
        grad: A map, or one number if it is uniform; that of the mean SSIM with ``HAS_L1``.
        grad_l1: That of the mean absolute difference.
    """
    start, x, first = _strip(height, width, ROWS, COLUMNS)
    mean = _no_rows(COLUMNS)
    square = _no_rows(COLUMNS)
    product = _no_rows(COLUMNS)
    scale = 1.0
    scale_l1 = 0.0
    if IS_UNIFORM:
        scale = tl.load(grad)
    if HAS_L1:
        scale = scale / size
        scale_l1 = tl.load(grad_l1) / size
    for step in range(ROWS + 2 * _RADIUS):
        y = first + step - _RADIUS
        # A row outside the image ends before its first column.
        end = tl.where((y >= 0) & (y < height), width, 0)
        line = start + y * width
        d_mean = tl.zeros([COLUMNS], tl.float32)
        d_square = d_mean
        d_product = d_mean
        for k in tl.static_range(_TAPS):
            column = x + (k - _RADIUS)
            mask = (column >= 0) & (column < end)
            at = line + x + (k - _RADIUS)
            if IS_UNIFORM:
                weight = _WEIGHTS[k]
            else:
                weight = tl.load(grad + at, mask=mask, other=0.0) * _WEIGHTS[k]
            d_mean += tl.load(partials + at, mask=mask, other=0.0) * weight
            d_square += tl.load(partials + size + at, mask=mask, other=0.0) * weight
            d_product += tl.load(partials + 2 * size + at, mask=mask, other=0.0) * weight
        mean = _add_row(mean, d_mean)
        square = _add_row(square, d_square)
        product = _add_row(product, d_product)
        row = y - _RADIUS
        if (row >= first) & (row < height):
            mask = x < width
            out = start + row * width + x
            value_a = tl.load(a + out, mask=mask, other=0.0)
            value_b = tl.load(b + out, mask=mask, other=0.0)
            gradient = (mean[0] + 2 * value_a * square[0] + value_b * product[0]) * scale
            if HAS_L1:
                is_above = (value_a > value_b).to(tl.float32)
                gradient += scale_l1 * (is_above - (value_a < value_b).to(tl.float32))
            tl.store(grad_a + out, gradient, mask=mask)

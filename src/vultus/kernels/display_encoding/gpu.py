"""Launches of the kernels that encode pictures, tied into autograd. A lane has a pixel.

Bounds are selections: unlike minima and maxima, these keep what is not a number, in pictures and in
gradients, so that broken radiance is noticed. (PyTorch's gradients of bounds are 0 there.)
"""

# ruff: noqa: D417 -- sizes and flags explain themselves.
from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.kernels.triton_calls import check_tensors, contiguous
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["encode_over_color"]

_LANES, _WARPS = 256, 4
_THRESHOLD = tl.constexpr(0.0031308)
_EXPONENT = tl.constexpr(1 / 2.4)


def encode_over_color(
    radiance: Tensor, alpha: Tensor, color: Tensor, burnt_slope: float | None
) -> Tensor:
    """See ``vultus.kernels.display_encoding.encode_over_color``.

    Raises:
        TypeError: If not all is float32 on one GPU.
        ValueError: If the colour requires a gradient, which is not computed.
    """
    if color.requires_grad:
        raise ValueError("color must be constant, got a tensor that requires a gradient")
    check_tensors({"radiance": radiance, "alpha": alpha, "color": color}, radiance.device)
    return _Encode.apply(radiance, alpha, color, burnt_slope)


@jit
def _bound(linear, burnt_slope, IS_CLAMPED: constexpr):
    """Radiance that the curve is taken of."""
    if IS_CLAMPED:
        return tl.where(linear > 1.0, 1.0, linear)
    else:
        return tl.where(linear > 1.0, 1.0 + burnt_slope * (linear - 1.0), linear)


@jit
def _above_threshold(linear):
    """Keep radiance of the straight piece away from the power, which is infinitely steep at 0."""
    return tl.where(linear < _THRESHOLD, _THRESHOLD, linear)


@jit
def _power(linear):
    """What the curve is above its straight piece, but for two constants."""
    return tl.exp2(tl.log2(_above_threshold(linear)) * _EXPONENT)


@jit
def _encode(bounded):
    """The curve of ``core.srgb.linear_to_srgb``."""
    return tl.where(bounded <= _THRESHOLD, 12.92 * bounded, 1.055 * _power(bounded) - 0.055)


@jit
def encode(
    radiance, alpha, color, shown, num_pixels, burnt_slope, IS_CLAMPED: constexpr,
    LANES: constexpr,
):  # fmt: skip
    """Pixels of one frame.

    Args:
        radiance: [b 3 p].
        alpha: [b p].
        color: [3].
        shown: Written, [b 3 p].
    """
    pixel = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    frame = tl.program_id(1).to(tl.int64)
    mask = pixel < num_pixels
    free = 1.0 - tl.load(alpha + frame * num_pixels + pixel, mask=mask, other=0.0)
    for k in tl.static_range(3):
        place = (3 * frame + k) * num_pixels + pixel
        linear = tl.load(radiance + place, mask=mask, other=0.0)
        value = _encode(_bound(linear, burnt_slope, IS_CLAMPED)) + free * tl.load(color + k)
        if IS_CLAMPED:
            value = tl.where(value < 0.0, 0.0, tl.where(value > 1.0, 1.0, value))
        tl.store(shown + place, value, mask=mask)


@jit
def encode_backward(
    radiance, alpha, color, grad_shown, grad_radiance, grad_alpha, num_pixels, burnt_slope,
    IS_CLAMPED: constexpr, LANES: constexpr,
):  # fmt: skip
    """Gradients of pixels of one frame; the last two tensors are written."""
    pixel = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    frame = tl.program_id(1).to(tl.int64)
    mask = pixel < num_pixels
    free = 1.0 - tl.load(alpha + frame * num_pixels + pixel, mask=mask, other=0.0)
    total = tl.zeros((LANES,), tl.float32)
    for k in tl.static_range(3):
        place = (3 * frame + k) * num_pixels + pixel
        linear = tl.load(radiance + place, mask=mask, other=0.0)
        grad = tl.load(grad_shown + place, mask=mask, other=0.0)
        behind = tl.load(color + k)
        bounded = _bound(linear, burnt_slope, IS_CLAMPED)
        if IS_CLAMPED:
            value = _encode(bounded) + free * behind
            grad = tl.where((value < 0.0) | (value > 1.0), 0.0, grad)
            slope = tl.where(linear > 1.0, 0.0, 1.0)
        else:
            slope = tl.where(linear > 1.0, burnt_slope, 1.0)
        curved = 1.055 * _EXPONENT * _power(bounded) / _above_threshold(bounded)
        slope *= tl.where(bounded <= _THRESHOLD, 12.92, curved)
        tl.store(grad_radiance + place, grad * slope, mask=mask)
        total -= grad * behind
    tl.store(grad_alpha + frame * num_pixels + pixel, total, mask=mask)


class _Encode(Function):
    @staticmethod
    def forward(
        ctx: Any, radiance: Tensor, alpha: Tensor, color: Tensor, burnt_slope: float | None
    ) -> Tensor:
        inputs = contiguous((radiance, alpha, color))
        ctx.save_for_backward(*inputs)
        ctx.burnt_slope = burnt_slope
        shown = radiance.new_empty(radiance.shape)
        _launch(encode, (*inputs, shown), radiance, burnt_slope)
        return shown

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        radiance, alpha, _ = ctx.saved_tensors
        results = radiance.new_empty(radiance.shape), alpha.new_empty(alpha.shape)
        arguments = (*ctx.saved_tensors, grad.contiguous(), *results)
        _launch(encode_backward, arguments, radiance, ctx.burnt_slope)
        return *results, None, None


def _launch(
    kernel: Any, tensors: tuple[Tensor, ...], radiance: Tensor, burnt_slope: float | None
) -> None:
    batch, num_pixels = radiance.shape[0], radiance.shape[2:].numel()
    launch(
        kernel, (-(-num_pixels // _LANES), batch), *tensors, num_pixels, float(burnt_slope or 0.0),
        IS_CLAMPED=burnt_slope is None, LANES=_LANES, num_warps=_WARPS,
    )  # fmt: skip

"""Linear combinations of shapes in Triton: programs share coordinates, or backward the shapes."""

# ruff: noqa: D417 -- sizes explain themselves.
from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["add_shapes"]

_COLUMNS, _ROWS, _WARPS = 64, 32, 4
"""Coordinates and shapes that a program has in flight: 8 kB keep memory busy at two per core."""
_BACKWARD_COLUMNS, _BACKWARD_WARPS = 4096, 8
"""The same for one shape."""


def add_shapes(base: Tensor, shapes: Tensor, coeffs: Tensor) -> Tensor:
    """See ``vultus.kernels.linear_shapes.add_shapes``.

    Raises:
        ValueError: If the shapes require a gradient, which is not computed.
    """
    if shapes.requires_grad:
        raise ValueError("shapes must be constants, got a tensor that requires a gradient")
    return _AddShapes.apply(base, shapes, coeffs)


@jit
def combine(
    base, shapes, coeffs, combined, num_shapes, width, base_stride,
    ROWS: constexpr, COLUMNS: constexpr,
):  # fmt: skip
    """Base plus weighted shapes.

    Args:
        base: [1 w] or [b w]; ``base_stride`` is 0 or w.
        shapes: [k w].
        coeffs: [b k].
        combined: Written, [b w].
    """
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    frame = tl.program_id(1).to(tl.int64)
    mask = column < width
    row = tl.arange(0, ROWS).to(tl.int64)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, num_shapes, ROWS):
        is_shape = first + row < num_shapes
        weight = tl.load(coeffs + frame * num_shapes + first + row, mask=is_shape, other=0.0)
        offset = (first + row)[:, None] * width + column[None, :]
        tile = tl.load(shapes + offset, mask=is_shape[:, None] & mask[None, :], other=0.0)
        total += weight[:, None] * tile
    start = tl.load(base + frame * base_stride + column, mask=mask, other=0.0)
    tl.store(combined + frame * width + column, start + tl.sum(total, axis=0), mask=mask)


@jit
def combine_backward(shapes, grad_combined, grad_coeffs, num_shapes, width, COLUMNS: constexpr):
    """Gradient of one coefficient.

    Args:
        grad_coeffs: Written, [b k].
    """
    shape = tl.program_id(0).to(tl.int64)
    frame = tl.program_id(1).to(tl.int64)
    total = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, width, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        mask = column < width
        grad = tl.load(grad_combined + frame * width + column, mask=mask, other=0.0)
        total += grad * tl.load(shapes + shape * width + column, mask=mask, other=0.0)
    tl.store(grad_coeffs + frame * num_shapes + shape, tl.sum(total, axis=0))


def _power_of_two(number: int) -> int:
    """The next one."""
    return 1 << (number - 1).bit_length()


class _AddShapes(Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, shapes: Tensor, coeffs: Tensor) -> Tensor:
        base, shapes, coeffs = base.contiguous(), shapes.contiguous(), coeffs.contiguous()
        batch, num_shapes = coeffs.shape
        width = shapes.shape[1:].numel()
        combined = base.new_empty(batch, *shapes.shape[1:])
        launch(
            combine, (-(-width // _COLUMNS), batch), base, shapes, coeffs, combined,
            num_shapes, width, 0 if len(base) == 1 else width,
            ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=_WARPS,
        )  # fmt: skip
        ctx.save_for_backward(shapes)
        ctx.is_shared = len(base) < batch
        return combined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (shapes,) = ctx.saved_tensors
        needs_base, _, needs_coeffs = ctx.needs_input_grad
        grad = grad.contiguous()
        batch, num_shapes, width = len(grad), len(shapes), shapes.shape[1:].numel()
        grad_base = grad_coeffs = None
        if needs_coeffs:
            grad_coeffs = grad.new_empty(batch, num_shapes)
            launch(
                combine_backward, (num_shapes, batch), shapes, grad, grad_coeffs, num_shapes, width,
                COLUMNS=min(_BACKWARD_COLUMNS, _power_of_two(width)), num_warps=_BACKWARD_WARPS,
            )  # fmt: skip
        if needs_base:
            grad_base = grad.sum(dim=0, keepdim=True) if ctx.is_shared else grad
        return grad_base, None, grad_coeffs

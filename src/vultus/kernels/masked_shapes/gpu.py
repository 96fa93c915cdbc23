"""Masked blendshapes in Triton: a program blends all attributes of a few primitives.

The shapes of an attribute's channel lie side by side, so that a row of a tile is a sum to be taken
and its loads are neighbours. Frames of one block run side by side and share what the cache holds.
"""

# ruff: noqa: D417 -- sizes and flags explain themselves.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.kernels.triton_calls import check_tensors, contiguous, or_other
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["blend_shapes"]

_TILE = 512
"""Numbers that a warp has in flight per channel. Warps that share a tile would have to wait for
each other whenever its sums are stored."""

Tensors = Sequence[Tensor | None]


def blend_shapes(
    neutral: Sequence[Tensor], deltas: Tensors, fixed: Tensors, mask: Tensor, weights: Tensor
) -> tuple[Tensor, ...]:
    """See ``vultus.kernels.masked_shapes.blend_shapes``.

    Raises:
        TypeError: If not all is float32 on one GPU.
        ValueError: If mask, weights or fixed deltas require a gradient, which is not computed.
    """
    constants = {"mask": mask, "weights": weights}
    constants |= {f"fixed[{i}]": tensor for i, tensor in enumerate(fixed) if tensor is not None}
    for name, tensor in constants.items():
        if tensor.requires_grad:
            raise ValueError(f"{name} must be constant, got a tensor that requires a gradient")
    trained = {f"neutral[{i}]": tensor for i, tensor in enumerate(neutral)}
    trained |= {f"deltas[{i}]": tensor for i, tensor in enumerate(deltas) if tensor is not None}
    check_tensors(trained | constants, mask.device)
    return _Blend.apply(tuple(fixed), mask, weights, len(neutral), *neutral, *deltas)


@jit
def blend(
    neutral, deltas, fixed, mask, weights, blended, num_rows, num_frames,
    CHANNELS: constexpr, HAS_DELTAS: constexpr, HAS_FIXED: constexpr, NUM_ATTRIBUTES: constexpr,
    NUM_SHAPES: constexpr, ROWS: constexpr, COLUMNS: constexpr,
):  # fmt: skip
    """Blend ROWS primitives of one frame.

    Args:
        neutral: [n c] of each attribute.
        deltas: [n c k] of each attribute; also ``fixed``.
        mask: [n k].
        weights: [b k].
        blended: Written, [b n c] of each attribute.
    """
    frame = (tl.program_id(0) % num_frames).to(tl.int64)
    row = (tl.program_id(0) // num_frames).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    shape = tl.arange(0, COLUMNS)
    is_shape = shape < NUM_SHAPES
    is_cell = (row < num_rows)[:, None] & is_shape[None, :]
    weight = tl.load(weights + frame * NUM_SHAPES + shape, mask=is_shape, other=0.0)[None, :]
    cell = row[:, None] * NUM_SHAPES + shape[None, :]
    steered = weight * tl.load(mask + cell, mask=is_cell, other=0.0)
    is_steered = (tl.max(tl.abs(steered), axis=1) > 0.0)[:, None] & is_shape[None, :]
    for a in tl.static_range(NUM_ATTRIBUTES):
        _blend_attribute(
            neutral[a], deltas[a], fixed[a], blended[a] + frame * num_rows * CHANNELS[a],
            row, row < num_rows, shape, weight, is_cell, steered, is_steered,
            CHANNELS[a], HAS_DELTAS[a], HAS_FIXED[a], NUM_SHAPES,
        )  # fmt: skip


@jit
def _blend_attribute(
    neutral, deltas, fixed, blended, row, is_row, shape, weight, is_cell, steered, is_steered,
    NUM_CHANNELS: constexpr, HAS_DELTAS: constexpr, HAS_FIXED: constexpr, NUM_SHAPES: constexpr,
):  # fmt: skip
    """Blend one attribute of one frame.

    Args:
        weight: Of each column; ``is_cell`` says what is to be read for it.
        steered: Its product with the mask of each row; the same with ``is_steered``.
    """
    for channel in tl.static_range(NUM_CHANNELS):
        item = row * NUM_CHANNELS + channel
        cell = item[:, None] * NUM_SHAPES + shape[None, :]
        total = tl.load(neutral + item, mask=is_row, other=0.0)
        if HAS_DELTAS:
            share = steered * tl.load(deltas + cell, mask=is_steered, other=0.0)
            if HAS_FIXED:
                share += weight * tl.load(fixed + cell, mask=is_cell, other=0.0)
            total += tl.sum(share, axis=1)
        elif HAS_FIXED:
            total += tl.sum(weight * tl.load(fixed + cell, mask=is_cell, other=0.0), axis=1)
        tl.store(blended + item, total, mask=is_row)


@jit
def blend_backward(
    mask, weights, grad_blended, grad_neutral, grad_deltas, num_rows, num_frames,
    CHANNELS: constexpr, HAS_DELTAS: constexpr, NUM_ATTRIBUTES: constexpr, NUM_SHAPES: constexpr,
    ROWS: constexpr, COLUMNS: constexpr,
):  # fmt: skip
    """Gradients of ROWS primitives, summed over frames in their order.

    Args:
        grad_blended: [b n c] of each attribute.
        grad_neutral: Written, [n c] of each attribute.
        grad_deltas: Written, [n c k] of each attribute.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    shape = tl.arange(0, COLUMNS)
    is_cell = (row < num_rows)[:, None] & (shape < NUM_SHAPES)[None, :]
    followed = tl.load(mask + row[:, None] * NUM_SHAPES + shape[None, :], mask=is_cell, other=0.0)
    for a in tl.static_range(NUM_ATTRIBUTES):
        _attribute_backward(
            weights, grad_blended[a], grad_neutral[a], grad_deltas[a], num_rows, num_frames,
            row, shape, is_cell, followed, CHANNELS[a], HAS_DELTAS[a], NUM_SHAPES, ROWS, COLUMNS,
        )  # fmt: skip


@jit
def _attribute_backward(
    weights, grad_blended, grad_neutral, grad_deltas, num_rows, num_frames, row, shape, is_cell,
    followed, NUM_CHANNELS: constexpr, HAS_DELTAS: constexpr, NUM_SHAPES: constexpr,
    ROWS: constexpr, COLUMNS: constexpr,
):  # fmt: skip
    """Gradients of one attribute.

    Args:
        is_cell: What is to be written of a tile.
        followed: The mask of each row.
    """
    is_row, is_shape = row < num_rows, shape < NUM_SHAPES
    for channel in tl.static_range(NUM_CHANNELS):
        item = row * NUM_CHANNELS + channel
        total = tl.zeros((ROWS,), tl.float32)
        share = tl.zeros((ROWS, COLUMNS), tl.float32)
        for frame in range(num_frames):
            start = grad_blended + tl.full([], NUM_CHANNELS, tl.int64) * frame * num_rows
            grad = tl.load(start + item, mask=is_row, other=0.0)
            weight = tl.load(weights + frame * NUM_SHAPES + shape, mask=is_shape, other=0.0)
            total += grad
            share += grad[:, None] * weight[None, :]
        tl.store(grad_neutral + item, total, mask=is_row)
        if HAS_DELTAS:
            cell = item[:, None] * NUM_SHAPES + shape[None, :]
            tl.store(grad_deltas + cell, followed * share, mask=is_cell)


def _tile_of(num_shapes: int) -> dict[str, int]:
    """Shapes in columns, and as many primitives as fill a tile."""
    columns = max(1, 1 << (num_shapes - 1).bit_length())
    return {"NUM_SHAPES": num_shapes, "ROWS": max(1, _TILE // columns), "COLUMNS": columns}


class _Blend(Function):
    @staticmethod
    def forward(
        ctx: Any, fixed: Tensors, mask: Tensor, weights: Tensor, num: int, *trained: Tensor | None
    ) -> Any:
        neutral: tuple[Tensor, ...] = contiguous(trained[:num])
        deltas, fixed = contiguous(trained[num:]), contiguous(fixed)
        mask, weights = mask.contiguous(), weights.contiguous()
        num_rows, num_shapes = mask.shape
        blended = tuple(value.new_empty(len(weights), *value.shape) for value in neutral)
        tile = _tile_of(num_shapes)
        launch(
            blend, (-(-num_rows // tile["ROWS"]) * len(weights),), neutral, or_other(deltas, mask),
            or_other(fixed, mask), mask, weights, blended, num_rows, len(weights),
            CHANNELS=_channels(neutral), HAS_DELTAS=_are_there(deltas), HAS_FIXED=_are_there(fixed),
            NUM_ATTRIBUTES=num, **tile,
        )  # fmt: skip
        ctx.save_for_backward(mask, weights)
        ctx.set_materialize_grads(False)
        return blended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        mask, weights = ctx.saved_tensors
        num, (num_rows, num_shapes) = len(grads), mask.shape
        needs = ctx.needs_input_grad[4:]
        needs_neutral, needs_deltas = needs[:num], needs[num:]
        used = [
            a for a, grad in enumerate(grads)
            if grad is not None and (needs_neutral[a] or needs_deltas[a])
        ]  # fmt: skip
        given = tuple(grad.contiguous() for a in used if (grad := grads[a]) is not None)
        neutral = tuple(grad.new_empty(grad.shape[1:]) for grad in given)
        deltas = tuple(
            grad.new_empty(*grad.shape[1:], num_shapes) if needs_deltas[a] else None
            for a, grad in zip(used, given, strict=True)
        )
        if used:
            tile = _tile_of(num_shapes)
            launch(
                blend_backward, (-(-num_rows // tile["ROWS"]),), mask, weights, given, neutral,
                or_other(deltas, mask), num_rows, len(weights), CHANNELS=_channels(neutral),
                HAS_DELTAS=_are_there(deltas), NUM_ATTRIBUTES=len(used), **tile,
            )  # fmt: skip
        results: list[Tensor | None] = [None] * (4 + 2 * num)
        for a, value, delta in zip(used, neutral, deltas, strict=True):
            results[4 + a], results[4 + num + a] = value, delta
        return tuple(results)


def _channels(neutral: Sequence[Tensor]) -> tuple[int, ...]:
    """Numbers of a primitive in each attribute."""
    return tuple(tensor.shape[1:].numel() for tensor in neutral)


def _are_there(tensors: Tensors) -> tuple[bool, ...]:
    return tuple(tensor is not None for tensor in tensors)

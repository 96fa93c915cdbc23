"""Launches of the kernels for styled layers, tied into autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus.kernels.styled_layer._gpu_double import double, double_backward
from vultus.kernels.styled_layer._gpu_layer import finish, finish_backward
from vultus.kernels.triton_calls import contiguous, or_other
from vultus.kernels.triton_runtime import is_interpreted, is_recording, launch

__all__ = ["add_doubled", "finish_layer"]

_TILE, _WARPS = 1024, 4
"""Numbers of a tile: 8 in a lane; with 16 the backward pass takes twice the registers."""
_MAX_LANES = 128
_PROGRAMS = 256
"""Shares of sums over an image: enough for every multiprocessor, few enough to add up."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def finish_layer(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    next_styles: Tensor | None,
    *,
    is_doubling: bool,
    keeps: bool,
    clamp: float | None,
) -> tuple[Tensor | None, Tensor | None]:
    """See ``vultus.kernels.styled_layer.finish_layer``."""
    _check(x, scale=scale, bias=bias, noise=noise, strength=noise_strength, styles=next_styles)
    options = (is_doubling, keeps, clamp)
    return _Finish.apply(options, x, scale, bias, noise, noise_strength, next_styles)


def add_doubled(image: Tensor, added: Tensor) -> Tensor:
    """See ``vultus.kernels.styled_layer.add_doubled``."""
    _check(image)
    _check(added)
    return _AddDoubled.apply(image, added)


class _Finish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, options: tuple[bool, bool, float | None], *tensors: Any) -> Any:
        is_doubling, keeps, clamp = options
        x, (scale, bias, noise, strength, styles) = _side_by_side(tensors[0]), tensors[1:]
        factor = 2 if is_doubling else 1
        shape = (scale.shape[0], scale.shape[1], factor * x.shape[2], factor * x.shape[3])
        kept = _empty(x, shape) if keeps else None
        scaled = None if styles is None else _empty(x, shape)
        factors = contiguous((scale, bias, noise, strength, styles))
        constants = _constants(shape, factors, is_doubling, keeps, clamp)
        grid = (-(-shape[2] * shape[3] // constants["ROWS"]), *_columns(shape, constants))
        launch(
            finish, grid, x, *or_other(factors, scale), *or_other((kept, scaled), x),
            *_numbers(shape, noise, clamp), **constants,
        )  # fmt: skip
        ctx.save_for_backward(x, *factors)
        ctx.options, ctx.shape = options, shape
        return kept, scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *factors = ctx.saved_tensors
        (is_doubling, _, clamp), shape = ctx.options, ctx.shape
        scale, _, noise, _, styles = factors
        g_kept, g_scaled = (None if g is None else _side_by_side(g.to(x.dtype)) for g in grads)
        needs_noise = noise is not None and ctx.needs_input_grad[4]
        constants = _constants(shape, factors, is_doubling, g_kept is not None, clamp)
        constants |= {"SCALES": g_scaled is not None, "NEEDS_NOISE": needs_noise}
        tiles = -(-shape[2] * shape[3] // constants["ROWS"])
        programs, columns = min(tiles, _PROGRAMS), _columns(shape, constants)
        g_x = torch.empty_like(x)
        sums = scale.new_empty(4, shape[0], programs, shape[1])
        of_noise = None
        if needs_noise:
            of_noise = scale.new_empty(columns[0], shape[0], 1, *shape[2:])
        launch(
            finish_backward, (programs, *columns), x, *or_other(factors, scale),
            *or_other((g_kept, g_scaled), x), g_x, sums, *or_other((of_noise,), sums),
            *_numbers(shape, noise, clamp), -(-tiles // programs), **constants,
        )  # fmt: skip
        of_scale, of_bias, of_styles, of_strength = sums.sum(dim=2)
        gradients: list[Tensor | None] = [g_x, of_scale, of_bias.sum(dim=0), None, None, None]
        if noise is not None:
            gradients[4] = of_strength.sum()
        if noise is not None and of_noise is not None:
            gradients[3] = (of_noise.sum(dim=0) * factors[3]).sum_to_size(noise.shape)
        if styles is not None:
            gradients[5] = of_styles
        return None, *gradients


class _AddDoubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, added: Tensor) -> Tensor:
        image, added = _side_by_side(image), _side_by_side(added)
        doubled = _empty(added, added.shape)
        _launch_double(double, added.shape, (image, added, doubled), image.shape)
        ctx.shape, ctx.dtype = image.shape, image.dtype
        return doubled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        g_doubled, g_small = _side_by_side(grads[0]), None
        if ctx.needs_input_grad[0]:
            g_small = _empty(g_doubled, ctx.shape).to(ctx.dtype)
            _launch_double(double_backward, ctx.shape, (g_doubled, g_small), ctx.shape)
        return g_small, grads[0]


def _launch_double(
    kernel: Any, shape: torch.Size, tensors: tuple[Tensor, ...], small: torch.Size
) -> None:
    """A program for each tile of images of ``shape``."""
    tile = _tile(shape[1])
    grid = (-(-shape[2] * shape[3] // tile["ROWS"]), -(-shape[1] // tile["LANES"]), shape[0])
    constants = {"CHANNELS": shape[1], **tile}
    launch(kernel, grid, *tensors, small[2], small[3], num_warps=_WARPS, **constants)


def _check(x: Tensor, **factors: Tensor | None) -> None:
    if not (x.is_cuda or is_interpreted() or is_recording()) or x.dtype not in _FLOATS:
        raise TypeError(
            f'backend="gpu" needs features of at most 32 bits on a GPU, got {x.dtype} on {x.device}'
        )
    for name, factor in factors.items():
        if factor is not None and (factor.dtype != torch.float32 or factor.device != x.device):
            raise TypeError(
                f"{name} must be float32 on {x.device}, got {factor.dtype} on {factor.device}"
            )


def _side_by_side(x: Tensor) -> Tensor:
    """With channels side by side; an image of one channel or pixel may look so and not be so."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def _empty(like: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    batch, channels, height, width = shape
    return like.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _tile(channels: int) -> dict[str, int]:
    lanes = min(1 << (channels - 1).bit_length(), _MAX_LANES)
    return {"ROWS": _TILE // lanes, "LANES": lanes}


def _columns(shape: tuple[int, ...], constants: dict[str, Any]) -> tuple[int, int]:
    """Programs side by side along the channels, and images."""
    return -(-shape[1] // constants["LANES"]), shape[0]


def _constants(
    shape: tuple[int, ...],
    factors: tuple[Tensor | None, ...] | list[Tensor | None],
    is_doubling: bool,
    keeps: bool,
    clamp: float | None,
) -> dict[str, Any]:
    return {
        "CHANNELS": shape[1],
        "DOUBLE": is_doubling,
        "HAS_NOISE": factors[2] is not None,
        "HAS_CLAMP": clamp is not None,
        "KEEPS": keeps,
        "SCALES": factors[4] is not None,
        "num_warps": _WARPS,
        **_tile(shape[1]),
    }


def _numbers(
    shape: tuple[int, ...], noise: Tensor | None, clamp: float | None
) -> tuple[int, int, int, float]:
    """Size of the output, numbers from one image's noise to the next's, and the clamp."""
    is_own = noise is not None and noise.dim() == 4 and noise.shape[0] > 1
    return shape[2], shape[3], shape[2] * shape[3] if is_own else 0, 0.0 if clamp is None else clamp

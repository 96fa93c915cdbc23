"""GPU backend of Adam in Triton: one kernel updates all parameters.

Programs find their parameter by counting blocks. Addresses are arguments of the kernel, so that a
CUDA graph that captures a step holds them; learning rates and step counts are read on the GPU.
"""

# ruff: noqa: D417 -- names of the algorithm.
from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.kernels.fused_adam._types import AdamTensors
from vultus.kernels.triton_runtime import constexpr, is_interpreted, is_recording, jit, launch, tl

__all__ = ["adam_step"]

_BLOCK, _WARPS = 1024, 4


@torch.no_grad()
def adam_step(
    tensors: Sequence[AdamTensors],
    rates: Float[Tensor, " k"],
    betas: tuple[float, float],
    epsilon: float,
    skip: Int[Tensor, " 1"] | None = None,
) -> None:
    """See ``vultus.kernels.fused_adam.adam_step``."""
    for index, each in enumerate(tensors):
        _check(index, each, rates.device)
    if not tensors:
        return
    steps = [each.step for each in tensors]
    # As a list: PyTorch reads a single tensor on the host.
    counts = 1 if skip is None else [(skip[0] == 0).float()] * len(steps)
    torch._foreach_add_(steps, counts)  # pyright: ignore[reportPrivateImportUsage]
    sizes = tuple(each.parameter.numel() for each in tensors)
    launch(
        adam,
        (sum(-(-size // _BLOCK) for size in sizes),),
        tuple(each.parameter.detach() for each in tensors),
        tuple(each.gradient.detach().contiguous() for each in tensors),
        tuple(each.mean for each in tensors),
        tuple(each.square for each in tensors),
        tuple(steps),
        rates,
        _sizes_on(rates.device, sizes),
        rates if skip is None else skip,
        epsilon,
        BETA1=betas[0],
        BETA2=betas[1],
        LOG2_BETA1=math.log2(betas[0]),
        LOG2_BETA2=math.log2(betas[1]),
        HAS_SKIP=skip is not None,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )


def _check(index: int, tensors: AdamTensors, device: torch.device) -> None:
    for name in ("parameter", "gradient", "mean", "square", "step"):
        tensor: Tensor = getattr(tensors, name)
        is_usable = tensor.is_cuda or is_interpreted() or is_recording()
        is_usable = is_usable and tensor.device == device and tensor.dtype == torch.float32
        if not (is_usable and (name == "gradient" or tensor.is_contiguous())):
            raise TypeError(
                f'tensors {index}: backend="gpu" needs a contiguous float32 {name} on the GPU of '
                f"the rates, got {tensor.dtype} on {tensor.device}"
            )


@lru_cache(maxsize=64)
def _sizes_on(device: torch.device, sizes: tuple[int, ...]) -> Tensor:
    """Numbers of elements; as plain arguments each new one could compile another kernel."""
    return torch.tensor(sizes, dtype=torch.int32, device=device)


@jit
def _update(
    parameter, gradient, mean, square, rate, scale, epsilon, offset, mask,
    BETA1: constexpr, BETA2: constexpr,
):  # fmt: skip
    """One block of one parameter.

    Args:
        rate: Divided by 1 - BETA1^step.
        scale: Inverse root of 1 - BETA2^step.
        mask: May be None.
    """
    g = tl.load(gradient + offset, mask=mask)
    m = BETA1 * tl.load(mean + offset, mask=mask) + (1 - BETA1) * g
    v = BETA2 * tl.load(square + offset, mask=mask) + (1 - BETA2) * g * g
    tl.store(mean + offset, m, mask=mask)
    tl.store(square + offset, v, mask=mask)
    change = rate * m / (tl.sqrt(v) * scale + epsilon)
    tl.store(parameter + offset, tl.load(parameter + offset, mask=mask) - change, mask=mask)


@jit
def adam(
    parameters, gradients, means, squares, steps, rates, sizes, skip, epsilon,
    BETA1: constexpr, BETA2: constexpr, LOG2_BETA1: constexpr, LOG2_BETA2: constexpr,
    HAS_SKIP: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Update one block of one of the parameters.

    Args:
        parameters: Tuples, as the next four.
        steps: With this step.
        rates: One per parameter.
        sizes: Elements of each parameter.
        skip: With ``HAS_SKIP``, nothing changes where this is not zero.
    """
    if HAS_SKIP:
        if tl.load(skip) != 0:
            return
    block = tl.program_id(0)
    parameter = parameters[0]
    gradient = gradients[0]
    mean = means[0]
    square = squares[0]
    step = steps[0]
    index = 0
    size = tl.load(sizes)
    begin = 0
    end = tl.cdiv(size, BLOCK)
    for k in tl.static_range(1, len(parameters)):
        is_behind = block >= end
        parameter = tl.where(is_behind, parameters[k], parameter)
        gradient = tl.where(is_behind, gradients[k], gradient)
        mean = tl.where(is_behind, means[k], mean)
        square = tl.where(is_behind, squares[k], square)
        step = tl.where(is_behind, steps[k], step)
        index = tl.where(is_behind, k, index)
        begin = tl.where(is_behind, end, begin)
        next_size = tl.load(sizes + k)
        size = tl.where(is_behind, next_size, size)
        end += tl.cdiv(next_size, BLOCK)
    # beta^step is close to 1 in the beginning, and what counts is the difference.
    count = tl.load(step).to(tl.float64)
    rate = tl.load(rates + index) / (1.0 - tl.exp2(count * LOG2_BETA1)).to(tl.float32)
    scale = 1.0 / tl.sqrt((1.0 - tl.exp2(count * LOG2_BETA2)).to(tl.float32))
    start = (block - begin).to(tl.int64) * BLOCK
    offset = start + tl.arange(0, BLOCK)
    # A mask would keep Triton from moving 16 bytes at a time.
    if start + BLOCK <= size:
        _update(
            parameter, gradient, mean, square, rate, scale, epsilon, offset,
            None, BETA1, BETA2,
        )  # fmt: skip
    else:
        _update(
            parameter, gradient, mean, square, rate, scale, epsilon, offset,
            offset < size, BETA1, BETA2,
        )  # fmt: skip

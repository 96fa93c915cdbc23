"""Linear layers: weights that a generator decides, and products in TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["draw_linear_weights", "tf32_linear"]

_ALIGNMENT = 4
"""Rows of this many floats have 16 bytes, which tensor cores want neighbours to fill."""


@torch.no_grad()
def draw_linear_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all linear layers of a module anew, uniformly within the root of 1 / inputs.

    That is PyTorch's own rule, which draws from the global generator.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.uniform_(-bound, bound, generator=generator)


def tf32_linear(
    inputs: Float[Tensor, "n i"],
    weight: Float[Tensor, "o i"],
    addend: Float[Tensor, " o"] | Float[Tensor, "n o"],
) -> Float[Tensor, "n o"]:
    """Compute ``inputs @ weight.T + addend``; a GPU rounds factors to 10 bits, not the sums.

    So do the products of the backward pass, whatever torch is told about others. Elsewhere nothing
    is rounded.
    """
    missing = -inputs.shape[1] % _ALIGNMENT
    if missing:
        inputs, weight = pad(inputs, (0, missing)), pad(weight, (0, missing))
    return _Tf32Linear.apply(inputs, weight.contiguous(), addend)


class _Tf32Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, addend: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.is_bias = addend.dim() == 1
        with _tf32(inputs.is_cuda):
            return torch.addmm(addend, inputs, weight.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        (gradient,) = grads
        needs_inputs, needs_weight, needs_addend = ctx.needs_input_grad
        with _tf32(gradient.is_cuda):
            of_inputs = gradient @ weight if needs_inputs else None
            of_weight = gradient.t() @ inputs if needs_weight else None
        of_addend = gradient.sum(dim=0) if needs_addend and ctx.is_bias else gradient
        return of_inputs, of_weight, of_addend if needs_addend else None


@contextmanager
def _tf32(is_on_gpu: bool) -> Iterator[None]:
    if not is_on_gpu:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

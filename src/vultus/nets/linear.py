"""Weights of linear layers that a generator decides."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["draw_linear_weights"]


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

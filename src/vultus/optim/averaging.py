"""Exponential moving averages of networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["average_decay", "update_average"]


def average_decay(batch: int, half_life: int, images_seen: int, ramp: float | None = None) -> float:
    """Share of the old average that one step keeps.

    Args:
        batch: Images of the step.
        half_life: Images after which a weight counts half; 0 keeps nothing.
        images_seen: Images before the step.
        ramp: The half-life is at most this share of ``images_seen``; None for no such limit.
    """
    limit = half_life if ramp is None else min(half_life, ramp * images_seen)
    return 0.5 ** (batch / limit) if limit > 0 else 0.0


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the parameters of an average towards those of a network; buffers are copied."""
    averaged: list[Tensor] = list(average.parameters())
    current: list[Tensor] = list(network.parameters())
    # One launch for all of them.
    torch._foreach_lerp_(averaged, current, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(other)

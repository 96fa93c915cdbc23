"""Reference of Adam's step, in the dtype and on the device of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.kernels.fused_adam._types import AdamTensors

__all__ = ["adam_step"]


@torch.no_grad()
def adam_step(
    tensors: Sequence[AdamTensors],
    rates: Float[Tensor, " k"],
    betas: tuple[float, float],
    epsilon: float,
    skip: Int[Tensor, " 1"] | None = None,
) -> None:
    """See ``vultus.kernels.fused_adam.adam_step``."""
    if skip is not None and int(skip) != 0:
        return
    for each, rate in zip(tensors, rates, strict=True):
        each.step.add_(1)
        each.mean.mul_(betas[0]).add_((1 - betas[0]) * each.gradient)
        each.square.mul_(betas[1]).add_((1 - betas[1]) * each.gradient**2)
        # Moments start at zero; float64, because beta^step is close to 1 in the beginning.
        count = each.step.double()
        mean = each.mean / (1 - betas[0] ** count).to(rate)
        square = each.square / (1 - betas[1] ** count).to(rate)
        each.parameter.sub_(rate * mean / (square.sqrt() + epsilon))

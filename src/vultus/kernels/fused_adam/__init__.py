"""One step of Adam over many parameters at once, each with a learning rate of its own.

Backends: ``"ref"`` is plain PyTorch, ``"gpu"`` one Triton kernel for all parameters. On the CPU,
``optim.adam`` uses PyTorch's fused step.

Reference: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from vultus.kernels.fused_adam import ref
from vultus.kernels.fused_adam._types import AdamTensors

__all__ = ["AdamTensors", "Backend", "adam_step"]

Backend = Literal["auto", "ref", "gpu"]


def adam_step(
    tensors: Sequence[AdamTensors],
    rates: Float[Tensor, " k"],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-15,
    skip: Int[Tensor, " 1"] | None = None,
    backend: Backend = "auto",
) -> None:
    """Change parameters and moments in place, and count the step.

    A CUDA graph may capture a call that ran before with parameters of the same sizes.

    Args:
        tensors: What to train.
        rates: Learning rate of each of them.
        betas: Decay of the two moments.
        epsilon: Added to the root of the second moment.
        skip: If not zero, nothing changes; decided where the parameters are, without waiting.
        backend: ``"auto"``: ``"gpu"`` for parameters on a GPU, else ``"ref"``.

    Raises:
        ValueError: If there is not one rate per parameter, or shapes differ.
        TypeError: If ``backend="gpu"`` and a tensor is not float32 on one GPU, or not contiguous.
    """
    if rates.shape[0] != len(tensors):
        raise ValueError(f"rates must hold {len(tensors)} values, got {rates.shape[0]}")
    for index, each in enumerate(tensors):
        shapes = {each.parameter.shape, each.gradient.shape, each.mean.shape, each.square.shape}
        if len(shapes) > 1:
            raise ValueError(f"tensors {index} must have one shape, got {sorted(shapes)}")
    if backend == "auto":
        backend = "gpu" if rates.is_cuda else "ref"
    if backend == "ref":
        ref.adam_step(tensors, rates, betas, epsilon, skip)
        return
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.fused_adam import gpu

    gpu.adam_step(tensors, rates, betas, epsilon, skip)

"""Whether fused kernels or the PyTorch code that defines them serve a call."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["are_for_kernels", "are_where_kernels_run"]

_serves_cpu = False
"""Tests set this to walk on the CPU, in Triton's interpreter, through what runs on a GPU."""


def are_for_kernels(*tensors: Tensor) -> bool:
    """Whether all tensors are what fused kernels take: float32 on a GPU."""
    return are_where_kernels_run(*tensors) and all(t.dtype == torch.float32 for t in tensors)


def are_where_kernels_run(*tensors: Tensor) -> bool:
    """Whether all tensors are on a GPU, whatever their dtype."""
    return all(t.is_cuda or _serves_cpu for t in tensors)

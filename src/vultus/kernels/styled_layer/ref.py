"""The definitions, in PyTorch: any device and dtype, any number of derivatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, pad

__all__ = ["GAIN", "SLOPE", "add_doubled", "double2d", "finish_layer"]

SLOPE = 0.2
GAIN = math.sqrt(2.0)
"""Keeps the variance of normal input."""
_ROWS, _COLUMNS = -2, -1


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
    dtype, sums = x.dtype, scale.dtype
    if is_doubling:
        x = x.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    y = x.to(sums) * scale[:, :, None, None] + bias[:, None, None]
    if noise is not None and noise_strength is not None:
        y = y + noise * noise_strength
    y = GAIN * leaky_relu(y, SLOPE)
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    scaled = None if next_styles is None else (y * next_styles[:, :, None, None]).to(dtype)
    return y.to(dtype) if keeps else None, scaled


def add_doubled(image: Tensor, added: Tensor) -> Tensor:
    """See ``vultus.kernels.styled_layer.add_doubled``."""
    return double2d(image) + added


def double2d(image: Tensor) -> Tensor:
    """Double an image b c h w by the filter (1, 3, 3, 1); zero beyond its border."""
    return _double(_double(image, _ROWS), _COLUMNS)


def _double(x: Tensor, dim: int) -> Tensor:
    """Filter an axis with a zero behind every element, at gain two."""
    size = x.shape[dim]
    x = pad(x, (0, 0, 1, 1) if dim == _ROWS else (1, 1))
    before, here, after = (x.narrow(dim, offset, size) for offset in range(3))
    even, odd = 0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after
    return torch.stack([even, odd], dim=dim).flatten(dim - 1, dim)

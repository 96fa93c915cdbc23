"""Blur of images, as discriminators see them early in a training."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

__all__ = ["blur_images"]


def blur_images(x: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Blur with the kernel 2^-(x / sigma)², black outside; nothing for a sigma below 1/3."""
    half = math.floor(3.0 * sigma)
    if half == 0:
        return x
    offsets = torch.arange(-half, half + 1, device=x.device, dtype=x.dtype)
    kernel = (-(offsets / sigma).square()).exp2()
    kernel = kernel / kernel.sum()
    flat = x.flatten(0, 1)[:, None]
    flat = conv2d(flat, kernel[None, None, :, None], padding=(half, 0))
    flat = conv2d(flat, kernel[None, None, None], padding=(0, half))
    return flat.view_as(x)

"""Reference of SSIM: two separable convolutions per moment, gradients by autograd."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from vultus.kernels.ssim.window import C1, C2, RADIUS, WEIGHTS

__all__ = ["ssim_map"]


def ssim_map(
    a: Float[Tensor, "*b c h w"], b: Float[Tensor, "*b c h w"]
) -> Float[Tensor, "*b c h w"]:
    """See ``vultus.kernels.ssim.ssim_map``."""
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a * mean_a
    var_b = _blur(b * b) - mean_b * mean_b
    cov = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1)
    structure = (2 * cov + C2) / (var_a + var_b + C2)
    return luminance * structure


def _blur(x: Tensor) -> Tensor:
    window = _window(x.dtype, x.device)
    planes = x.reshape(-1, 1, *x.shape[-2:])
    planes = conv2d(planes, window.view(1, 1, -1, 1), padding=(RADIUS, 0))
    return conv2d(planes, window.view(1, 1, 1, -1), padding=(0, RADIUS)).view(x.shape)


@lru_cache(maxsize=16)
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept on the device: a copy from the host could not be captured into a CUDA graph."""
    return torch.tensor(WEIGHTS, dtype=dtype, device=device)

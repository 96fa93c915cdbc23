"""Differences between images in [0, 1]: PSNR in its variants, SSIM, L1.

PSNR of a whole image, of its foreground, and averaged over channels are different numbers (up to
several dB with a plain background). Each has its own name; never compare across names.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vultus.kernels.ssim import ssim_map

__all__ = ["mean_absolute_error", "psnr", "psnr_foreground", "psnr_per_channel", "ssim"]

# Error of 8-bit images that differ in nothing but rounding is above this: 100 dB is "equal".
_MIN_SQUARED_ERROR = 1e-10


def psnr(rgb: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each image in dB, over all channels at once; at most 100."""
    return _decibels((rgb - target).square().mean(dim=(1, 2, 3)))


def psnr_per_channel(
    rgb: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c"]:
    """Ratio of each channel. Its mean is never below ``psnr``; training logs of 3DGS show it."""
    return _decibels((rgb - target).square().mean(dim=(2, 3)))


def psnr_foreground(
    rgb: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    foreground: Bool[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """Ratio over foreground pixels only; NaN where an image has none."""
    error = (rgb - target).square().mean(dim=1, keepdim=True) * foreground
    return _decibels(error.sum(dim=(1, 2, 3)) / foreground.sum(dim=(1, 2, 3)))


def ssim(rgb: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Structural similarity of each image: 11 x 11 Gaussian window, zero padding, all channels."""
    return ssim_map(rgb, target).mean(dim=(1, 2, 3))


def mean_absolute_error(
    rgb: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """L1 of each image."""
    return (rgb - target).abs().mean(dim=(1, 2, 3))


def _decibels(squared_error: Tensor) -> Tensor:
    return -10.0 * torch.log10(squared_error.clamp(min=_MIN_SQUARED_ERROR))

"""Apply geometric transformations and maps of colours to images.

Images are upsampled by two with an orthogonal wavelet's low-pass filter, resampled bilinearly, and
downsampled with the same filter, so that the identity gives back every image exactly.

Reference: Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, app. B.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

__all__ = ["transform_colors", "warp_images"]

# Low-pass filter of the wavelet sym6 (Daubechies, Ten Lectures on Wavelets, 1992, table 6.3); it is
# orthogonal to itself shifted by any even number of places.
_FILTER = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
# Where a pixel's mass goes in the upsampled image.
_CENTER = sum(place * tap for place, tap in enumerate(_FILTER)) / sum(_FILTER)
_MARGIN = 5
"""Pixels beyond the border that the filters reach."""
_Border = Literal["reflect", "zero"]
# Codes of ``aten::grid_sampler_2d``.
_BILINEAR, _ZEROS, _REFLECTION = 0, 0, 2


def warp_images(
    images: Float[Tensor, "b c s s"],
    inverse: Float[Tensor, "b 3 3"],
    border: _Border = "reflect",
) -> Float[Tensor, "b c s s"]:
    """Transform square images; gradients of any order reach the images.

    Args:
        images: At least 6 pixels a side.
        inverse: Of ``draw_geometry``: where each position of the result comes from.
        border: What lies beyond the images: their reflection, or zeros.
    """
    size = images.shape[-1]
    mode = "reflect" if border == "reflect" else "constant"
    fine = _upsample(pad(images, [_MARGIN] * 4, mode=mode))
    grid = _grid(inverse, size, fine.shape[-1])
    return _downsample(_Sample.apply(fine, grid, _REFLECTION if border == "reflect" else _ZEROS))


def transform_colors(
    images: Float[Tensor, "b 3 h w"], matrix: Float[Tensor, "b 3 4"]
) -> Float[Tensor, "b 3 h w"]:
    """Apply affine maps of ``draw_colors``."""
    colors = matrix[:, :, :3] @ images.flatten(2) + matrix[:, :, 3:]
    return colors.view_as(images)


@cache
def _taps(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "1 1 12 1"]:
    """Kept on the device: a copy in every step would wait for the GPU."""
    return torch.tensor(_FILTER, dtype=dtype, device=device)[None, None, :, None]


def _upsample(x: Float[Tensor, "b c m m"]) -> Float[Tensor, "b c n n"]:
    """Double the size and cut off what the filter does not fully cover."""
    taps = _taps(x.dtype, x.device)
    flat = x.flatten(0, 1)[:, None]
    flat = conv_transpose2d(flat, taps, stride=(2, 1))
    flat = conv_transpose2d(flat, taps.transpose(2, 3), stride=(1, 2))
    kept = slice(2 * _MARGIN, 2 * x.shape[-1])
    return flat[:, 0, kept, kept].unflatten(0, x.shape[:2])


def _downsample(x: Float[Tensor, "b c n n"]) -> Float[Tensor, "b c s s"]:
    taps = _taps(x.dtype, x.device)
    flat = x.flatten(0, 1)[:, None]
    flat = conv2d(flat, taps, stride=(2, 1))
    flat = conv2d(flat, taps.transpose(2, 3), stride=(1, 2))
    return flat[:, 0].unflatten(0, x.shape[:2])


def _grid(inverse: Float[Tensor, "b 3 3"], size: int, count: int) -> Float[Tensor, "b n n 2"]:
    """Where the samples of the result are in the upsampled image, in [-1, 1]."""
    middle = size - 1 + _CENTER
    places = (torch.arange(count, device=inverse.device, dtype=inverse.dtype) - middle) / (2 * size)
    y, x = torch.meshgrid(places, places, indexing="ij")
    positions = torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1)
    moved = positions @ inverse.transpose(1, 2)[:, :, :2]
    places = moved * (2 * size) + middle
    return (places * (2.0 / (count - 1)) - 1.0).unflatten(1, (count, count))


class _Sample(torch.autograd.Function):
    """Bilinear sampling, linear in the image.

    PyTorch's own has no second derivative, which the gradient penalty of a discriminator needs.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, grid: Tensor, border: int) -> Tensor:
        """Sample an image."""
        ctx.save_for_backward(grid)
        ctx.shape, ctx.border = image.shape, border
        return torch.ops.aten.grid_sampler_2d(image, grid, _BILINEAR, border, True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Spread gradients over the pixels they were sampled from."""
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradients[0], grid, ctx.border, ctx.shape), None, None


class _Spread(torch.autograd.Function):
    """The transpose of ``_Sample``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, border: int, shape: torch.Size) -> Tensor:
        """Spread values."""
        ctx.save_for_backward(grid)
        ctx.border = border
        image, _ = torch.ops.aten.grid_sampler_2d_backward(
            values, values.new_empty(shape), grid, _BILINEAR, border, True, [True, False]
        )
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Sample the gradients."""
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradients[0], grid, ctx.border), None, None, None

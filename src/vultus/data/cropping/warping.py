"""Cut turned squares out of photographs, beyond their borders where need be; sharpness."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, grid_sample, pad

from vultus.data.cropping.quads import CropQuad

__all__ = ["crop_image", "crop_mask", "laplacian_variance", "singular_blur"]

_MIN_SAMPLES, _MAX_SAMPLES = 2, 8
# Box filters, in shares of the crop's side: of the border between picture and what lies beyond,
# and of what lies beyond. Reference: FFHQ's alignment, in SphereHead's toolbox.
_EDGE_BLUR, _OUTSIDE_BLUR = 0.02, 0.03
_LUMA = (0.299, 0.587, 0.114)


def crop_image(
    image: Float[Tensor, "3 h w"], quad: CropQuad, size: int
) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "1 s s"]]:
    """Cut out a crop.

    Beyond its borders the photograph is mirrored and blurred, so that no edge shows.

    Returns:
        The crop, and where it shows the photograph itself (1) or not (0).
    """
    inside = _sampled(torch.ones_like(image[:1]), quad, size, "zeros")
    crop = _sampled(image, quad, size, "reflection")
    share = _box_blurred(inside, int(_EDGE_BLUR * size))
    blurred = _box_blurred(crop, int(_OUTSIDE_BLUR * size))
    return share * crop + (1.0 - share) * blurred, (inside > 0.5).to(image)


def crop_mask(mask: Float[Tensor, "1 h w"], quad: CropQuad, size: int) -> Float[Tensor, "1 s s"]:
    """Cut the same crop out of a mask; 0 beyond its borders."""
    return _sampled(mask, quad, size, "zeros")


def singular_blur(image: Float[Tensor, "3 h w"], num_values: int = 10) -> float:
    """Share of the largest singular values of the brightness; sharp photographs are below 0.6."""
    values = torch.linalg.svdvals(_luma(image))
    return float(values[:num_values].sum() / values.sum().clamp(min=1e-12))


def laplacian_variance(image: Float[Tensor, "3 h w"]) -> float:
    """Variance of the Laplacian of the brightness in 0 to 255; sharp photographs are above 100."""
    kernel = image.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    edges = conv2d(255.0 * _luma(image)[None, None], kernel[None, None])
    return float(edges.var(correction=0))


def _luma(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    return (image * image.new_tensor(_LUMA)[:, None, None]).sum(dim=0)


def _sampled(
    image: Float[Tensor, "c h w"], quad: CropQuad, size: int, border: str
) -> Float[Tensor, "c s s"]:
    """Look up several points a pixel, as many as the photograph has there, and average them."""
    each = min(max(math.ceil(quad.side / size), _MIN_SAMPLES), _MAX_SAMPLES)
    steps = (torch.arange(size * each, dtype=torch.float64) + 0.5) * (2.0 / (size * each)) - 1.0
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    pixels = quad.to_photograph(
        torch.stack([right.flatten(), down.flatten()], dim=1).to(quad.right)
    )
    height, width = image.shape[1:]
    grid = 2.0 * pixels / pixels.new_tensor([width, height]) - 1.0
    grid = grid.view(1, size * each, size * each, 2).to(image)
    found = grid_sample(image[None], grid, padding_mode=border, align_corners=False)
    return avg_pool2d(found, each)[0]


def _box_blurred(image: Float[Tensor, "c s s"], radius: int) -> Float[Tensor, "c s s"]:
    if radius == 0:
        return image
    padded = pad(image[None], (radius,) * 4, mode="reflect")
    return avg_pool2d(padded, 2 * radius + 1, stride=1)[0]

"""Convolution whose input channels are scaled per image by styles."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from vultus.nets.stylegan2.filters import smooth2d

__all__ = ["EPSILON", "modulated_conv2d"]

EPSILON = 1e-8
"""Keeps the norm of a scaled kernel from being zero."""
_DOUBLING_GAIN = 4.0


def modulated_conv2d(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o i k k"],
    styles: Float[Tensor, "b i"],
    *,
    is_demodulated: bool = True,
    is_doubling: bool = False,
) -> Float[Tensor, "b o _ _"]:
    """Convolve with weights scaled along i by each image's styles.

    Scaling the input and the output instead of the weights is the same thing and needs one
    convolution for the batch, not one per image.

    Args:
        x: Images.
        weight: Kernels; applied as correlation, when doubling as transposed convolution.
        styles: Factors of the input channels.
        is_demodulated: Divide by the norm of each image's scaled kernel.
        is_doubling: Put a zero behind every pixel before, and smooth after.

    Reference: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, sec. 2.2.
    """
    x = x * styles[:, :, None, None]
    if is_doubling:
        x = conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        x = smooth2d(x, padding=(1, 1)) * _DOUBLING_GAIN
    else:
        x = conv2d(x, weight, padding=weight.shape[-1] // 2)
    if is_demodulated:
        energy = styles.square() @ weight.square().sum(dim=(2, 3)).T
        x = x * (energy + EPSILON).rsqrt()[:, :, None, None]
    return x

"""Resampling of images by the binomial filter (1, 3, 3, 1) along both axes.

Beyond their borders images are zero. A step of two is computed phase by phase, so no zeros are
ever inserted.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from vultus.kernels.styled_layer.ref import double2d

__all__ = ["downsample2d", "resize_antialiased", "smooth2d", "upsample2d"]

_TAPS = (1.0, 3.0, 3.0, 1.0)
_ROWS, _COLUMNS = -2, -1


def upsample2d(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Double the size; constants stay constants, but for the border."""
    return double2d(x)


def downsample2d(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Halve the size, rounding down."""
    return smooth2d(x, padding=(1, 1), stride=2)


def smooth2d(
    x: Float[Tensor, "b c h w"], *, padding: tuple[int, int] = (2, 1), stride: int = 1
) -> Float[Tensor, "b c h2 w2"]:
    """Filter at every ``stride``-th pixel; constants stay constants, but for the border.

    Args:
        x: Images.
        padding: Zeros before and after, along both axes; three in all keep the size.
        stride: Step along both axes.
    """
    x = pad(x, (*padding, *padding))
    return _filter(_filter(x, _ROWS, stride), _COLUMNS, stride)


def resize_antialiased(x: Float[Tensor, "b c _h _w"], size: int) -> Float[Tensor, "b c size size"]:
    """Resize bilinearly to a square; when shrinking, the filter widens with the factor."""
    if x.shape[-2:] == (size, size):
        return x
    return interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)


def _filter(x: Tensor, dim: int, stride: int) -> Tensor:
    count = (x.shape[dim] - len(_TAPS)) // stride + 1
    span = (count - 1) * stride + 1
    filtered = x.new_zeros(())
    for offset, tap in enumerate(_TAPS):
        taken = x.narrow(dim, offset, span)
        taken = taken[..., ::stride, :] if dim == _ROWS else taken[..., ::stride]
        filtered = filtered + taken * (tap / sum(_TAPS))
    return filtered

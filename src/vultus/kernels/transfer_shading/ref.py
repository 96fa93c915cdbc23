"""The definition, in PyTorch: any device and dtype, differentiable."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SH_C0", "multiply_transfers", "shade_transfers"]

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic."""
_COLORS = 3


def shade_transfers(
    albedo: Float[Tensor, "b n 3"],
    transfer: Float[Tensor, "b n t"],
    light: Float[Tensor, "#b m k c"],
) -> Float[Tensor, "b n 3*m"]:
    """See ``vultus.kernels.transfer_shading.shade_transfers``."""
    color = (albedo[:, None] * multiply_transfers(transfer, light)).clamp(min=0.0)
    return color.transpose(1, 2).flatten(2)


def multiply_transfers(
    transfer: Float[Tensor, "b n t"], light: Float[Tensor, "#b m k c"]
) -> Float[Tensor, "b m n 3"]:
    """Brightness of white primitives in every light, of any sign: C0 times the scalar product."""
    if transfer.shape[2] == light.shape[2]:
        summed = transfer[:, None] @ light
    else:
        vectors = transfer.unflatten(2, (_COLORS, -1))
        summed = torch.einsum("bnck,bmkc->bmnc", vectors, light.expand(-1, -1, -1, _COLORS))
    return (SH_C0 * summed).expand(-1, -1, -1, _COLORS)

"""A transposed convolution and the smoothing behind it, as one convolution of the small image.

A doubling layer puts a zero behind every pixel, convolves with 3 x 3 weights and smooths by
(1, 3, 3, 1). Seen from one pixel of the result, only three by three pixels of the small image take
part, with weights that depend on whether its row and column are even: four kernels of 3 x 3.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["doubling_kernels"]

_TAPS = (1.0, 3.0, 3.0, 1.0)
_SIZE = 3


def doubling_kernels(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o4 i 3 3"]:
    """Kernels whose results are the pixels of two by two: all of the upper row's left one first.

    Args:
        weight: Of the layer, as ``modulation.modulated_conv2d`` takes it.
    """
    first, second = (_combinations(parity, weight.device, weight.dtype) for parity in (0, 1))
    phases = torch.stack([first, second])
    kernels = torch.einsum("ptk,qul,oikl->pqoitu", phases, phases, weight)
    return kernels.flatten(0, 2)


@cache
def _combinations(parity: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "3 3"]:
    """What each pixel around the one above takes of each weight, along one axis.

    With y[p] = sum over n and j of x[n] taps[j] w[p + j - 1 - 2 n], gain two, and n = m - 1 + t
    for p = 2 m + parity, the tap that joins x[m - 1 + t] and w[k] is number k - 1 - parity + 2 t.
    """
    rows = torch.zeros(_SIZE, _SIZE, dtype=dtype)
    for t in range(_SIZE):
        for k in range(_SIZE):
            tap = k - 1 - parity + 2 * t
            if 0 <= tap < len(_TAPS):
                rows[t, k] = 2.0 * _TAPS[tap] / sum(_TAPS)
    return rows.to(device)

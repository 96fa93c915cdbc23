"""Functions that lift coordinates to features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["frequency_encoding", "num_encoded"]


def num_encoded(channels: int, num_frequencies: int) -> int:
    """Number of features of ``frequency_encoding``."""
    return channels * (1 + 2 * num_frequencies)


def frequency_encoding(x: Float[Tensor, "*b c"], num_frequencies: int) -> Float[Tensor, "*b d"]:
    """Join x, sin(x), cos(x), sin(2 x), cos(2 x), sin(4 x), ... in blocks of c channels.

    There is no factor of pi: the lowest wave has a period of 2 pi.

    Reference: Mildenhall et al., NeRF, 2020, eq. 4, with the identity in front.
    """
    powers = torch.arange(num_frequencies, device=x.device, dtype=x.dtype).exp2()
    scaled = powers[:, None] * x[..., None, :]
    waves = torch.cat([scaled.sin(), scaled.cos()], dim=-1)
    return torch.cat([x, waves.flatten(-2)], dim=-1)

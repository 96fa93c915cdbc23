"""Visibility bits packed into 32-bit words."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, Int32, UInt8
from torch import Tensor

__all__ = ["pack_visibility", "unpack_visibility"]

_WORD_BITS = 32


def pack_visibility(visible: UInt8[Tensor, "v k"]) -> Int32[Tensor, "v words"]:
    """Pack flags into words: light k is bit k mod 32 (the lowest is 0) of word k div 32.

    Missing lights of the last word are 0. Non-zero flags count as 1. Waits for a GPU.
    """
    num_lights = visible.shape[1]
    num_words = -(-num_lights // _WORD_BITS)
    padded = torch.nn.functional.pad(visible, (0, num_words * _WORD_BITS - num_lights))
    # Shifts and sums in PyTorch take 20 times as long.
    packed = np.packbits(padded.contiguous().cpu().numpy(), axis=1, bitorder="little")
    return torch.from_numpy(packed.view("<i4").astype(np.int32)).to(visible.device)


def unpack_visibility(words: Int[Tensor, "v words"], num_lights: int) -> UInt8[Tensor, "v k"]:
    """Undo ``pack_visibility``.

    Raises:
        ValueError: If the words do not hold ``num_lights`` bits.
    """
    num_words = words.shape[1]
    if not (num_words - 1) * _WORD_BITS < num_lights <= num_words * _WORD_BITS:
        raise ValueError(
            f"num_lights must fill {num_words} words of {_WORD_BITS} bits, got {num_lights}"
        )
    shifts = torch.arange(_WORD_BITS, device=words.device)
    flags = (words.to(torch.int64)[:, :, None] >> shifts) & 1
    return flags.flatten(1)[:, :num_lights].to(torch.uint8)

"""Triton kernel that packs visibility into words."""

# ruff: noqa: D417 -- sizes explain themselves.
from __future__ import annotations

from vultus.kernels.env_shade._gpu_texels import WORD_BITS
from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["pack_bits"]

_WORD_BITS = tl.constexpr(WORD_BITS)


@jit
def pack_bits(visible, words, num_points, num_lights, num_words, LANES: constexpr):
    """Pack flags into words, of LANES points at a time.

    Args:
        visible: [v, t] of bytes.
        words: Written, [v, w].
    """
    item = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = item < num_points * num_words
    point, word = item // num_words, item % num_words
    light = word[:, None] * _WORD_BITS + tl.arange(0, _WORD_BITS)[None, :]
    flags = tl.load(
        visible + point[:, None].to(tl.int64) * num_lights + light,
        mask=mask[:, None] & (light < num_lights),
        other=0,
    )
    bits = (flags != 0).to(tl.int32) << tl.arange(0, _WORD_BITS)[None, :]
    tl.store(words + item, tl.sum(bits, 1), mask=mask)

"""A small kernel for tests of launches."""

from __future__ import annotations

from vultus.kernels.triton_runtime import constexpr, jit, tl

__all__ = ["SCALE_CONSTANTS", "scale"]

SCALE_CONSTANTS = {"SIZE": 32, "OFFSET": 1}


@jit
def scale(source, target, count, factor, SIZE: constexpr, OFFSET: constexpr):
    """Write ``source * factor + OFFSET``, ``count`` values of up to ``SIZE``."""
    k = tl.arange(0, SIZE)
    mask = k < count
    tl.store(target + k, tl.load(source + k, mask=mask) * factor + OFFSET, mask=mask)

"""The window and the constants that all backends of SSIM share."""

from __future__ import annotations

import math

__all__ = ["C1", "C2", "RADIUS", "WEIGHTS"]

RADIUS = 5
_SIGMA = 1.5
C1 = 0.01**2
"""(k1 L)² with k1 = 0.01 and the range L = 1 of the images (Wang et al. 2004)."""
C2 = 0.03**2
"""(k2 L)² with k2 = 0.03."""


def _gaussian() -> tuple[float, ...]:
    raw = [math.exp(-0.5 * (i / _SIGMA) ** 2) for i in range(-RADIUS, RADIUS + 1)]
    return tuple(value / sum(raw) for value in raw)


WEIGHTS = _gaussian()
"""One axis of the separable window; sums to 1."""

"""Scalar blends and falloffs that the sculpt, the modes and the textures are written with."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["bell", "lerp", "smooth_max", "smooth_min", "smoothstep"]


def smooth_min(a: np.ndarray, b: np.ndarray, blend: float | int) -> np.ndarray:
    """Minimum of two distances, rounded where they differ by less than ``blend``.

    Reference: Quilez, "Smooth minimum" (polynomial, quadratic).
    """
    overlap = np.maximum(blend - np.abs(a - b), 0.0) / blend
    return np.minimum(a, b) - overlap * overlap * blend * 0.25


def smooth_max(a: np.ndarray, b: np.ndarray, blend: float | int) -> np.ndarray:
    """Maximum of two distances, rounded where they differ by less than ``blend``."""
    return -smooth_min(-a, -b, blend)


def smoothstep(start: Any, end: Any, x: Any) -> Any:
    """Rise from 0 at ``start`` to 1 at ``end`` with flat ends; falls if ``start > end``."""
    t = np.clip((x - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def lerp(a: Any, b: Any, t: Any) -> Any:
    """Interpolate from a (t = 0) to b (t = 1)."""
    return a + (b - a) * t


def bell(x: Any, center: Any, width: Any, power: int = 2) -> Any:
    """Gaussian bump ``exp(-|x - center|^p / 2 width^p)``, flatter at the top for larger powers."""
    return np.exp(-0.5 * (np.abs(x - center) / width) ** power)

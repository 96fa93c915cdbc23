"""What the stages of the CPU rasterizer hand to each other: the view, and the columns of records.

One row of 8 float32 per Gaussian, because the tile loop walks a shuffled list and should touch one
cache line per entry. With (x, y) the offset in pixels from the projected centre,

    log2 alpha = LOG2_OPACITY + POWER_XX x^2 + POWER_XY x y + POWER_YY y^2

and SLOPE y is where this is largest on the row at y.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from vultus.core.simd import LANES

__all__ = ["Inputs", "View", "pair_grad_size"]

# Columns of a Gaussian's record.
CENTER_X, CENTER_Y, POWER_XX, POWER_XY, POWER_YY, LOG2_OPACITY, SLOPE, DEPTH = range(8)
RECORD_SIZE = 8

# Columns of the gradient that the tile loop leaves per (tile, Gaussian) pair: moments {1, x, y,
# x^2, xy, y^2} of the gradient of log alpha, the gradient of depth as a median, channels. The first
# nine channels fill the first vector.
GRAD_POWER, GRAD_DEPTH, GRAD_CHANNELS = 0, 6, 7


def pair_grad_size(channels: int) -> int:
    """Columns of the pairs' gradients: channels are padded to triples, rows to whole vectors."""
    size = GRAD_CHANNELS + 3 * -(-channels // 3)
    return LANES * -(-size // LANES)


Vector = tuple[float, float, float]


class View(NamedTuple):
    """One pinhole camera and the rules of the call; pixel i has its centre at i + 0.5."""

    rotation: tuple[Vector, Vector, Vector]
    translation: Vector
    center: Vector
    fx: float
    fy: float
    cx: float
    cy: float
    limit_x: float
    """Rays are clamped to this multiple of the depth in the linearisation."""
    limit_y: float
    width: int
    height: int
    near: float
    dilation: float
    is_antialiased: bool
    normalizes_quats: bool
    has_published_cull: bool
    has_published_gradients: bool


class Inputs(NamedTuple):
    """One frame's Gaussians, or their gradients; arrays of length 0 are not given or not wanted."""

    means: NDArray[Any]
    quats: NDArray[Any]
    scales: NDArray[Any]
    opacities: NDArray[Any]
    """n 1."""
    covariances: NDArray[Any]
    """n 6."""
    jacobians: NDArray[Any]
    """n 9."""

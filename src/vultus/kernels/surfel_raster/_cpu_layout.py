"""What the stages of the CPU rasterizer hand to each other: the view, and the columns of records.

One row of 24 float32 per surfel, because the tile loop walks a shuffled list and should touch one
or two cache lines per entry. With (x, y) the offset in pixels from the projected centre,

    h_u = U_X x + U_Y y,  h_v = V_X x + V_Y y,  h_z = INVERSE_DEPTH + Z_X x + Z_Y y

are homogeneous coordinates of the point where the pixel's ray meets the surfel's plane: depth is
1 / h_z and the tangent coordinates are (h_u, h_v) / h_z.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FAR", "MIN_ALPHA", "View", "pair_grad_size"]

MIN_ALPHA = 1.0 / 255.0
"""Fainter contributions are skipped, as in 3DGS and 2DGS."""
FAR = 100.0
"""Far plane of the depth mapping in the distortion term (2DGS)."""

# Columns of a surfel's record.
CENTER_X, CENTER_Y = 0, 1
U_X, U_Y, V_X, V_Y, INVERSE_DEPTH, DEPTH, Z_X, Z_Y = 2, 3, 4, 5, 6, 7, 8, 9
LOG2_OPACITY = 10
# The disc outside which the screen-space low-pass is below MIN_ALPHA.
LOW_PASS_X, LOW_PASS_Y, LOW_PASS_RADIUS2 = 11, 12, 13
# The ellipse outside which the surfel is below MIN_ALPHA: XX x^2 + 2 XY xy + YY y^2 + 2 X x + 2 Y y
# <= 1, and -1 / XX. All zero: no bound.
ELLIPSE_XX, ELLIPSE_XY, ELLIPSE_YY, ELLIPSE_X, ELLIPSE_Y, ELLIPSE_SOLVE = 14, 15, 16, 17, 18, 19
NORMAL_SIGN = 20
RECORD_SIZE = 24

# Columns of the gradient that the tile loop leaves per (tile, surfel) pair: moments {1, x, y} of
# the gradients of h_u, h_v and h_z; then low-pass centre, log opacity, and LOW_DEPTH: the low-pass
# pixels' gradient of the centre's inverse depth (surfhead) or their sum of h_z * grad h_z (2dgs).
GRAD_U, GRAD_V, GRAD_Z, GRAD_LOW_PASS, GRAD_LOG_OPACITY, GRAD_LOW_DEPTH = 0, 3, 6, 9, 11, 12
GRAD_CHANNELS = 13


def pair_grad_size(channels: int) -> int:
    """Columns of the pairs' gradients: channels are padded to triples, which share a loop."""
    return GRAD_CHANNELS + 3 * max(1, -(-channels // 3))


Vector = tuple[float, float, float]


class View(NamedTuple):
    """One pinhole camera and the rules of the convention."""

    rotation: tuple[Vector, Vector, Vector]
    translation: Vector
    center: Vector
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    near: float
    support: float
    """Squared radius of the ellipse whose bounding box gives centre and extent: 9 or 1."""
    is_surfhead: bool
    has_published_cull: bool

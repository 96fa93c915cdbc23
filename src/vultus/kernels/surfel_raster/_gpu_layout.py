"""What the GPU kernels hand to each other: columns of records and gradients, tiles, counters.

A record is 32 float32 (one cache line), read in quadruples so that a lane needs few instructions to
fetch its surfel. With (x, y) the offset in pixels from the projected centre,

    h_u = U_X x + U_Y y,  h_v = V_X x + V_Y y,  h_z = INVERSE_DEPTH + Z_X x + Z_Y y

are homogeneous coordinates of the point where the pixel's ray meets the surfel's plane: depth is
1 / h_z and the tangent coordinates are (h_u, h_v) / h_z.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import tl

__all__ = ["BIN", "RECORD", "SUBTILE_HEIGHT", "SUBTILE_WIDTH"]

BIN = tl.constexpr(8)
"""Edge in pixels of the bins that surfels are listed in."""
SUBTILE_WIDTH = tl.constexpr(8)
SUBTILE_HEIGHT = tl.constexpr(4)
"""One warp rasterizes one subtile; a bin has two, one above the other."""
PIXELS = tl.constexpr(32)
CHUNK = tl.constexpr(32)
"""Surfels per trip of the raster loops: one per lane when they are fetched."""

RECORD = tl.constexpr(32)
# Quadruples of a record, by their first column.
RECORD_UV = tl.constexpr(0)  # CENTER_X, CENTER_Y, U_X, U_Y
RECORD_VZ = tl.constexpr(4)  # V_X, V_Y, Z_X, Z_Y
RECORD_ALPHA = tl.constexpr(8)  # INVERSE_DEPTH, LOG2_OPACITY, LOW_PASS_X, LOW_PASS_Y
RECORD_COLOR = tl.constexpr(12)  # DEPTH, red, green, blue
RECORD_NORMAL = tl.constexpr(16)  # normal in view axes, its sign
RECORD_ELLIPSE = tl.constexpr(20)  # centre x, y; coefficients xx, xy
RECORD_EXTENT = tl.constexpr(24)  # yy; LOW_PASS_RADIUS2; rectangle of bins, as two packed integers

GRADIENT = tl.constexpr(20)
# Quadruples of a surfel's gradient row: moments {1, x, y} of the gradients of h_u, h_v, h_z, the
# gradient of the low-pass centre, of log opacity, and LOW_DEPTH: the low-pass pixels' gradient of
# the centre's inverse depth (surfhead) or their sum of h_z * grad h_z (2dgs).
GRADIENT_U = tl.constexpr(0)  # u, u x, u y, LOW_DEPTH
GRADIENT_V = tl.constexpr(4)  # v, v x, v y, log opacity
GRADIENT_Z = tl.constexpr(8)  # z, z x, z y, low-pass x
GRADIENT_COLOR = tl.constexpr(12)  # low-pass y, red, green, blue
GRADIENT_NORMAL = tl.constexpr(16)  # normal, nothing

# Counters behind the bins' counts.
COUNT_LARGE = tl.constexpr(0)
COUNT_LONGEST = tl.constexpr(1)
COUNT_PAIRS = tl.constexpr(2)
COUNT_PROBLEMS = tl.constexpr(3)
NUM_COUNTERS = tl.constexpr(4)

MIN_ALPHA = tl.constexpr(1.0 / 255.0)
MIN_LOG2_ALPHA = tl.constexpr(-7.994353436858858)
MAX_ALPHA = tl.constexpr(0.99)
MIN_TRANSMITTANCE = tl.constexpr(1e-4)
FAR = tl.constexpr(100.0)

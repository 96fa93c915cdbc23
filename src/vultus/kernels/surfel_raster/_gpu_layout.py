"""What the GPU kernels hand to each other: columns of records and gradients.

A record is 32 float32 (one cache line), read in quadruples so that a lane needs few instructions to
fetch its surfel. With (x, y) the offset in pixels from the projected centre,

    h_u = U_X x + U_Y y,  h_v = V_X x + V_Y y,  h_z = INVERSE_DEPTH + Z_X x + Z_Y y

are homogeneous coordinates of the point where the pixel's ray meets the surfel's plane: depth is
1 / h_z and the tangent coordinates are (h_u, h_v) / h_z.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import tl

__all__ = ["FAR", "GRADIENT", "MAX_ALPHA", "RECORD"]

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

MAX_ALPHA = tl.constexpr(0.99)
FAR = tl.constexpr(100.0)

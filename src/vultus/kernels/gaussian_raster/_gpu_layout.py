"""What the GPU kernels hand to each other: columns of records and gradients.

With (x, y) the offset in pixels from the projected centre, the logarithm of a Gaussian's opacity is

    log2 alpha = LOG2_OPACITY + XX x^2 + XY x y + YY y^2

Records and gradients are read in quadruples, so that a lane needs few instructions to fetch them.
"""

from __future__ import annotations

from vultus.kernels.triton_runtime import tl

__all__ = ["GRADIENT", "RECORD"]

RECORD = tl.constexpr(12)
# Quadruples of a record, by their first column.
RECORD_POWER = tl.constexpr(0)  # centre x, y; coefficients XX, XY
RECORD_DEPTH = tl.constexpr(4)  # YY, LOG2_OPACITY, depth, first bin (x and y, packed)
RECORD_COLOR = tl.constexpr(8)  # red, green, blue, number of bins (across and down, packed)

GRADIENT = tl.constexpr(12)
# Quadruples of a Gaussian's gradient row. The gradient of log alpha at a pixel has moments in the
# offset (x, y); the one of order zero is the gradient of log opacity.
GRADIENT_POWER = tl.constexpr(0)  # moments 1, x, y, xx
GRADIENT_SHAPE = tl.constexpr(4)  # moments xy, yy; red, green
GRADIENT_REST = tl.constexpr(8)  # blue, depth, nothing

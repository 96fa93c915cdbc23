"""Teeth of heads that have none: Gaussians on two curved strips in the mouth (spec section 3.3).

The strips stand in the frame of FLAME, metres. Gaussians on them have no blendshapes; the upper
ones follow the skull, the lower ones the jaw, and a cylinder confines both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "LOWER_TEETH_WEIGHTS",
    "PUBLISHED_OFFSET",
    "MouthCylinder",
    "Offset",
    "confine",
    "cylinder_distance",
    "mouth_cylinder",
    "teeth_strips",
]

Offset = tuple[float, float, float]

PUBLISHED_OFFSET: Offset = (3.3226e-4, 2.29566e-3, -1.21933e-3)
"""Of the strips where a capture brings none, metres."""

LOWER_TEETH_WEIGHTS = (0.0130787707, 0.0426467828, 0.944269622)
"""Shares of root, neck and jaw in the motion of the lower teeth."""

_UPPER_COLUMNS = (
    (-0.024084, 0.031263),
    (-0.014918, 0.046893),
    (0.0, 0.051635),
    (0.012966, 0.046532),
    (0.023879, 0.031891),
)
_UPPER_HEIGHTS = ((-0.039274, -0.050259),) * 5
_LOWER_COLUMNS = (
    (-0.022665, 0.032489),
    (-0.014302, 0.045374),
    (-0.000448, 0.051603),
    (0.013109, 0.046821),
    (0.022452, 0.031895),
)
_LOWER_HEIGHTS = (
    (-0.043274, -0.056847),
    (-0.043048, -0.056621),
    (-0.043000, -0.056573),
    (-0.043048, -0.056621),
    (-0.043048, -0.056621),
)
"""Columns from the subject's right to the left, (x, z), and their (top, bottom) y."""

_CYLINDER_CENTER = (0.0, -0.052537, 0.024792)
_CYLINDER_RADIUS = 0.027279
_CYLINDER_HALF_HEIGHT = 0.021632
_MIN_SQUARED_RADIUS = 1e-8
"""Keeps the gradient of the distance to the axis finite on the axis; metres squared, published."""


@dataclass(frozen=True)
class MouthCylinder:
    """Room of the teeth; its axis is y."""

    center: Float[Tensor, " 3"]
    radius: float
    half_height: float


def teeth_strips(
    offset: Offset,
) -> tuple[Float[Tensor, "10 3"], Float[Tensor, "10 3"], Int[Tensor, "8 3"]]:
    """Vertices of the upper and the lower strip, and the faces of either.

    Args:
        offset: Moves both, metres.
    """
    faces = []
    for column in range(4):
        top, bottom, next_top, next_bottom = range(2 * column, 2 * column + 4)
        faces += [[top, bottom, next_top], [next_top, bottom, next_bottom]]
    strips = (
        _strip(_UPPER_COLUMNS, _UPPER_HEIGHTS, offset),
        _strip(_LOWER_COLUMNS, _LOWER_HEIGHTS, offset),
    )
    return (*strips, torch.tensor(faces))


def mouth_cylinder(offset: Offset, device: torch.device | str = "cpu") -> MouthCylinder:
    """The room that belongs to strips of this offset."""
    center = (torch.tensor(_CYLINDER_CENTER) + torch.tensor(offset)).to(device)
    return MouthCylinder(center, _CYLINDER_RADIUS, _CYLINDER_HALF_HEIGHT)


def cylinder_distance(points: Float[Tensor, "n 3"], cylinder: MouthCylinder) -> Float[Tensor, " n"]:
    """Squared distance to the cylinder, 0 inside."""
    x, y, z = (points - cylinder.center).unbind(dim=-1)
    outside = ((x * x + z * z + _MIN_SQUARED_RADIUS).sqrt() - cylinder.radius).clamp(min=0.0)
    beyond = (y.abs() - cylinder.half_height).clamp(min=0.0)
    return outside.square() + beyond.square()


def confine(points: Float[Tensor, "n 3"], cylinder: MouthCylinder) -> Float[Tensor, "n 3"]:
    """Move points into the cylinder: towards its axis, then along it."""
    x, y, z = (points - cylinder.center).unbind(dim=-1)
    tiny = torch.finfo(points.dtype).tiny
    inwards = (cylinder.radius / torch.hypot(x, z).clamp(min=tiny)).clamp(max=1.0)
    y = y.clamp(-cylinder.half_height, cylinder.half_height)
    return torch.stack([inwards * x, y, inwards * z], dim=-1) + cylinder.center


def _strip(
    columns: tuple[tuple[float, float], ...],
    heights: tuple[tuple[float, float], ...],
    offset: Offset,
) -> Float[Tensor, "10 3"]:
    corners = [(x, y, z) for (x, z), ends in zip(columns, heights, strict=True) for y in ends]
    return torch.tensor(corners) + torch.tensor(offset)

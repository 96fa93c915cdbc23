"""Square crops of photographs as four corners: from landmarks, or from the box of a head.

Pixels: x to the right, y down, the first pixel's centre at 0.5. Reference: FFHQ's alignment
(Karras et al. 2019), EG3D's and SphereHead's preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["CropQuad", "box_quad", "landmark_quad", "square_box"]

# Where eyes and mouth corners are among the points of a layout.
_EYES_68 = (range(36, 42), range(42, 48))
_EYES_106, _MOUTH_106 = (104, 105), (84, 90)
_MOUTH_68 = (48, 54)
_EYE_REACH, _MOUTH_REACH, _CENTER_DROP = 2.0, 1.8, 0.1
# SphereHead's toolbox: mean of the quads of frontal views, relative to the head's box.
_BOX_SCALE, _BOX_SHIFT = 0.74177, (-0.00743, 0.00886)
# Detected boxes are enlarged by these shares before they are made square.
_BOX_MARGIN, _BOX_RESCALE = (0.2, 0.1), 1.2


@dataclass(frozen=True)
class CropQuad:
    """A turned square: its middle and the half sides to the right and down."""

    center: Float[Tensor, 2]
    right: Float[Tensor, 2]

    @property
    def down(self) -> Float[Tensor, 2]:
        """Half a side, a quarter turn from ``right``."""
        return self.right.flip(0) * self.right.new_tensor([-1.0, 1.0])

    @property
    def side(self) -> float:
        """In pixels of the photograph."""
        return 2.0 * float(self.right.norm())

    @property
    def corners(self) -> Float[Tensor, "4 2"]:
        """Top left, bottom left, bottom right, top right."""
        right, down = self.right, self.down
        return self.center + torch.stack([-right - down, -right + down, right + down, right - down])

    def moved(self, x: float, y: float, scale: float) -> CropQuad:
        """Move by shares of the half side, to the right and up, then scale about the middle."""
        return CropQuad(self.center + x * self.right - y * self.down, scale * self.right)

    def expanded(self, sides: float = 0.05, top: float = 0.1) -> CropQuad:
        """Add shares of the side at the left, at the right and at the top; it stays a square.

        Raises:
            ValueError: If the shares do not make a square.
        """
        if abs(2 * sides - top) > 1e-9:
            raise ValueError(f"top must be twice sides, got {top} and {sides}")
        return CropQuad(self.center - top * self.down, (1 + 2 * sides) * self.right)

    def turned(self, angle: float, about: Float[Tensor, 2]) -> CropQuad:
        """Turn clockwise in the picture, by radians."""
        a = torch.tensor(angle, dtype=self.right.dtype)
        rotation = torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])])
        center = about + rotation @ (self.center - about)
        return replace(self, center=center, right=rotation @ self.right)

    def to_photograph(self, points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Pixels of points given in the crop, whose corners are -1 and 1 (y down)."""
        return self.center + points[:, :1] * self.right + points[:, 1:] * self.down

    def from_photograph(self, pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Undo ``to_photograph``."""
        axes = torch.stack([self.right, self.down]) / self.right.square().sum()
        return (pixels - self.center) @ axes.T


def landmark_quad(landmarks: Float[Tensor, "n 2"]) -> CropQuad:
    """The crop around a face, upright with the eyes.

    Args:
        landmarks: 68 points (iBUG) or 106 points, in pixels.

    Raises:
        ValueError: If there are another number of points, or eyes and mouth coincide.
    """
    if len(landmarks) == 68:
        eyes = [landmarks[list(points)].mean(dim=0) for points in _EYES_68]
        mouth = landmarks[list(_MOUTH_68)].mean(dim=0)
    elif len(landmarks) == 106:
        eyes = [landmarks[index] for index in _EYES_106]
        mouth = landmarks[list(_MOUTH_106)].mean(dim=0)
    else:
        raise ValueError(f"landmarks must be 68 or 106 points, got {len(landmarks)}")
    across, middle = eyes[1] - eyes[0], 0.5 * (eyes[0] + eyes[1])
    to_mouth = mouth - middle
    # Across the eyes, and a quarter turn from the way to the mouth.
    right = across - to_mouth.flip(0) * to_mouth.new_tensor([-1.0, 1.0])
    if not float(right.norm()) > 0:
        raise ValueError("landmarks must tell the eyes from the mouth")
    reach = torch.maximum(_EYE_REACH * across.norm(), _MOUTH_REACH * to_mouth.norm())
    return CropQuad(middle + _CENTER_DROP * to_mouth, right / right.norm() * reach)


def square_box(box: Float[Tensor, 4], width: int, height: int) -> Float[Tensor, 4]:
    """Enlarge a detector's box of a head and make it square; it may leave the photograph.

    Args:
        box: Left, top, right, bottom.
        width: Of the photograph.
        height: Of the photograph.
    """
    sizes = box[2:] - box[:2]
    margin = sizes * box.new_tensor(_BOX_MARGIN)
    limit = box.new_tensor([width, height])
    low = (box[:2] - margin).clamp(min=0.0)
    high = torch.minimum(box[2:] + margin, limit)
    half = 0.5 * _BOX_RESCALE * (high - low).max()
    middle = 0.5 * (low + high)
    return torch.cat([middle - half, middle + half])


def box_quad(box: Float[Tensor, 4]) -> CropQuad:
    """The crop that faces would have in the square box of a head, for views without a face."""
    size = box[2] - box[0]
    middle = 0.5 * (box[:2] + box[2:]) + size * box.new_tensor(_BOX_SHIFT)
    return CropQuad(middle, torch.stack([0.5 * _BOX_SCALE * size, torch.zeros_like(size)]))

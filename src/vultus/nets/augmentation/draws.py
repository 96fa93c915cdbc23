"""Draw the transformations of adaptive discriminator augmentation.

Each transformation happens with its own chance, which is its multiplier times a common probability
p. Coordinates are x right and y down from the middle of the image, in units of its side, so that
one draw fits images of several sizes.

Reference: Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, app. B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["TransformConfig", "draw_colors", "draw_geometry"]

_LARGEST_WHOLE_SHIFT = 0.125
_SHIFT_DEVIATION = 0.125
_SCALE_DEVIATION = 0.2
_BRIGHTNESS_DEVIATION = 0.2
_CONTRAST_DEVIATION = 0.5
_SATURATION_DEVIATION = 1.0


@dataclass(frozen=True)
class TransformConfig:
    """Multipliers of the probability; 0 leaves a transformation out."""

    flip: float = 1.0
    """Left to right, of every second image."""
    quarter_turn: float = 1.0
    """Rotation by 0, 90, 180 or 270 degrees."""
    whole_shift: float = 1.0
    """Shift by whole pixels, up to an eighth of the side."""
    scale: float = 1.0
    """2^N(0, 0.2)."""
    rotation: float = 1.0
    """Any angle; drawn before and after ``stretch``."""
    stretch: float = 1.0
    """2^N(0, 0.2) along one axis, its inverse along the other."""
    shift: float = 1.0
    """N(0, 1/8) of the side along both axes."""
    brightness: float = 1.0
    """Add N(0, 0.2)."""
    contrast: float = 1.0
    """2^N(0, 0.5)."""
    luma_flip: float = 1.0
    """Invert the brightness of every second image, keeping hues."""
    hue: float = 1.0
    """Rotate colours about grey by any angle."""
    saturation: float = 1.0
    """2^N(0, 1)."""

    def __post_init__(self) -> None:
        """Reject multipliers below 0."""
        for name, value in vars(self).items():
            if value < 0.0:
                raise ValueError(f"{name} must not be negative, got {value}")


class _Dice:
    """Random numbers for a batch."""

    def __init__(self, batch: int, probability: Tensor, random: torch.Generator) -> None:
        self.batch, self.probability, self._random = batch, probability, random

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " b"]:
        device = self.probability.device
        return low + (high - low) * torch.rand(self.batch, generator=self._random, device=device)

    def normal(self, deviation: float) -> Float[Tensor, " b"]:
        device = self.probability.device
        return deviation * torch.randn(self.batch, generator=self._random, device=device)

    def happens(self, multiplier: float) -> Bool[Tensor, " b"]:
        return self.uniform() < multiplier * self.probability

    def choose(self, multiplier: float, value: Tensor, neutral: float) -> Float[Tensor, " b"]:
        return torch.where(self.happens(multiplier), value, neutral)


def draw_geometry(
    batch: int,
    size: int,
    probability: Float[Tensor, ""],
    config: TransformConfig,
    random: torch.Generator,
) -> Float[Tensor, "b 3 3"]:
    """Draw maps from positions in the transformed image to positions in the given one.

    Args:
        batch: Number of images.
        size: Side of the largest image in pixels; whole shifts are multiples of these.
        probability: Common probability p.
        config: Multipliers.
        random: Must live on the probability's device.
    """
    dice = _Dice(batch, probability, random)
    mirrored = 1.0 - 2.0 * (dice.uniform() < 0.5).float()
    matrix = _scaling(dice.choose(config.flip, mirrored, 1.0), torch.ones_like(mirrored))
    quarter = 0.5 * math.pi * dice.uniform(0.0, 4.0).floor()
    matrix = matrix @ _rotation(dice.choose(config.quarter_turn, quarter, 0.0))
    reach = _LARGEST_WHOLE_SHIFT
    whole = [(dice.uniform(-reach, reach) * size).round() / size for _ in range(2)]
    moves = dice.happens(config.whole_shift)
    matrix = matrix @ _translation(*(torch.where(moves, w, 0.0) for w in whole))
    factor = dice.choose(config.scale, dice.normal(_SCALE_DEVIATION), 0.0).exp2()
    matrix = matrix @ _scaling(1.0 / factor, 1.0 / factor)
    # Two chances of a turn, which together are as likely as one with p.
    of_turns = 1.0 - (1.0 - (config.rotation * probability).clamp(0.0, 1.0)).sqrt()
    turns = _Dice(batch, of_turns, random)
    matrix = matrix @ _rotation(turns.choose(1.0, turns.uniform(-math.pi, math.pi), 0.0))
    factor = dice.choose(config.stretch, dice.normal(_SCALE_DEVIATION), 0.0).exp2()
    matrix = matrix @ _scaling(1.0 / factor, factor)
    matrix = matrix @ _rotation(turns.choose(1.0, turns.uniform(-math.pi, math.pi), 0.0))
    moves = dice.happens(config.shift)
    shifts = [torch.where(moves, dice.normal(_SHIFT_DEVIATION), 0.0) for _ in range(2)]
    return matrix @ _translation(*shifts)


def draw_colors(
    batch: int,
    probability: Float[Tensor, ""],
    config: TransformConfig,
    random: torch.Generator,
) -> Float[Tensor, "b 3 4"]:
    """Draw affine maps of colours whose middle grey is 0, such as those in [-1, 1]."""
    dice = _Dice(batch, probability, random)
    device = probability.device
    eye = torch.eye(3, device=device)
    grey = torch.full((3, 3), 1.0 / 3.0, device=device)
    linear = eye.expand(batch, 3, 3)
    offset = dice.choose(config.brightness, dice.normal(_BRIGHTNESS_DEVIATION), 0.0)
    offset = offset[:, None, None].expand(batch, 3, 1)
    contrast = dice.choose(config.contrast, dice.normal(_CONTRAST_DEVIATION), 0.0).exp2()
    inverted = dice.choose(config.luma_flip, (dice.uniform() < 0.5).float(), 0.0)
    angle = dice.choose(config.hue, dice.uniform(-math.pi, math.pi), 0.0)
    saturation = dice.choose(config.saturation, dice.normal(_SATURATION_DEVIATION), 0.0).exp2()
    for step in (
        contrast[:, None, None] * eye,
        eye - 2.0 * inverted[:, None, None] * grey,
        _hue_rotation(angle),
        grey + saturation[:, None, None] * (eye - grey),
    ):
        linear, offset = step @ linear, step @ offset
    return torch.cat([linear, offset], dim=2)


def _hue_rotation(angle: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    """Rotation about the grey axis (Rodrigues)."""
    eye = torch.eye(3, device=angle.device)
    # The cross product with (1, 1, 1), made where it is used: a copy would wait for the GPU.
    cross = (eye.roll(2, 1) - eye.roll(1, 1)) * (1.0 / math.sqrt(3.0))
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return eye + sine * cross + (1.0 - cosine) * (cross @ cross)


def _scaling(x: Tensor, y: Tensor) -> Float[Tensor, "b 3 3"]:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    sine, cosine, zero, one = angle.sin(), angle.cos(), angle * 0.0, torch.ones_like(angle)
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, one]
    return torch.stack(rows, dim=1).unflatten(1, (3, 3))


def _translation(x: Tensor, y: Tensor) -> Float[Tensor, "b 3 3"]:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [one, zero, x, zero, one, y, zero, zero, one]
    return torch.stack(rows, dim=1).unflatten(1, (3, 3))

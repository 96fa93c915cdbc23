"""What the painters paint on: the skin's texels with their rest positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vultus.heads.procedural.falloffs import bell, lerp, smoothstep
from vultus.heads.procedural.look import Look
from vultus.heads.procedural.noise import ValueNoise

__all__ = ["SkinCanvas"]

_Field = Float[np.ndarray, " n"]
_Number = float | int


@dataclass
class SkinCanvas:
    """Texels of the skin and the ear, painted in place layer by layer."""

    points: Float[np.ndarray, "n 3"]
    """Rest positions (mm) on the default face."""
    is_ear: Bool[np.ndarray, " n"]
    look: Look
    noise: ValueNoise
    rng: np.random.Generator
    color: Float[np.ndarray, "n 3"]
    """sRGB."""
    height: _Field
    """Relief in mm."""
    roughness: _Field
    specular: _Field
    scatter: _Field

    @staticmethod
    def blank(
        points: Float[np.ndarray, "n 3"], is_ear: Bool[np.ndarray, " n"], look: Look
    ) -> SkinCanvas:
        """Start with the bare material values of skin."""
        rng = np.random.default_rng(look.seed + 77)
        count = len(points)
        return SkinCanvas(
            points,
            is_ear,
            look,
            ValueNoise(rng),
            rng,
            color=np.zeros((count, 3)),
            height=np.zeros(count),
            roughness=np.full(count, 0.50),
            specular=np.full(count, 0.48),
            scatter=np.ones(count),
        )

    @property
    def lateral(self) -> _Field:
        """|x|."""
        return np.abs(self.points[:, 0])

    @property
    def darkness(self) -> float:
        """0 for light and 1 for dark skin, on which redness shows less."""
        return float(np.clip(self.look.tone * 1.4 - 0.3, 0, 1))

    @property
    def hair_color(self) -> Float[np.ndarray, " 3"]:
        """SRGB of the hair."""
        return np.array(self.look.hair_rgb)

    def spot(self, x: _Number, y: _Number, width: _Number, height: _Number) -> _Field:
        """Bump on both sides of the face at (±x, y)."""
        across = bell(self.lateral, x, width) * bell(self.points[:, 1], y, height)
        return across * smoothstep(0, 40, self.points[:, 2])

    def absorb(self, amount: _Field, rgb: tuple[_Number, _Number, _Number]) -> None:
        """Take away a share of each channel; negative shares brighten."""
        self.color *= 1 - amount[:, None] * np.array(rgb)

    def cover(self, amount: _Field, color: np.ndarray) -> None:
        """Paint over with a colour."""
        self.color = lerp(self.color, color, amount[:, None])

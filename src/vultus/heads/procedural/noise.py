"""Noise over positions in millimetres."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["ValueNoise"]

_LATTICE = 24
_UNIT_VARIANCE = 1.5
"""Trilinear interpolation averages the lattice's variance away; this restores about 1."""
_OCTAVE_SHIFT = 17.3


class ValueNoise:
    """Smooth value noise, mean 0, about unit variance, periodic after 24 wavelengths."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw one lattice, shared by all wavelengths."""
        self._lattice = rng.standard_normal((_LATTICE,) * 3).astype(np.float32).ravel()

    def __call__(
        self, points: Float[np.ndarray, "n 3"], wavelength: float | int
    ) -> Float[np.ndarray, " n"]:
        """Evaluate one octave."""
        q = np.ascontiguousarray((points / wavelength).T, np.float32)
        floor = np.floor(q).astype(np.int32)
        t = q - floor
        t = t * t * (3 - 2 * t)
        near = floor % _LATTICE
        far = (near + 1) % _LATTICE
        x = near[0] * _LATTICE**2, far[0] * _LATTICE**2
        y = near[1] * _LATTICE, far[1] * _LATTICE
        planes = []
        for z in (near[2], far[2]):
            rows = []
            for row in y:
                start, end = self._lattice[x[0] + row + z], self._lattice[x[1] + row + z]
                rows.append(start + (end - start) * t[0])
            planes.append(rows[0] + (rows[1] - rows[0]) * t[1])
        return (planes[0] + (planes[1] - planes[0]) * t[2]) * _UNIT_VARIANCE

    def fractal(
        self, points: Float[np.ndarray, "n 3"], wavelength: float | int, octaves: int
    ) -> Float[np.ndarray, " n"]:
        """Sum octaves of halved wavelength and amplitude."""
        layers = (
            self(points + _OCTAVE_SHIFT * k, wavelength / 2**k) / 2**k for k in range(octaves)
        )
        return np.sum(list(layers), axis=0)

"""Eyebrows: strokes stamped on a frontal plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit
from scipy import ndimage

__all__ = ["Decal", "brow_decal"]

_PIXELS_PER_MM = 10
_BOX = (2, 4, 62, 36)
_NUM_STROKES = 640
_STAMP = 3
"""Half size of the stamp in pixels."""
# Course of the left brow from head to tail (mm), its half width, and the strands' direction.
_COURSE_T = (0, 0.25, 0.62, 1)
_COURSE_X, _COURSE_Y = (10.5, 21, 38, 52), (15.2, 17.4, 20.2, 15.8)
_WIDTH_T, _HALF_WIDTH = (0, 0.15, 0.6, 1), (2.7, 3.5, 2.7, 0.8)
_DIRECTION_T, _DIRECTION = (0, 0.12, 0.4, 0.7, 1), np.radians([82, 58, 26, 0, -26])


@dataclass(frozen=True)
class Decal:
    """An image on the frontal plane of the left half of the face."""

    coverage: Float[np.ndarray, "h w"]

    def sample(
        self, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Coverage at frontal positions in mm, 0 outside."""
        row, column = (y - _BOX[1]) * _PIXELS_PER_MM - 0.5, (x - _BOX[0]) * _PIXELS_PER_MM - 0.5
        return ndimage.map_coordinates(self.coverage, [row, column], order=1, mode="constant")


@dataclass(frozen=True)
class _Strands:
    """Roots (mm), directions (radians), lengths (mm), curvatures and opacities."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    length: np.ndarray
    curve: np.ndarray
    alpha: np.ndarray


def brow_decal(rng: np.random.Generator, thickness: float | int) -> Decal:
    """Stamp one brow: hundreds of strands over a soft underlayer."""
    image = np.zeros(
        ((_BOX[3] - _BOX[1]) * _PIXELS_PER_MM, (_BOX[2] - _BOX[0]) * _PIXELS_PER_MM), np.float32
    )
    t = np.linspace(0, 1, 60)
    course_x = _smoothed(np.interp(t, _COURSE_T, _COURSE_X))
    course_y = _smoothed(np.interp(t, _COURSE_T, _COURSE_Y))
    half_width = np.interp(t, _WIDTH_T, _HALF_WIDTH) * thickness
    direction = np.interp(t, _DIRECTION_T, _DIRECTION)
    drawn = np.array([_draw_strand(rng) for _ in range(_NUM_STROKES)])
    u, v, turn, length, curve, alpha = drawn.T
    strands = _Strands(
        x=np.interp(u, t, course_x),
        y=np.interp(u, t, course_y) + v * np.interp(u, t, half_width),
        angle=np.interp(u, t, direction) - v * 0.38 * (u > 0.1) + turn,
        length=length,
        curve=curve,
        alpha=alpha,
    )
    _stamp(image, strands)
    soft = ndimage.gaussian_filter(image, 5)
    return Decal(np.clip(image * 0.95 + soft * 0.55, 0, 1))


def _smoothed(curve: np.ndarray) -> np.ndarray:
    padded = np.pad(curve, 6, mode="reflect", reflect_type="odd")
    return np.convolve(padded, np.ones(13) / 13, "valid")


def _draw_strand(rng: np.random.Generator) -> tuple[float, ...]:
    """Place along and across the brow, turn, length, curvature and opacity."""
    u = rng.beta(1.0, 1.1)
    v = np.clip(rng.normal(0, 0.5), -1, 1)
    turn = rng.normal(0, 0.10)
    length = rng.uniform(3.6, 6.0) * (1 - 0.35 * u)
    return u, v, turn, length, rng.normal(-0.05, 0.03), rng.uniform(0.3, 0.75)


def _stamp(image: np.ndarray, strands: _Strands) -> None:
    """Draw strands that thin out towards their tips, one after the other, in place."""
    counts = (strands.length * _PIXELS_PER_MM / 2).astype(int)
    q = np.arange(counts.max())
    share = np.minimum(q / counts[:, None], 1.0)
    turned = strands.angle[:, None] + (strands.curve / counts)[:, None] * 4 * q
    along = share * strands.length[:, None]
    x = (strands.x[:, None] + along * np.cos(turned) - _BOX[0]) * _PIXELS_PER_MM
    y = (strands.y[:, None] + along * np.sin(turned) - _BOX[1]) * _PIXELS_PER_MM
    column, row = x.astype(int), y.astype(int)
    offset = np.arange(-_STAMP, _STAMP + 1)
    width = 2 * (1.25 - 0.6 * share) ** 2
    dx = (offset + (column + 0.5 - x)[..., None]) ** 2
    dy = (offset + (row + 0.5 - y)[..., None]) ** 2
    stamps = np.exp(-(dy[..., :, None] + dx[..., None, :]) / width[..., None, None])
    stamps *= (strands.alpha[:, None] * (1 - 0.4 * share))[..., None, None]
    _blend(image, stamps.astype(np.float32), row, column, counts)


@no_type_check
@njit(nogil=True, cache=True)
def _blend(image, stamps, rows, columns, counts):
    """Cover and brighten in turn. Compiled: threads that paint crowds would wait for each other."""
    height, width = image.shape
    one, share = np.float32(1), np.float32(0.6)
    for strand in range(len(counts)):
        for k in range(counts[strand]):
            row, column = rows[strand, k], columns[strand, k]
            if not (_STAMP <= column < width - 4 and _STAMP <= row < height - 4):
                continue
            for i in range(2 * _STAMP + 1):
                for j in range(2 * _STAMP + 1):
                    stamp = stamps[strand, k, i, j]
                    before = image[row - _STAMP + i, column - _STAMP + j]
                    after = before + stamp * (one - before) * share
                    if k % 2:
                        after = max(before, stamp)
                    image[row - _STAMP + i, column - _STAMP + j] = after

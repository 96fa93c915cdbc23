"""Brows, scalp and beard on the skin, and the strands of the hair's own texture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from vultus.heads.procedural.brows import brow_decal
from vultus.heads.procedural.canvas import SkinCanvas
from vultus.heads.procedural.falloffs import bell, lerp, smoothstep
from vultus.heads.procedural.hair import SCALP_CENTER, elevation_above_hairline

__all__ = ["paint_beard", "paint_brows", "paint_scalp", "strand_pattern"]

_SCALP_COVER = {"buzz": 0.82}
_DEFAULT_SCALP_COVER = 0.93
# Strand layers: blur along and across the strands in texels of a texture of this width, and weight.
_STRAND_WIDTH = 205
_STRANDS = ((30, 0.7, 0.5), (40, 1.8, 0.5), (60, 5, 0.35))
_STRANDS_OF_STYLE = {
    "buzz": ((0.8, 0.8, 0.8), (2, 2, 0.3)),
    "curly": ((3, 0.8, 0.5), (2.5, 2.5, 0.7)),
}
_MIN_BLUR = 0.6
# Hair whose channels differ by less is grey, from this brightness on.
_GREY_SPREAD, _GREY_BRIGHTNESS = 0.05, 0.4


def paint_brows(canvas: SkinCanvas) -> None:
    """A fresh set of strokes per side; grey hair has darker brows."""
    x, y, z = canvas.points.T
    color = canvas.hair_color
    is_grey = np.ptp(color) < _GREY_SPREAD and color.max() > _GREY_BRIGHTNESS
    brow_color = color * (0.6 if is_grey else 0.92)
    for side in (1, -1):
        decal = brow_decal(canvas.rng, canvas.look.brow_thickness)
        near = (x * side > 0) & (z > 40) & (y > 3) & (y < 37)
        coverage = decal.sample(np.abs(x[near]), y[near]) * 0.92
        under = canvas.color[near]
        canvas.color[near] = lerp(under, np.minimum(brow_color, under * 0.8), coverage[:, None])
        canvas.height[near] += 0.10 * coverage
        canvas.roughness[near] += 0.08 * coverage


def paint_scalp(canvas: SkinCanvas) -> None:
    """Hair colour on the scalp with a ragged, strand-like edge behind the cap's edge.

    Without it every style looks like a helmet.
    """
    noise, style = canvas.noise, canvas.look.hair_style
    x, y, z = (canvas.points - SCALP_CENTER).T
    elevation = np.arctan2(y, np.hypot(x, z))
    # Strands: fine across, long along.
    strand = np.stack([np.arctan2(x, z) * 60, elevation * 4.0, 0 * x], 1)
    inside = np.degrees(elevation_above_hairline(canvas.points))
    inside = inside + 1.5 * noise(canvas.points, 6.0) + 1.5 * noise(strand, 0.40)
    scalp = smoothstep(1.8, 7.5, inside + 0.7 * noise(strand + 9, 1.0)) * ~canvas.is_ear
    amount = _SCALP_COVER.get(style, _DEFAULT_SCALP_COVER) * scalp
    if style == "buzz":
        amount = amount * (1 - 0.25 * np.clip(noise(canvas.points, 1.2), 0, 1))
    canvas.cover(amount, canvas.hair_color * 1.05)
    canvas.scatter *= 1 - 0.7 * scalp
    canvas.roughness = lerp(canvas.roughness, 0.65, scalp)


def paint_beard(canvas: SkinCanvas, lips: Float[np.ndarray, " n"]) -> None:
    """Stubble: a region by formula, dots by stretched noise."""
    if canvas.look.beard <= 0:
        return
    lateral, (_, y, z) = canvas.lateral, canvas.points.T
    line = y - 0.38 * np.maximum(lateral - 30, 0)
    region = smoothstep(-40, -56, line) * smoothstep(-134, -116, y) * smoothstep(-14, 6, z)
    region = region * (1 - lips)
    around_mouth = bell(lateral, 0, 20, power=4) * bell(y, -76, 12, power=4)
    region *= 1 - 0.51 * around_mouth * (y < -62) * (y > -84)
    region *= np.clip(1 - canvas.spot(38, -42, 13, 12) * 1.3, 0, 1)
    dots = np.clip(canvas.noise(canvas.points * np.array([1, 0.45, 1]), 0.9) * 0.9, -1, 1)
    coverage = np.clip(region * canvas.look.beard * (0.62 + 0.38 * dots), 0, 0.9)
    canvas.cover(coverage, canvas.hair_color * 0.9)
    canvas.height += 0.09 * coverage * canvas.noise(canvas.points, 0.8)
    canvas.roughness = lerp(canvas.roughness, 0.62, coverage)


def strand_pattern(
    rng: np.random.Generator, shape: tuple[int, int], style: str
) -> Float[np.ndarray, "h w"]:
    """Streaks along v, about unit variance; crumbs for short and curly hair.

    In small textures strands stay as fine as texels allow, lest hair look like painted stripes.
    """
    pattern = np.zeros(shape)
    scale = min(1.0, shape[1] / _STRAND_WIDTH)
    for *blurs, weight in _STRANDS_OF_STYLE.get(style, _STRANDS):
        along, across = (max(scale * blur, min(blur, _MIN_BLUR)) for blur in blurs)
        blurred = ndimage.gaussian_filter(rng.standard_normal(shape), (along, across), mode="wrap")
        pattern += weight * blurred * np.sqrt(along * across) * 3.5
    return pattern

"""Eyes, teeth, tongue, mouth, hair and lashes: small pictures in their own rectangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from vultus.heads.procedural.atlas import ATLAS
from vultus.heads.procedural.canvas import SkinCanvas
from vultus.heads.procedural.falloffs import bell, lerp, smoothstep
from vultus.heads.procedural.hair_paint import strand_pattern
from vultus.heads.procedural.parts import EYE_TEXTURE_ANGLE, IRIS_ANGLE

__all__ = ["PART_PAINTERS", "PartTexture", "atlas_window"]

_Map = Float[np.ndarray, "h w"]
_Color = Float[np.ndarray, "h w 3"]
_RIBS = 40
"""Ribs around the collar; more would alias at 512 texels."""
_PUPIL = (0.36, 0.42)
"""Soft edge of the pupil in units of the iris."""


@dataclass(frozen=True)
class PartTexture:
    """Maps of one rectangle; ``strands`` tilts the normals of hair."""

    color: _Color
    """sRGB."""
    roughness: _Map
    specular: float = 0.5
    scatter: float = 0.0
    strands: _Map | None = None


def atlas_window(name: str, size: int) -> tuple[tuple[slice, slice], _Map, _Map]:
    """Rows and columns of a rectangle, and the u and v of its texels within it."""
    rectangle = ATLAS[name]
    top, bottom = round((1 - rectangle.top) * size), round((1 - rectangle.bottom) * size)
    left, right = round(rectangle.left * size), round(rectangle.right * size)
    width, height = rectangle.right - rectangle.left, rectangle.top - rectangle.bottom
    u = (np.arange(left, right) + 0.5 - rectangle.left * size) / (width * size)
    v = 1 - (np.arange(top, bottom) + 0.5 - (1 - rectangle.top) * size) / (height * size)
    grid_u, grid_v = np.meshgrid(u, v)
    return (slice(top, bottom), slice(left, right)), grid_u, grid_v


def _paint_eye(canvas: SkinCanvas, u: _Map, v: _Map) -> PartTexture:
    """Radial fibres, light ring around the pupil, dark ring at the limbus, faintly veined white."""
    rng = canvas.rng
    theta = np.hypot(u - 0.5, v - 0.5) / 0.49 * EYE_TEXTURE_ANGLE
    phi = np.arctan2(v - 0.5, u - 0.5)
    frequencies = rng.integers(9, 70, 26)
    twist = 3 * np.sin(18 * theta)
    waves = [np.sin(k * phi + rng.uniform(0, 6.28) + twist) for k in frequencies]
    fibres = np.sum(waves, axis=0) / np.sqrt(len(frequencies))
    radius = theta / IRIS_ANGLE
    base = np.array(canvas.look.eye_rgb)
    iris = base * (1.0 + 0.22 * fibres[..., None])
    iris = iris * lerp(1.25, 0.92, np.clip(radius, 0, 1))[..., None]
    ring = 0.55 * bell(radius, 0.46 + 0.03 * fibres, 0.09)
    iris = lerp(iris, base * np.array([1.5, 1.35, 1.0]) + 0.03, ring[..., None])
    iris = iris * (0.86 * (1 - 0.55 * smoothstep(0.82, 1.0, radius)))[..., None]
    outside_pupil = smoothstep(*_PUPIL, radius + 0.008 * fibres)
    iris = lerp(np.array([0.012, 0.010, 0.010]), iris, outside_pupil[..., None])
    speckles = ndimage.gaussian_filter(rng.standard_normal(theta.shape), 1.1)
    veins = np.clip(speckles * 2.2 - 0.55, 0, 1) * smoothstep(0.75, 1.4, theta)
    redness = 0.10 * smoothstep(0.9, 1.5, theta) + 0.20 * veins
    white = np.array([0.885, 0.865, 0.845]) * (1 - 0.10 * smoothstep(0.55, 1.5, theta))[..., None]
    white = white * (1 - redness[..., None] * np.array([0.1, 1, 1]))
    color = lerp(iris, white, smoothstep(0.94, 1.10, radius)[..., None])
    return PartTexture(color, np.full_like(u, 0.12), scatter=0.35)


def _paint_teeth(canvas: SkinCanvas, u: _Map, v: _Map) -> PartTexture:
    gum = smoothstep(0.70, 0.76, v)
    ivory = np.array([0.95, 0.92, 0.85]) * (0.97 + 0.03 * np.sin(u * 61))[..., None]
    ivory = ivory * (1 - 0.10 * np.abs(u - 0.5))[..., None]
    pink = np.array([0.72, 0.40, 0.39]) * lerp(1, 0.8, canvas.darkness)
    return PartTexture(lerp(ivory, pink, gum[..., None]), lerp(0.22, 0.35, gum), scatter=0.6)


def _paint_tongue(canvas: SkinCanvas, u: _Map, v: _Map) -> PartTexture:
    papillae = ndimage.gaussian_filter(canvas.rng.standard_normal(u.shape), 1.0)
    shade = (1 + 0.10 * papillae) * (1 - 0.35 * smoothstep(0.5, 0, v))
    color = np.array([0.74, 0.40, 0.39]) * shade[..., None]
    return PartTexture(color, np.full_like(u, 0.38), scatter=0.8)


def _paint_mouth(canvas: SkinCanvas, u: _Map, v: _Map) -> PartTexture:
    radius = np.hypot(u - 0.5, v - 0.5) / 0.49
    lip = np.array([0.70, 0.38, 0.37]) * lerp(1, 0.72, canvas.darkness)
    depth = smoothstep(0.45, 0.95, radius)[..., None]
    color = lerp(np.array([0.20, 0.055, 0.05]), lip, depth)
    return PartTexture(color, np.full_like(u, 0.35), scatter=0.5)


def _paint_hair(canvas: SkinCanvas, u: _Map, v: _Map) -> PartTexture:
    base = canvas.hair_color
    strands = strand_pattern(canvas.rng, u.shape, canvas.look.hair_style)
    contrast = 0.34 - 0.20 * (base[1] > 0.4)
    color = base * (1 + contrast * strands)[..., None]
    color = color * lerp(0.72, 1.18, np.clip(v, 0, 1) ** 0.8)[..., None]
    color = color + np.array([0.02, 0.015, 0.01]) * np.clip(strands, 0, 2)[..., None]
    roughness = np.clip(0.50 - 0.05 * strands, 0.38, 0.7)
    return PartTexture(np.clip(color, 0.01, 0.95), roughness, 0.38, 0.15, strands)


def _paint_lashes(canvas: SkinCanvas, u: _Map, v: _Map) -> PartTexture:
    color = np.broadcast_to(canvas.hair_color * 0.25 + 0.01, (*u.shape, 3))
    return PartTexture(color, np.full_like(v, 0.6))


def _paint_garment(canvas: SkinCanvas, u: _Map, v: _Map) -> PartTexture:
    """Ribbed collar above, plain knit below."""
    ribs = np.sin(u * 2 * np.pi * _RIBS) * smoothstep(0.52, 0.58, v)
    knit = ndimage.gaussian_filter(canvas.rng.standard_normal(u.shape), 0.7)
    shade = 1 + 0.10 * ribs + 0.10 * knit
    color = np.array(canvas.look.garment_color) * shade[..., None]
    return PartTexture(color, np.full_like(v, 0.85), specular=0.25)


PART_PAINTERS: dict[str, Callable[[SkinCanvas, _Map, _Map], PartTexture]] = {
    "eye": _paint_eye,
    "teeth": _paint_teeth,
    "tongue": _paint_tongue,
    "mouth": _paint_mouth,
    "hair": _paint_hair,
    "lash": _paint_lashes,
    "garment": _paint_garment,
}
"""Painter of each rectangle of the atlas besides skin and ear, in the order of random draws."""

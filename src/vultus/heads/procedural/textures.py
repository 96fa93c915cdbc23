"""Textures of a look: one map from texel to rest position is baked, the rest is formulas."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from vultus.heads.procedural.basis import HeadBasis
from vultus.heads.procedural.canvas import SkinCanvas
from vultus.heads.procedural.hair_paint import paint_beard, paint_brows, paint_scalp
from vultus.heads.procedural.look import Look
from vultus.heads.procedural.part_paint import PART_PAINTERS, PartTexture, atlas_window
from vultus.heads.procedural.skin_paint import (
    paint_lids,
    paint_lips,
    paint_nostrils,
    paint_skin,
)
from vultus.heads.texture_baking import bake_corners, fill_outwards

__all__ = ["position_map", "synthesize_textures"]

_BAKED_PARTS = ("skin", "left_ear")
_MARGIN_TEXELS = 3
_EAR_TOP_V = 0.299
"""The ear's rectangle lies below this v, the skin's above."""
_STRAND_SLOPE, _MAX_STRAND_SLOPE = 0.75, 0.8


def position_map(basis: HeadBasis, size: int) -> Float[np.ndarray, "h w 3"]:
    """Rest position (mm) of each texel of skin and ear, NaN elsewhere."""
    faces = np.concatenate(
        [np.arange(*basis.parts[name].faces.indices(len(basis.faces))) for name in _BAKED_PARTS]
    )
    corners = basis.vertices[basis.faces[faces]]
    positions, face = bake_corners(corners, basis.uv, basis.uv_faces[faces], size)
    return fill_outwards(positions, face >= 0, _MARGIN_TEXELS).astype(np.float32)


def synthesize_textures(
    positions: Float[np.ndarray, "h w 3"], look: Look
) -> dict[str, Float[np.ndarray, "h w *c"]]:
    """Paint ``albedo`` (sRGB), ``roughness``, ``specular``, ``scatter`` and ``normal``.

    Args:
        positions: From ``position_map``.
        look: Whom to paint.
    """
    size = len(positions)
    is_skin = np.isfinite(positions[..., 0])
    v = (size - 0.5 - np.nonzero(is_skin)[0]) / size
    canvas = SkinCanvas.blank(positions[is_skin].astype(np.float64), v < _EAR_TOP_V, look)
    _paint_all(canvas)
    maps = {
        "albedo": np.full((size, size, 3), 0.5, np.float32),
        "roughness": np.full((size, size), 0.5, np.float32),
        "specular": np.full((size, size), 0.5, np.float32),
        "scatter": np.zeros((size, size), np.float32),
    }
    height = np.zeros((size, size), np.float32)
    maps["albedo"][is_skin] = np.clip(canvas.color, 0.02, 0.98)
    maps["roughness"][is_skin] = canvas.roughness
    maps["specular"][is_skin] = canvas.specular
    maps["scatter"][is_skin] = canvas.scatter
    height[is_skin] = canvas.height
    slope_u, slope_v = _slopes(height, positions, is_skin)
    is_painted = is_skin.copy()
    for name, paint in PART_PAINTERS.items():
        window, grid_u, grid_v = atlas_window(name, size)
        texture = paint(canvas, grid_u, grid_v)
        _insert(maps, window, texture)
        is_painted[window] = True
        if texture.strands is not None:
            # Strands repeat around the head.
            around = np.pad(texture.strands, ((0, 0), (1, 1)), mode="wrap")
            along_v, along_u = (slope[:, 1:-1] for slope in np.gradient(around))
            limit = _MAX_STRAND_SLOPE
            slope_u[window] = np.clip(-along_u * _STRAND_SLOPE, -limit, limit)
            slope_v[window] = np.clip(along_v * _STRAND_SLOPE, -limit, limit)
    _close_hair_seam([*maps.values(), slope_u, slope_v], is_painted, size)
    normals = np.stack([slope_u, slope_v, np.ones_like(slope_u)], -1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    maps["normal"] = (normals * 0.5 + 0.5).astype(np.float32)
    return maps


def _paint_all(canvas: SkinCanvas) -> None:
    """Layers from below to above; the order also fixes the random draws."""
    paint_skin(canvas)
    lips = paint_lips(canvas)
    paint_nostrils(canvas)
    paint_lids(canvas)
    paint_brows(canvas)
    paint_scalp(canvas)
    paint_beard(canvas, lips)
    canvas.absorb(0.05 * canvas.is_ear, (0.2, 0.9, 0.9))


def _slopes(
    height: np.ndarray, positions: np.ndarray, is_skin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Negative slopes along u and v; the metric comes from the positions, so relief is in mm."""
    filled = np.nan_to_num(positions)
    mm_per_row, mm_per_column = (
        np.linalg.norm(np.gradient(filled, axis=axis), axis=-1).clip(0.05, 3) for axis in (0, 1)
    )
    slope_u = -np.gradient(height, axis=1) / mm_per_column
    slope_v = np.gradient(height, axis=0) / mm_per_row
    is_border = ~np.asarray(ndimage.binary_erosion(is_skin, iterations=2), bool)
    slope_u[is_border] = 0
    slope_v[is_border] = 0
    return slope_u, slope_v


def _close_hair_seam(layers: list[np.ndarray], is_painted: np.ndarray, size: int) -> None:
    """Repeat the last column of the hair beside it: look-ups there mix half of that in."""
    rows, columns = atlas_window("hair", size)[0]
    beside = np.arange(rows.start, rows.stop)
    beside = beside[~is_painted[beside, columns.stop]]
    for layer in layers:
        layer[beside, columns.stop] = layer[beside, columns.stop - 1]


def _insert(maps: dict[str, np.ndarray], window: tuple[slice, slice], texture: PartTexture) -> None:
    maps["albedo"][window] = np.clip(texture.color, 0, 1)
    maps["roughness"][window] = texture.roughness
    maps["specular"][window] = texture.specular
    maps["scatter"][window] = texture.scatter

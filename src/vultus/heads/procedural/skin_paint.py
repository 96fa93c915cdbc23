"""Skin, lips and lids as formulas in face coordinates (mm), so nothing depends on the atlas."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from vultus.heads.procedural.canvas import SkinCanvas
from vultus.heads.procedural.falloffs import bell, lerp, smoothstep
from vultus.heads.procedural.loops import MOUTH_HALF_WIDTH, lid_curves, lip_curves
from vultus.heads.procedural.sculpt import Ellipsoid

__all__ = ["paint_lids", "paint_lips", "paint_nostrils", "paint_skin"]

# sRGB from light to dark.
_TONES = np.array(
    [
        [0.930, 0.785, 0.725],
        [0.885, 0.710, 0.630],
        [0.820, 0.615, 0.510],
        [0.700, 0.490, 0.370],
        [0.555, 0.375, 0.280],
        [0.430, 0.285, 0.215],
        [0.335, 0.222, 0.172],
    ]
)
_NOSTRIL = Ellipsoid((6.6, -47.2, 96.0), (3.0, 3.8, 5.2), yaw=-0.35, pitch=0.35)
_MOUTH_FRONT_Z = 60.0
_FRECKLES = 900
"""Number of freckles at ``freckles`` = 1."""


def paint_skin(canvas: SkinCanvas) -> None:
    """Base tone, colour zones, freckles, moles, pores and lines."""
    position = canvas.look.tone * (len(_TONES) - 1)
    index = min(int(position), len(_TONES) - 2)
    base = lerp(_TONES[index], _TONES[index + 1], position - index)
    warmth = 1 + canvas.look.undertone * np.array([0.012, 0, -0.035])
    canvas.color[:] = base * warmth
    _paint_zones(canvas)
    _paint_freckles(canvas)
    _paint_moles(canvas)
    _raise_pores(canvas)
    _raise_lines(canvas)
    oily = 0.07 * canvas.spot(0, -20, 12, 26) + 0.06 * canvas.spot(0, 45, 40, 20)
    oily += 0.03 * canvas.spot(40, -28, 14, 10)
    canvas.roughness += 0.035 * canvas.noise.fractal(canvas.points, 5, 2) - oily


def _paint_zones(canvas: SkinCanvas) -> None:
    """Forehead and muzzle yellower; cheeks, nose, chin and ears redder; jaw bluer."""
    look, noise, points = canvas.look, canvas.noise, canvas.points
    y, z = points[:, 1], points[:, 2]
    red = 1.0 * canvas.spot(41, -30, 15, 14) + 0.85 * canvas.spot(0, -37, 12, 9)
    red += 0.35 * canvas.spot(0, -101, 14, 9) + 0.25 * canvas.spot(25, -52, 12, 12)
    red = (red + 0.40 * canvas.is_ear) * look.blush * (1 - 0.55 * canvas.darkness)
    red += 0.16 * noise.fractal(points, 22, 3)
    canvas.absorb(red, (-0.003, 0.078, 0.066))
    yellow = 0.8 * canvas.spot(0, 52, 38, 22) + 0.25 * canvas.spot(0, -60, 22, 12)
    canvas.absorb(yellow, (-0.012, -0.012, 0.035))
    jaw = bell(y, -92, 18) * smoothstep(10, 50, z) * (1 - canvas.spot(0, -72, 20, 12))
    canvas.absorb((1.0 if look.masculinity > 0 else 0.55) * jaw, (0.075, 0.035, 0.005))
    under_eye = canvas.spot(29, -12.5, 11, 4.2) * (1 + 0.4 * max(look.age, 0))
    canvas.absorb(under_eye + 0.6 * canvas.spot(17, -5, 5, 6), (0.075, 0.105, 0.06))
    canvas.absorb(0.06 * canvas.spot(31, 9, 15, 6), (0.8, 1.0, 1.0))
    mottling = noise.fractal(points, 7, 3) * 0.016 + noise.fractal(points + 99, 55, 2) * 0.014
    canvas.absorb(-mottling, (0.8, 1.1, 1.1))
    neck = 0.10 * smoothstep(-60, -150, y) * (1 - 0.3 * canvas.darkness)
    canvas.absorb(neck, (0.7, 0.9, 1.0))


def _paint_freckles(canvas: SkinCanvas) -> None:
    """Random discs found by nearest neighbour; thresholded noise would give angular crumbs."""
    rng = canvas.rng
    count = int(_FRECKLES * min(canvas.look.freckles, 1.5))
    if count < 1:
        return
    x = rng.normal(0, 34, count)
    y = np.where(rng.random(count) < 0.7, rng.normal(-22, 15, count), rng.normal(25, 30, count))
    tree = KDTree(np.stack([x, y], 1))
    distance, which = tree.query(canvas.points[:, :2], distance_upper_bound=1.6)
    is_hit = np.isfinite(distance) & (canvas.points[:, 2] > 25) & ~canvas.is_ear
    which = np.minimum(which, count - 1)
    radius = rng.gamma(3, 0.13, count) + 0.18
    depth = rng.uniform(0.12, 0.42, count)
    edge = smoothstep(radius[which] + 0.35, radius[which] - 0.15, np.minimum(distance, 9))
    canvas.absorb(np.where(is_hit, depth[which] * edge, 0), (0.55, 0.80, 0.90))


def _paint_moles(canvas: SkinCanvas) -> None:
    rng, (x, y, z) = canvas.rng, canvas.points.T
    for _ in range(rng.poisson(2.0)):
        center_x, center_y = rng.uniform(-58, 58), rng.uniform(-95, 60)
        radius = rng.uniform(0.5, 1.0)
        disc = smoothstep(radius + 0.5, radius, np.hypot(x - center_x, y - center_y))
        canvas.absorb(0.5 * disc * (z > 20) * ~canvas.is_ear, (0.7, 0.85, 0.9))


def _raise_pores(canvas: SkinCanvas) -> None:
    noise, points = canvas.noise, canvas.points
    canvas.height += 0.022 * noise.fractal(points + 31, 1.4, 2)
    canvas.height += 0.028 * noise(points + 7, 4.0) * smoothstep(40, 70, points[:, 2])
    where = canvas.spot(0, -28, 20, 18) + canvas.spot(34, -34, 16, 14)
    where += 0.4 * canvas.spot(0, 45, 40, 22)
    canvas.height -= 0.05 * np.clip(noise(points + 53, 1.9) - 0.8, 0, 2) * where


def _raise_lines(canvas: SkinCanvas) -> None:
    """Forehead lines and crow's feet: they come with age and are faintly there in everyone."""
    x, y, z = canvas.points.T
    depth = 0.12 + 0.45 * max(canvas.look.age, 0)
    wobble = canvas.noise(canvas.points * np.array([0.3, 1, 1]), 24) * 1.2
    forehead = np.exp(-((x / 40) ** 4)) * smoothstep(30, 60, z)
    for line_y in (38, 48, 58):
        canvas.height -= 0.30 * depth * bell(y - wobble - 0.0016 * x * x, line_y, 0.9) * forehead
    for slope, start in ((0.35, 0), (-0.3, -4)):
        line = bell(y - start - (canvas.lateral - 47) * slope, 0, 1)
        canvas.height -= 0.22 * depth * line * bell(canvas.lateral, 54, 4)


def paint_lips(canvas: SkinCanvas) -> Float[np.ndarray, " n"]:
    """Vermilion from the same border curves as the geometry; returns its mask."""
    noise, points, lateral = canvas.noise, canvas.points, canvas.lateral
    y, is_front = points[:, 1], points[:, 2] > _MOUTH_FRONT_Z
    contact, upper, lower = lip_curves(np.clip(lateral, 0, MOUTH_HALF_WIDTH))
    edge = noise(points, 2.2) * 0.035
    from_contact = np.where(
        y > contact,
        (y - contact) / np.maximum(upper - contact, 0.15),
        (contact - y) / np.maximum(contact - lower, 0.15),
    )
    lips = smoothstep(1.10, 0.88, from_contact + edge) * is_front
    lips = lips * smoothstep(26.6, 25.0, lateral + 0.3 * edge)
    line = smoothstep(1.2, 0.4, np.abs(y - contact)) * smoothstep(26.8, 25.4, lateral)
    lips = np.maximum(lips, line * is_front)
    # Towards grey first: tinting light skin directly gives orange lips.
    grey = canvas.color.mean(1, keepdims=True) * np.array([1.22, 0.93, 0.90])
    bare = lerp(np.array([0.90, 0.71, 0.73]), np.array([0.80, 0.66, 0.66]), canvas.darkness)
    tint = bare * lerp(np.ones(3), np.array([0.92, 0.62, 0.64]), canvas.look.lip_tint)
    streaks = 1 + 0.03 * noise(points * np.array([2.2, 0.5, 0.5]), 3.0)
    canvas.cover(0.92 * lips, lerp(canvas.color, grey, 0.35) * tint * streaks[:, None])
    canvas.roughness = lerp(canvas.roughness, 0.36, lips)
    canvas.specular = lerp(canvas.specular, 0.62, lips)
    canvas.height += lips * 0.09 * noise(points * np.array([1, 0.12, 0.3]), 1.3)
    dark = np.exp(-((np.abs(y - contact) / 0.65) ** 2)) * smoothstep(26.6, 23.5, lateral)
    canvas.absorb(0.50 * dark * is_front, (0.75, 1, 1))
    rim = bell(from_contact, 1.12, 0.09) * (lateral < 21) * is_front
    canvas.absorb(-0.035 * rim, (1, 1, 1))
    return lips


def paint_nostrils(canvas: SkinCanvas) -> None:
    """Darken the inside of the nostrils."""
    _, y, z = canvas.points.T
    distance = _NOSTRIL.distance(np.stack([canvas.lateral, y, z], 1))
    canvas.absorb(0.80 * smoothstep(0.9, -0.7, distance) * (y < -42), (0.85, 1, 1))


def paint_lids(canvas: SkinCanvas) -> None:
    """Dark lash line above, faint one below, darker upper lid, pink wet rim."""
    lateral, (_, y, z) = canvas.lateral, canvas.points.T
    _, upper, lower = lid_curves(np.clip((lateral - 31.6) / 15.5, -1, 1))
    at_eye = smoothstep(49.2, 46.8, lateral) * smoothstep(13.8, 15.4, lateral) * (z > 50)
    above, below = y - upper, lower - y
    strength = 1.15 if canvas.look.masculinity < 0 else 0.8
    upper_line = 0.62 * np.exp(-((np.abs(above) / 0.75) ** 2)) * at_eye
    canvas.color *= 1 - upper_line[:, None] * np.array([0.85, 0.95, 1]) * strength
    canvas.absorb(0.22 * np.exp(-((np.abs(below) / 0.7) ** 2)) * at_eye, (0.6, 1, 1))
    lid = smoothstep(0, 2, above) * smoothstep(9, 4, above) * at_eye
    canvas.absorb(0.16 * lid, (0.6, 0.9, 0.8))
    rim = (above < -0.05) & (below < -0.05) & (at_eye > 0)
    pink = np.array([0.78, 0.50, 0.47]) * lerp(1, 0.72, canvas.darkness)
    canvas.color[rim] = lerp(canvas.color[rim], pink, 0.6)
    canvas.roughness[rim] = 0.25

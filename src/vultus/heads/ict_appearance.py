"""A plain procedural look for the ICT head, which comes without textures.

Colours are functions of the rest position in millimetres: x to the subject's left, y up from the
line through the eye centres, z forward from the middle of the eyes. They follow the recipes of
the procedural head (skin zones, painted scalp, iris rings) on this mesh's own landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from vultus.core.srgb import srgb_to_linear
from vultus.heads.appearance import HeadAppearance
from vultus.heads.ict import IctHead
from vultus.heads.ict_data import ICT_MATERIALS
from vultus.heads.texture_baking import bake_corners, fill_outwards

__all__ = ["LABEL_NAMES", "IctLook", "ict_appearance"]

LABEL_NAMES = (
    "skin", "scalp", "mouth", "teeth", "eyeball", "neck", "nose", "ears", "brows", "upper_lip",
    "lower_lip",
)  # fmt: skip

_MILLIMETRES = 1000.0
_SEAM_TEXELS = 4
_NOISE_WAVES = 28
_LIP_OUTER_UPPER, _LIP_OUTER_LOWER = range(48, 55), (48, 59, 58, 57, 56, 55, 54)
_LIP_INNER_UPPER = (48, 60, 61, 62, 63, 64, 54)
_LIP_INNER_LOWER = (48, 60, 67, 66, 65, 64, 54)
_LID_UPPER, _LID_LOWER = (42, 43, 44, 45), (42, 47, 46, 45)
_BROW = range(22, 27)
_WING = 5.0
"""Millimetres of a wing of the nose beyond its landmark, which lies below the nostril."""
_LEFT_EYE_INNER = 42

# Height of the hairline over the azimuth from the face, both seen from the middle of the skull:
# forehead, temples, sideburn, over the ear, behind it, nape.
_HAIR_AZIMUTH = np.radians([0.0, 25.0, 45.0, 58.0, 68.0, 76.0, 84.0, 100.0, 118.0, 135.0, 180.0])
_HAIR_HEIGHT = np.array([73.0, 72.0, 60.0, 34.0, 8.0, -4.0, 14.0, 19.0, 2.0, -42.0, -58.0])
_SKULL_DEPTH = -88.0
"""Depth of the middle of the skull behind the eyes."""

_PUPIL, _LIMBUS = 0.135, 0.375
"""Angles about the gaze axis, radians: rim of the pupil and of the iris."""
_IRIS_DEPTH = 14.2
"""The iris lies at least this far in front of the globe's centre."""


@dataclass(frozen=True)
class IctLook:
    """Colours as sRGB in [0, 1]."""

    skin: tuple[float, float, float] = (0.83, 0.64, 0.545)
    lips: tuple[float, float, float] = (0.70, 0.415, 0.385)
    hair: tuple[float, float, float] = (0.16, 0.11, 0.085)
    iris: tuple[float, float, float] = (0.31, 0.22, 0.13)
    beard: float = 0.10
    """Strength of the beard's shadow in [0, 1]."""
    seed: int = 0
    """Of the mottling, brow hairs and iris fibres."""


@dataclass(frozen=True)
class _Texels:
    """The texels of one material: where they lie at rest, and how they look."""

    position: np.ndarray
    albedo: np.ndarray
    roughness: np.ndarray
    specular: np.ndarray
    scatter: np.ndarray


def ict_appearance(head: IctHead, look: IctLook | None = None, size: int = 1024) -> HeadAppearance:
    """Paint the head (2 to 3 s at 1024 texels on two busy cores).

    Args:
        head: Identity changes its shape, not its texture.
        look: Colours; defaults to a light-brown skin with dark hair.
        size: Side of the square atlas in texels.
    """
    look = look or IctLook()
    topology = head.topology
    rest = _rest_millimetres(head)
    faces = topology.faces.numpy()
    corner_values = rest[faces]
    uv, uv_faces = topology.uv.numpy().astype(np.float64), topology.uv_faces.numpy()
    positions, texel_face = bake_corners(corner_values, uv, uv_faces, size)
    known = texel_face >= 0
    material = np.where(known, head.face_material.numpy()[texel_face], -1)
    maps = {
        "albedo": np.full((size, size, 3), 0.5),
        "roughness": np.full((size, size, 1), 0.5),
        "specular": np.full((size, size, 1), 0.5),
        "scatter": np.zeros((size, size, 1)),
    }
    painters = {
        ("M_Face", "M_BackHead"): _paint_skin,
        ("M_GumsTongue",): _paint_gums,
        ("M_Teeth",): _paint_teeth,
        ("M_ScleraLeft", "M_ScleraRight"): _paint_sclera,
        ("M_IrisLeft", "M_IrisRight"): _paint_iris,
    }
    for names, painter in painters.items():
        where = np.isin(material, [ICT_MATERIALS.index(name) for name in names])
        texels = painter(positions[where], head, look)
        for name, texture in maps.items():
            texture[where] = getattr(texels, name).reshape(-1, texture.shape[-1])
    _darken_mouth_interior(maps["albedo"], texel_face, topology.face_region("mouth_interior"))
    filled = {
        name: torch.from_numpy(fill_outwards(texture, known, _SEAM_TEXELS)).float()
        for name, texture in maps.items()
    }
    eyeballs = topology.face_region("eyeballs")
    return HeadAppearance(
        uv=topology.uv,
        uv_faces=topology.uv_faces,
        albedo=srgb_to_linear(filled["albedo"]),
        roughness=filled["roughness"][..., 0],
        specular=filled["specular"][..., 0],
        scatter=filled["scatter"][..., 0],
        normal_map=torch.tensor([0.5, 0.5, 1.0]).expand(size, size, 3).contiguous(),
        eyeball_faces=eyeballs,
        face_labels=_face_labels(head, rest[faces].mean(axis=1)),
        label_names=LABEL_NAMES,
    )


def _rest_millimetres(head: IctHead) -> np.ndarray:
    middle = head.joints[3:5].mean(dim=0)
    return ((head.neutral - middle) * _MILLIMETRES).double().cpu().numpy()


def _paint_skin(p: np.ndarray, head: IctHead, look: IctLook) -> _Texels:
    rest = _rest_millimetres(head)
    landmarks = rest[head.landmarks68.numpy()]
    rng = np.random.default_rng(look.seed)
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    front = _smoothstep(-70.0, -25.0, z)
    color = np.tile(np.array(look.skin), (len(p), 1))

    def zone(cx: int, cy: int, width: int, height: int) -> np.ndarray:
        return np.exp(-0.5 * (((x - cx) / width) ** 2 + ((y - cy) / height) ** 2)) * front

    red = 0.75 * zone(42, -32, 17, 16) + 0.75 * zone(0, -34, 11, 9) + 0.35 * zone(0, -102, 15, 10)
    red += 0.5 * _smoothstep(70.0, 78.0, x) * (np.abs(y) < 50)
    yellow = 0.8 * zone(0, 55, 40, 24) + 0.25 * zone(0, -60, 22, 12)
    shadow = zone(31, -15, 12, 5) + 0.6 * zone(16, -7, 5, 6) + 0.35 * zone(31, 12, 16, 6)
    color *= 1 - red[:, None] * np.array([-0.01, 0.085, 0.075])
    color *= 1 + yellow[:, None] * np.array([0.012, 0.012, -0.035])
    color *= 1 - shadow[:, None] * np.array([0.09, 0.12, 0.08])
    mottling = 0.012 * _noise(p, 7.0, rng) + 0.014 * _noise(p, 50.0, rng)
    color *= 1 + mottling[:, None] * np.array([0.8, 1.1, 1.1])
    color *= 1 - (0.10 * _smoothstep(-105.0, -160.0, y))[:, None] * np.array([0.7, 0.9, 1.0])

    beard = _smoothstep(-45.0, -60.0, y - 0.4 * np.maximum(x - 30, 0)) * front
    beard *= _smoothstep(-150.0, -125.0, y)
    color = _mix(
        color, np.array(look.hair), look.beard * beard * (0.85 + 0.15 * _noise(p, 2.0, rng))
    )
    lips, contact = _lip_masks(p, landmarks, front)
    color = _mix(color, np.array(look.lips), 0.85 * lips)
    color *= 1 - (0.5 * contact)[:, None]
    color *= 1 - (0.6 * _lid_line(p, landmarks, front))[:, None]
    nostril = np.exp(-(((x - 7.5) / 3.6) ** 2) - ((y + 45.5) / 3.0) ** 2) * (z > 20)
    color *= 1 - (0.65 * nostril)[:, None] * np.array([0.85, 1.0, 1.0])
    brows = _brow_mask(p, landmarks, rng) * front
    color = _mix(color, np.array(look.hair) * 1.15, 0.82 * brows)
    scalp = _scalp_mask(p, rng)
    color = _mix(color, np.array(look.hair) * (1 + 0.25 * _strands(p, rng))[:, None], 0.95 * scalp)
    roughness = 0.50 - 0.06 * zone(0, -20, 13, 28) - 0.05 * zone(0, 50, 40, 20)
    roughness = _mix(roughness, 0.36, lips)
    return _Texels(
        position=p,
        albedo=np.clip(color, 0.02, 0.98),
        roughness=_mix(roughness, 0.65, scalp),
        specular=_mix(_mix(np.full(len(p), 0.48), 0.6, lips), 0.3, scalp),
        scatter=1.0 - 0.75 * scalp,
    )


def _paint_gums(p: np.ndarray, head: IctHead, look: IctLook) -> _Texels:
    rng = np.random.default_rng(look.seed + 1)
    color = np.array([0.72, 0.41, 0.40]) * (1 + 0.05 * _noise(p, 2.0, rng))[:, None]
    return _uniform(p, color * _cavity_shade(p, head)[:, None], 0.36, 0.5, 0.7)


def _paint_teeth(p: np.ndarray, head: IctHead, look: IctLook) -> _Texels:
    color = np.array([0.93, 0.90, 0.83]) * (1 - 0.0035 * np.abs(p[:, :1]))
    return _uniform(p, color * _cavity_shade(p, head)[:, None], 0.22, 0.5, 0.5)


def _paint_sclera(p: np.ndarray, head: IctHead, look: IctLook) -> _Texels:
    rng = np.random.default_rng(look.seed + 2)
    angle, _, _ = _gaze_coordinates(p, head)
    color = np.array([0.88, 0.86, 0.845]) * (1 - 0.14 * _smoothstep(0.5, 1.4, angle))[:, None]
    veins = np.clip(_noise(p, 1.2, rng) - 0.7, 0, 1) * _smoothstep(0.55, 1.2, angle)
    color *= 1 - (0.07 * veins + 0.05 * _smoothstep(0.6, 1.3, angle))[:, None] * [0.1, 1.0, 1.0]
    limbus = _smoothstep(_LIMBUS + 0.10, _LIMBUS, angle)
    return _uniform(p, _mix(color, np.array(look.iris) * 0.5 + 0.2, 0.6 * limbus), 0.12, 0.5, 0.35)


def _paint_iris(p: np.ndarray, head: IctHead, look: IctLook) -> _Texels:
    rng = np.random.default_rng(look.seed + 3)
    angle, turn, depth = _gaze_coordinates(p, head)
    fibres = sum(
        np.sin(count * turn + rng.uniform(0, 2 * np.pi)) for count in rng.integers(9, 70, 26)
    ) / np.sqrt(26)
    ratio = angle / _LIMBUS
    color = np.array(look.iris) * (1.1 + 0.2 * fibres - 0.25 * np.clip(ratio, 0, 1))[:, None]
    collar = np.exp(-0.5 * ((ratio - 0.52 - 0.03 * fibres) / 0.10) ** 2)
    color = _mix(color, np.array(look.iris) * [1.6, 1.4, 1.05] + 0.03, 0.55 * collar)
    color *= (1 - 0.6 * _smoothstep(0.80, 1.0, ratio))[:, None]
    color *= _smoothstep(_PUPIL - 0.01, _PUPIL + 0.015, angle + 0.004 * fibres)[:, None]
    # The shells behind the iris are the dark inside of the eye.
    color *= _smoothstep(_IRIS_DEPTH - 0.6, _IRIS_DEPTH, depth)[:, None]
    return _uniform(p, np.clip(color + 0.008, 0, 1), 0.12, 0.5, 0.2)


def _uniform(
    p: np.ndarray, albedo: np.ndarray, roughness: float, specular: float, scatter: float
) -> _Texels:
    count = len(p)
    return _Texels(
        p,
        albedo,
        np.full(count, roughness),
        np.full(count, specular),
        np.full(count, scatter),
    )


def _lip_masks(
    p: np.ndarray, landmarks: np.ndarray, front: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the vermilion, and of the dark line where the lips meet."""
    x, y = p[:, 0], p[:, 1]
    upper = _curve(landmarks, _LIP_OUTER_UPPER, x)
    lower = _curve(landmarks, _LIP_OUTER_LOWER, x)
    middle = _lip_contact(p, landmarks)
    half_width = landmarks[54, 0]
    within = _smoothstep(half_width + 1.0, half_width - 1.5, np.abs(x)) * (front > 0.9)
    lips = _smoothstep(1.0, -0.8, y - upper) * _smoothstep(-1.0, 0.8, y - lower) * within
    contact = np.exp(-(((y - middle) / 0.8) ** 2)) * within
    return lips, contact


def _lip_contact(p: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Height of the line where the lips meet."""
    x = p[:, 0]
    return 0.5 * (_curve(landmarks, _LIP_INNER_UPPER, x) + _curve(landmarks, _LIP_INNER_LOWER, x))


def _lid_line(p: np.ndarray, landmarks: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Lash line: dark along the upper lid, faint along the lower one."""
    x = np.abs(p[:, 0])
    inner, outer = landmarks[_LEFT_EYE_INNER, 0], landmarks[45, 0]
    within = _smoothstep(inner - 0.5, inner + 2.0, x) * _smoothstep(outer + 1.5, outer - 0.5, x)
    upper = np.exp(-(((p[:, 1] - _curve(landmarks, _LID_UPPER, x)) / 1.1) ** 2))
    lower = np.exp(-(((p[:, 1] - _curve(landmarks, _LID_LOWER, x)) / 0.8) ** 2))
    return np.maximum(upper, 0.35 * lower) * within * front


def _brow_mask(p: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Soft band along the brow landmarks, thinner towards the temple, ragged at the edge."""
    x = np.abs(p[:, 0])
    start, stop = landmarks[22, 0] - 1.0, landmarks[26, 0] + 1.0
    along = (x - start) / (stop - start)
    thickness = 4.2 * (1 - 0.6 * np.clip(along, 0, 1)) + 0.7
    hairs = _noise(p * np.array([1.0, 0.45, 0.3]), 0.9, rng)
    distance = np.abs(p[:, 1] - _curve(landmarks, _BROW, x)) / thickness + 0.18 * hairs
    within = _smoothstep(-0.03, 0.07, along) * _smoothstep(1.06, 0.9, along)
    return _smoothstep(1.15, 0.45, distance) * within * (0.88 + 0.12 * hairs)


def _scalp_mask(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    azimuth = np.abs(np.arctan2(p[:, 0], p[:, 2] - _SKULL_DEPTH))
    hairline = np.interp(azimuth, _HAIR_AZIMUTH, _HAIR_HEIGHT)
    over = p[:, 1] - hairline + 2.0 * _noise(p, 9.0, rng) + 0.8 * _noise(p, 2.0, rng)
    # The ears stick out of the skull: they lie farther from its axis than any scalp there.
    ear = _smoothstep(76.0, 79.0, np.abs(p[:, 0])) * _smoothstep(24.0, 18.0, p[:, 1])
    return _smoothstep(-3.0, 7.0, over) * (1.0 - ear)


def _strands(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Streaks that run from the crown outwards."""
    azimuth = np.arctan2(p[:, 0], p[:, 2] - _SKULL_DEPTH)
    return _noise(np.stack([azimuth * 60.0, 0.06 * p[:, 1], 0.0 * azimuth], axis=1), 0.8, rng)


def _cavity_shade(p: np.ndarray, head: IctHead) -> np.ndarray:
    """Less light towards the throat."""
    front = _rest_millimetres(head)[head.landmarks68.numpy()[62], 2]
    return 0.35 + 0.65 * _smoothstep(front - 65.0, front - 12.0, p[:, 2])


def _darken_mouth_interior(
    albedo: np.ndarray, texel_face: np.ndarray, is_interior: torch.Tensor
) -> None:
    where = (texel_face >= 0) & is_interior.numpy()[texel_face]
    albedo[where] = [0.36, 0.14, 0.13]


def _face_labels(head: IctHead, centers: np.ndarray) -> torch.Tensor:
    topology = head.topology
    labels = torch.zeros(len(topology.faces), dtype=torch.int64)
    is_skin = topology.face_region("skin")
    for name, mask in _skin_parts(head, centers).items():
        labels[is_skin & torch.from_numpy(mask > 0.5)] = LABEL_NAMES.index(name)
    labels[topology.face_region("neck")] = LABEL_NAMES.index("neck")
    labels[topology.face_region("mouth_interior", "gums_tongue")] = LABEL_NAMES.index("mouth")
    labels[topology.face_region("teeth")] = LABEL_NAMES.index("teeth")
    labels[topology.face_region("eyeballs")] = LABEL_NAMES.index("eyeball")
    return labels


def _skin_parts(head: IctHead, p: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of what is told apart on the skin, by landmarks; later ones lie over earlier ones."""
    landmarks = _rest_millimetres(head)[head.landmarks68.numpy()]
    rng = np.random.default_rng(0)
    front = _smoothstep(-70.0, -25.0, p[:, 2])
    lips, _ = _lip_masks(p, landmarks, front)
    above = p[:, 1] - _lip_contact(p, landmarks)
    return {
        "nose": _nose_mask(p, landmarks) * front,
        "ears": _smoothstep(70.0, 72.0, np.abs(p[:, 0])) * (np.abs(p[:, 1] + 15.0) < 45.0),
        "brows": _brow_mask(p, landmarks, rng) * front,
        "scalp": _scalp_mask(p, np.random.default_rng(0)),
        "upper_lip": lips * (above > 0),
        "lower_lip": lips * (above <= 0),
    }


def _nose_mask(p: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """From the root to the nostrils; the bridge is narrower than the wings."""
    height = p[:, 1]
    root, tip, base = landmarks[27, 1], landmarks[30, 1], landmarks[33, 1]
    wing = landmarks[35, 0] + _WING
    width = np.interp(height, [base, tip, root], [wing, wing, 0.5 * wing])
    return (np.abs(p[:, 0]) < width) & (height > base) & (height < root)


def _gaze_coordinates(p: np.ndarray, head: IctHead) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angle from the gaze axis of the nearer eye, turn about the axis, and height along it."""
    middle = head.joints[3:5].mean(dim=0)
    centers = ((head.joints[3:5] - middle) * _MILLIMETRES).double().numpy()
    is_right = (p[:, 0] < 0).astype(np.int64)
    axis = head.gaze_axes.double().numpy()[is_right]
    arms = p - centers[is_right]
    depth = (arms * axis).sum(axis=1)
    arms /= np.linalg.norm(arms, axis=1, keepdims=True)
    cosine = np.clip((arms * axis).sum(axis=1), -1, 1)
    side = arms - cosine[:, None] * axis
    return np.arccos(cosine), np.arctan2(side[:, 1], side[:, 0]), depth


def _curve(landmarks: np.ndarray, ids: range | tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """Height of the smooth curve through landmarks, held constant beyond its ends."""
    points = landmarks[list(ids)]
    order = np.argsort(points[:, 0])
    spline = make_interp_spline(points[order, 0], points[order, 1], k=2)
    return spline(np.clip(x, points[:, 0].min(), points[:, 0].max()))


def _noise(p: np.ndarray, wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth random field of about unit variance: a sum of plane waves."""
    directions = rng.normal(size=(_NOISE_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequencies = 2 * np.pi / wavelength * rng.uniform(0.5, 1.5, _NOISE_WAVES)
    waves = (directions * frequencies[:, None]).T.astype(np.float32)
    phases = p.astype(np.float32) @ waves
    phases += rng.uniform(0, 2 * np.pi, _NOISE_WAVES).astype(np.float32)
    return np.sin(phases).sum(axis=1).astype(np.float64) / np.sqrt(0.5 * _NOISE_WAVES)


def _smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _mix(a: np.ndarray, b: np.ndarray | float, weight: np.ndarray) -> np.ndarray:
    weight = weight[:, None] if a.ndim == 2 else weight
    return a * (1.0 - weight) + b * weight

"""Identity modes: smooth displacement fields of position, one unit is one standard deviation.

Being fields, they carry ears, hair, lashes and lids along without mentioning them. Sensible range
-2 to 2. Millimetres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from vultus.heads.procedural.ears import EAR_ORIGIN
from vultus.heads.procedural.falloffs import bell, smoothstep
from vultus.heads.procedural.loops import MOUTH_HALF_WIDTH, lip_curves

__all__ = ["IDENTITY_NAMES", "identity_fields"]

_Scalar = np.ndarray
_Number = float | int


class _Face:
    """Coordinates and masks of a set of points that the modes are written with."""

    def __init__(self, points: Float[np.ndarray, "n 3"]) -> None:
        self.x, self.y, self.z = points.T
        self.lateral = np.abs(self.x)
        self.side = np.tanh(self.x / 4.0)
        """-1 on the right, 1 on the left, smooth across the middle."""
        self.front = smoothstep(10, 60, self.z)
        self.frame = smoothstep(-10, 60, self.z) * smoothstep(-150, -105, self.y)

    def spot(self, x: _Number, y: _Number, width: _Number, height: _Number) -> _Scalar:
        """Bump on both sides of the face at (±x, y)."""
        return bell(self.lateral, x, width) * bell(self.y, y, height) * self.front

    def vector(
        self, x: _Scalar | float = 0.0, y: _Scalar | float = 0.0, z: _Scalar | float = 0.0
    ) -> np.ndarray:
        """Displacement with the given components."""
        zero = np.zeros_like(self.x)
        return np.stack([zero + x, zero + y, zero + z], -1)


def _jaw_width(f: _Face) -> np.ndarray:
    amount = bell(f.y, -82, 24) * smoothstep(5, 45, f.lateral) * smoothstep(-40, -5, f.z)
    return f.vector(x=4.5 * f.side * amount)


def _nose_width(f: _Face) -> np.ndarray:
    near = np.exp(-((f.lateral / 24) ** 4)) * f.front
    return f.vector(x=0.20 * f.x * bell(f.y, -40, 11) * near)


def _nose_length(f: _Face) -> np.ndarray:
    along = smoothstep(0, -36, f.y) * smoothstep(-62, -48, f.y) * smoothstep(70, 90, f.z)
    return f.vector(y=-4.0 * bell(f.lateral, 0, 18) * along)


def _nose_projection(f: _Face) -> np.ndarray:
    amount = bell(f.lateral, 0, 9) * bell(f.y, -34, 13) * smoothstep(78, 96, f.z)
    return f.vector(z=3.2 * amount)


def _nose_tip(f: _Face) -> np.ndarray:
    amount = bell(f.lateral, 0, 10) * bell(f.y, -37, 8) * smoothstep(86, 102, f.z)
    return f.vector(y=3.0 * amount, z=0.8 * amount)


def _eye_tilt(f: _Face) -> np.ndarray:
    near = bell(f.y, 2, 11) * bell(f.lateral, 31, 16) * f.front
    return f.vector(y=1.7 * (f.lateral - 31) / 15 * near)


def _lip_fullness(f: _Face) -> np.ndarray:
    contact = lip_curves(np.clip(f.x, -MOUTH_HALF_WIDTH, MOUTH_HALF_WIDTH))[0]
    above = f.y - contact
    amount = bell(above, 0, 8) * np.clip(1 - (f.lateral / 27) ** 2, 0, 1) * f.front
    keep_closed = 1 - 0.7 * np.exp(-((above / 1.2) ** 2))
    return f.vector(y=1.7 * np.tanh(above / 5) * amount, z=1.6 * amount * keep_closed)


def _mouth_width(f: _Face) -> np.ndarray:
    near = bell(f.y, -69, 11) * np.exp(-((f.lateral / 38) ** 4)) * f.front
    return f.vector(x=2.6 * np.tanh(f.x / 16) * near)


def _brow_ridge(f: _Face) -> np.ndarray:
    return f.vector(z=2.8 * bell(f.y, 15, 8) * np.exp(-((f.lateral / 46) ** 6)) * f.front)


def _brow_height(f: _Face) -> np.ndarray:
    return f.vector(y=2.4 * bell(f.y, 18, 8) * np.exp(-((f.lateral / 52) ** 6)) * f.front)


def _cheekbones(f: _Face) -> np.ndarray:
    amount = bell(f.lateral, 50, 16) * bell(f.y, -18, 13) * smoothstep(0, 30, f.z)
    return f.vector(x=3.0 * f.side * amount, z=2.2 * amount)


def _cheek_fullness(f: _Face) -> np.ndarray:
    amount = bell(f.lateral, 46, 17) * bell(f.y, -58, 23) * smoothstep(-5, 30, f.z)
    return f.vector(x=4.2 * f.side * amount, z=2.2 * amount)


def _ear_size(f: _Face) -> np.ndarray:
    center = EAR_ORIGIN + np.array([0, 0, -9.0])
    q = np.stack([f.lateral, f.y, f.z], 1) - center
    reach = np.linalg.norm(q * np.array([1, 0.75, 1]), axis=1)
    amount = 0.09 * bell(reach, 0, 26, power=4) * smoothstep(68, 76, f.lateral)
    return f.vector(q[:, 0] * np.sign(f.x), q[:, 1], q[:, 2]) * amount[:, None]


def _neck_width(f: _Face) -> np.ndarray:
    amount = smoothstep(-70, -120, f.y) * smoothstep(-205, -170, f.y) * smoothstep(70, 30, f.z)
    return f.vector(x=0.075 * f.x * amount, z=0.05 * (f.z + 26) * amount)


def _sagging(f: _Face) -> np.ndarray:
    """Jowls, nasolabial fold, hollow cheek and eye bag: what age adds beyond other modes."""
    jowl = f.spot(38, -86, 13, 12)
    fold = bell(f.lateral, 24 + 0.35 * (-45 - f.y), 3.2) * bell(f.y, -52, 12) * f.front
    bag_y = f.y + 14 + 0.006 * (f.lateral - 30) ** 2
    bag = bell(np.hypot((f.lateral - 27) / 9, bag_y / 2.5), 0, 1) * f.front
    inward = 1.7 * fold + 1.6 * f.spot(47, -42, 10, 13) + 1.0 * bag
    return f.vector(x=1.5 * f.side * jowl, y=-2.2 * jowl, z=-inward)


def _asymmetry_a(f: _Face) -> np.ndarray:
    return f.vector(
        x=1.5 * np.sin((f.y + 30) / 42) * f.frame,
        y=1.1 * np.tanh(f.x / 30) * f.frame * bell(f.y, -40, 45),
    )


def _asymmetry_b(f: _Face) -> np.ndarray:
    return f.vector(
        x=1.2 * bell(f.y, -70, 20) * f.frame * np.exp(-((f.lateral / 60) ** 2)),
        y=1.0 * np.tanh(f.x / 25) * bell(f.y, 14, 12) * f.frame,
    )


_FIELDS: dict[str, Callable[[_Face], np.ndarray]] = {
    "face_width": lambda f: f.vector(x=0.040 * f.x * smoothstep(-170, -110, f.y)),
    "face_length": lambda f: f.vector(y=-5.0 * smoothstep(0, -110, f.y)),
    "jaw_width": _jaw_width,
    "chin_length": lambda f: f.vector(
        y=-4.5 * smoothstep(-78, -108, f.y) * smoothstep(20, 65, f.z)
    ),
    "chin_forward": lambda f: f.vector(z=4.0 * bell(f.y, -104, 17) * smoothstep(10, 70, f.z)),
    "nose_width": _nose_width,
    "nose_length": _nose_length,
    "nose_projection": _nose_projection,
    "nose_bridge": lambda f: f.vector(z=2.6 * f.spot(0, -9, 7.5, 11)),
    "nose_tip": _nose_tip,
    "eye_spacing": lambda f: f.vector(x=1.8 * f.side * f.spot(31, 2, 17, 16)),
    "eye_opening": lambda f: f.vector(y=1.1 * np.tanh((f.y - 0.4) / 2.0) * f.spot(31.5, 0, 10, 5)),
    "eye_tilt": _eye_tilt,
    "lip_fullness": _lip_fullness,
    "mouth_width": _mouth_width,
    "brow_ridge": _brow_ridge,
    "brow_height": _brow_height,
    "cheekbones": _cheekbones,
    "cheek_fullness": _cheek_fullness,
    "cranium_height": lambda f: f.vector(y=5.0 * smoothstep(20, 110, f.y)),
    "cranium_depth": lambda f: f.vector(
        z=-5.5 * smoothstep(0, -95, f.z) * smoothstep(-90, -10, f.y)
    ),
    "forehead_slope": lambda f: f.vector(
        z=-5.0 * smoothstep(22, 80, f.y) * smoothstep(20, 60, f.z)
    ),
    "ear_size": _ear_size,
    "neck_width": _neck_width,
    "asymmetry_a": _asymmetry_a,
    "asymmetry_b": _asymmetry_b,
}
_MIXTURES: dict[str, dict[str, float]] = {
    "masculinity": {
        "brow_ridge": 0.9,
        "jaw_width": 0.8,
        "chin_length": 0.5,
        "chin_forward": 0.4,
        "neck_width": 1.1,
        "nose_projection": 0.4,
        "nose_width": 0.4,
        "lip_fullness": -0.5,
        "brow_height": -0.8,
        "forehead_slope": 0.45,
        "eye_opening": -0.4,
        "face_length": 0.3,
    },
    "age": {
        "nose_length": 0.8,
        "ear_size": 0.9,
        "lip_fullness": -0.6,
        "eye_opening": -0.5,
        "brow_height": -0.4,
    },
}

IDENTITY_NAMES = (*list(_FIELDS)[:-2], "masculinity", "age", "asymmetry_a", "asymmetry_b")
"""Names of the identity coefficients in order."""


def identity_fields(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "28 n 3"]:
    """Displacement of points (mm) by one unit of each identity mode."""
    face = _Face(points)
    fields = {name: field(face) for name, field in _FIELDS.items()}
    for name, shares in _MIXTURES.items():
        fields[name] = np.sum([share * fields[k] for k, share in shares.items()], axis=0)
    fields["age"] = fields["age"] + _sagging(face)
    return np.stack([fields[name] for name in IDENTITY_NAMES])

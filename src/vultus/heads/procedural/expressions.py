"""The 52 ARKit shapes as displacements of the default face (mm).

Most are sums of Gaussian pushes on the left side, mirrored for the right. A push on a lip is
multiplied by the jaw weight or its complement, which keeps the lips apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vultus.heads.procedural.falloffs import bell, smoothstep
from vultus.heads.procedural.lids import slide_lids
from vultus.heads.procedural.loops import LIP_BORDER_LOOP
from vultus.heads.procedural.mouth_close import mouth_close_shape
from vultus.heads.procedural.sculpt import MIRROR
from vultus.heads.procedural.template import SkinTemplate

__all__ = ["expression_shapes"]

_Field = Float[np.ndarray, " v"]
_Shape = Float[np.ndarray, "v 3"]
_Number = float | int


@dataclass(frozen=True)
class _Face:
    """Coordinates and masks of the skin that the shapes are written with."""

    skin: SkinTemplate
    x: _Field
    y: _Field
    z: _Field
    upper: _Field
    """1 on the upper lip and above, 0 below."""
    lower: _Field
    lips: _Field
    """1 on the vermilion, fading over three loops."""
    mask: _Field
    """Front of the face; inside the mouth only its front part."""

    @staticmethod
    def of(skin: SkinTemplate, jaw: _Field) -> _Face:
        x, y, z = skin.vertices.T
        lips = np.zeros(len(x))
        for index, loop in enumerate(skin.mouth):
            lips[loop] = max(0.0, 1 - max(0, index - LIP_BORDER_LOOP) / 3.0)
        lips[skin.cavity[0]], lips[skin.cavity[1]] = 1.0, 0.8
        in_bag: Bool[np.ndarray, " v"] = np.zeros(len(x), bool)
        in_bag[skin.cavity[1:]] = True
        depth = np.where(in_bag, smoothstep(58, 84, z), 1.0)
        return _Face(skin, x, y, z, 1 - jaw, jaw, lips, smoothstep(20, 55, z) * depth)

    def spot(self, x: _Number, y: _Number, width: _Number, height: _Number) -> _Field:
        """Bump around a frontal position."""
        return bell(self.x, x, width) * bell(self.y, y, height) * self.mask

    @property
    def around_eye(self) -> _Field:
        """0 on the lids, 1 away from them."""
        near = bell(np.abs(self.x), 31.5, 15) * bell(self.y, 0, 7)
        return np.clip(1 - near * 1.1, 0, 1)

    @property
    def lid_patch(self) -> _Field:
        """The left lids."""
        return self.spot(31.5, 0, 11, 6)


def _push(weight: _Field, x: _Number, y: _Number, z: _Number) -> _Shape:
    return weight[:, None] * np.array([x, y, z])


def _brow_down(f: _Face) -> _Shape:
    above_eye = f.spot(31, 6, 13, 4) * np.clip(1 - f.lid_patch, 0, 1)
    return (
        _push(f.spot(22, 17, 15, 9), -2.6, -5.2, 0.8)
        + _push(f.spot(13, 14, 7, 7), -1.0, -1.6, 1.2)
        + _push(above_eye, 0, -2.0, 0.3)
    )


def _brow_inner_up(f: _Face) -> _Shape:
    left = _push(f.spot(12, 20, 13, 11), -0.3, 6.5, 0.4)
    return left + _push(f.spot(-12, 20, 13, 11), 0.3, 6.5, 0.4)


def _eye_squint(f: _Face) -> _Shape:
    return (
        slide_lids(f.skin, 0.16, 0.30)
        + _push(f.spot(34, -17, 14, 6) * f.around_eye, 0, 2.2, 1.2)
        + _push(f.spot(52, -3, 7, 9), -1.0, 0, -0.4)
    )


def _gaze_drag(f: _Face) -> _Field:
    """How far a lid is dragged along by the eye turning sideways."""
    return f.lid_patch * (1 - np.clip(np.abs(f.x - 31.5) / 15, 0, 1) ** 2)


def _cheek_puff(f: _Face) -> _Shape:
    # No face mask here: the cheek is blown up far to the side.
    depth = np.ones_like(f.x)
    bag = np.unique(f.skin.cavity[1:])
    depth[bag] = smoothstep(58, 84, f.z[bag])
    amount = bell(np.abs(f.x), 42, 15) * bell(f.y, -60, 17) * smoothstep(0, 40, f.z) * depth
    zero = 0 * f.x
    blown = amount[:, None] * np.stack([9.5 * np.tanh(f.x / 8), zero, 5.0 + zero], 1)
    return blown + _push(f.spot(0, -69, 20, 12) * f.lips, 0, 0, 1.2)


def _nose_sneer(f: _Face) -> _Shape:
    return (
        _push(f.spot(15, -40, 8, 9), 1.2, 3.8, 0.2)
        + _push(f.spot(11, -22, 6, 10), -0.2, 2.4, 1.3)
        + _push(f.spot(14, -60, 9, 8) * f.upper, 0.3, 2.6, 0.3)
        + _push(f.spot(14, 10, 9, 6), -1.0, -1.6, 0.8)
    )


def _mouth_smile(f: _Face) -> _Shape:
    return (
        _push(f.spot(26, -69, 13, 12), 5.5, 7.5, -4.5)
        + _push(f.spot(41, -38, 13, 14), 1.0, 4.0, 3.2)
        + _push(f.spot(13, -66, 9, 9) * f.upper, 1.0, 1.4, -0.8)
        + _push(f.spot(13, -74, 9, 8) * f.lower, 1.2, 1.2, -1.2)
        + _push(f.spot(36, -58, 4, 9), 0, 0, -1.9)
        + _push(f.spot(27, -50, 4, 7), 0, 0, -1.7)  # fold from the wing of the nose
        + _push(f.spot(31, -12, 13, 5) * f.around_eye, 0, 1.0, 0.5)
    )


def _mouth_frown(f: _Face) -> _Shape:
    return (
        _push(f.spot(26, -69, 11, 10), 0.8, -7.5, -1.5)
        + _push(f.spot(14, -74, 9, 9) * f.lower, 0, -1.2, 0.3)
        + _push(f.spot(16, -98, 12, 8), 0, 1.5, 1.5)
    )


def _mouth_press(f: _Face) -> _Shape:
    return (
        _push(f.spot(13, -65, 10, 7) * f.upper * f.lips, 0.6, -1.6, -1.3)
        + _push(f.spot(13, -74, 10, 8) * f.lower * f.lips, 0.6, 1.8, -1.5)
        + _push(f.spot(26, -69, 8, 8), 1.2, 0.6, -1.5)
    )


def _round_mouth(f: _Face, inward: float, forward: float, opening: float) -> _Shape:
    lateral = np.clip(f.x / 22, -1, 1)
    flat = np.clip(1 - np.abs(f.x) / 26, 0, 1) ** 0.5
    return np.stack(
        [
            -inward * lateral * f.spot(0, -69, 30, 13),
            opening * (f.upper - f.lower) * f.spot(0, -69, 17, 11) * flat,
            forward * f.spot(0, -69, 21, 14) * (1 - 0.25 * np.abs(lateral)),
        ],
        axis=1,
    )


def _mouth_pucker(f: _Face) -> _Shape:
    away = f.lips * np.clip(1 - np.abs(f.x) / 24, 0, 1) * smoothstep(0.5, 4, np.abs(f.y + 68.5))
    thicken = np.tanh((f.y + 68) / 5) * away
    return _round_mouth(f, 9.5, 7.0, 0.25) + _push(thicken, 0, 1.6, 0)


def _lip_middle(f: _Face) -> _Field:
    return f.lips * np.clip(1 - (np.abs(f.x) / 27) ** 2, 0, 1)


def _mouth_sideways(f: _Face, side: int) -> _Shape:
    return (
        _push(f.spot(0, -70, 26, 16), 8.0 * side, 0, 0)
        + _push(f.spot(26 * side, -68, 11, 11), 0, 1.5, -3)
        + _push(f.spot(-26 * side, -68, 11, 11), 0, 0, 1.5)
    )


# The left shape of each pair; the right one is its mirror image.
_PAIRED: dict[str, Callable[[_Face], _Shape]] = {
    "eyeBlink": lambda f: slide_lids(f.skin, 0.93, 0.07),
    "eyeWide": lambda f: slide_lids(f.skin, -0.22, -0.07) + _push(f.spot(31, 19, 16, 6), 0, 1.5, 0),
    "eyeSquint": _eye_squint,
    "eyeLookDown": lambda f: slide_lids(f.skin, 0.46, -0.14),
    "eyeLookUp": lambda f: (
        slide_lids(f.skin, -0.20, 0.10) + _push(f.spot(31, 17, 15, 6), 0, 1.0, 0)
    ),
    "eyeLookIn": lambda f: _push(_gaze_drag(f), -0.9, 0, 0),
    "eyeLookOut": lambda f: _push(_gaze_drag(f), 0.9, 0, 0),
    "mouthSmile": _mouth_smile,
    "mouthFrown": _mouth_frown,
    "mouthDimple": lambda f: (
        _push(f.spot(26, -69, 9, 9), 4.0, 0.8, -4.0) + _push(f.spot(33, -68, 5, 7), 0, 0, -1.2)
    ),
    "mouthStretch": lambda f: (
        _push(f.spot(26, -69, 13, 12), 7.5, -2.5, -5.0)
        + _push(f.spot(14, -75, 9, 8) * f.lower, 1.5, -2.5, -1)
    ),
    "mouthPress": _mouth_press,
    "mouthLowerDown": lambda f: _push(f.spot(12, -76, 10, 11) * f.lower, 1.5, -7.0, 0.4),
    "mouthUpperUp": lambda f: (
        _push(f.spot(12, -62, 10, 10) * f.upper, 0.8, 6.2, 0.6)
        + _push(f.spot(17, -44, 8, 8), 0.8, 1.6, 0.3)
    ),
    "browDown": _brow_down,
    "browOuterUp": lambda f: _push(f.spot(41, 20, 14, 11), 0.3, 6.0, -0.4),
    "cheekSquint": lambda f: (
        slide_lids(f.skin, 0.04, 0.16) + _push(f.spot(40, -24, 14, 10), 0.5, 4.2, 2.2)
    ),
    "noseSneer": _nose_sneer,
}
_WHOLE: dict[str, Callable[[_Face], _Shape]] = {
    "jawOpen": lambda f: _push(0 * f.x, 0, 0, 0),  # a rotation of the jaw joint
    "jawForward": lambda f: _push(f.lower, *_JAW_SLIDES["jawForward"]),
    "jawLeft": lambda f: _push(f.lower, *_JAW_SLIDES["jawLeft"]),
    "jawRight": lambda f: _push(f.lower, *_JAW_SLIDES["jawRight"]),
    "mouthClose": lambda f: mouth_close_shape(f.skin, f.lower, f.lips, f.mask),
    "mouthFunnel": lambda f: _round_mouth(f, 6.0, 6.5, 4.2),
    "mouthPucker": _mouth_pucker,
    "mouthRollLower": lambda f: _push(_lip_middle(f) * f.lower, 0, 2.4, -5.2),
    "mouthRollUpper": lambda f: _push(_lip_middle(f) * f.upper, 0, -2.0, -4.6),
    "mouthShrugLower": lambda f: _push(f.spot(0, -84, 20, 13) * f.lower, 0, 3.8, 1.8),
    "mouthShrugUpper": lambda f: _push(f.spot(0, -61, 18, 8) * f.upper, 0, 2.6, 1.2),
    "mouthLeft": lambda f: _mouth_sideways(f, 1),
    "mouthRight": lambda f: _mouth_sideways(f, -1),
    "browInnerUp": _brow_inner_up,
    "cheekPuff": _cheek_puff,
    "tongueOut": lambda f: _push(f.spot(0, -76, 15, 9) * f.lower, 0, -2.5, 0.6),
}
_JAW_SLIDES = {
    "jawForward": (0.0, -0.5, 6.0),
    "jawLeft": (7.0, 0.0, 0.0),
    "jawRight": (-7.0, 0.0, 0.0),
}


def expression_shapes(
    names: tuple[str, ...],
    vertices: Float[np.ndarray, "v 3"],
    skin: SkinTemplate,
    jaw: Float[np.ndarray, " s"],
    lower_teeth: slice,
    tongue: slice,
) -> Float[np.ndarray, "k v 3"]:
    """Displacements of all vertices but the lashes, which follow the lids.

    Args:
        names: The ARKit names in the wanted order.
        vertices: The head without hair, skin first.
        skin: The template of the skin.
        jaw: Jaw weights of the skin.
        lower_teeth: Where the lower teeth are in ``vertices``.
        tongue: Where the tongue is.
    """
    face = _Face.of(skin, jaw)
    shapes = {name: shape(face) for name, shape in _WHOLE.items()}
    partner = skin.mirror_partners()
    for stem, shape in _PAIRED.items():
        left = shape(face)
        shapes[stem + "Left"], shapes[stem + "Right"] = left, left[partner] * MIRROR
    result = np.zeros((len(names), *vertices.shape))
    for index, name in enumerate(names):
        result[index, : len(skin.vertices)] = shapes[name]
        for part in (lower_teeth, tongue):
            result[index, part] = _JAW_SLIDES.get(name, (0.0, 0.0, 0.0))
    result[names.index("tongueOut"), tongue] = _tongue_out(vertices[tongue])
    return result


def _tongue_out(tongue: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    t = np.clip((tongue[:, 2] - 36) / 40, 0, 1)
    rise = 5.5 * np.sin(np.clip(t * 1.25, 0, 1) * np.pi) - 4.5 * t**3
    return np.stack([-0.12 * tongue[:, 0] * t, rise, 33 * t**1.4], 1)

"""The colours and cuts of a subject, and crowds of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.heads.procedural.hair import HAIR_STYLES
from vultus.heads.procedural.identity import IDENTITY_NAMES

__all__ = [
    "DEFAULT_LOOK",
    "EYE_COLORS",
    "HAIR_COLORS",
    "Look",
    "default_identity",
    "random_appearance",
    "random_identity",
]

_Color = tuple[float, float, float]

HAIR_COLORS: dict[str, _Color] = {
    "black": (0.055, 0.045, 0.042),
    "dark_brown": (0.125, 0.080, 0.055),
    "brown": (0.235, 0.150, 0.095),
    "auburn": (0.36, 0.155, 0.080),
    "red": (0.58, 0.27, 0.12),
    "dark_blond": (0.45, 0.33, 0.20),
    "blond": (0.70, 0.55, 0.34),
    "grey": (0.52, 0.51, 0.50),
    "white": (0.80, 0.79, 0.77),
}
"""sRGB."""
EYE_COLORS: dict[str, _Color] = {
    "dark_brown": (0.17, 0.085, 0.040),
    "brown": (0.34, 0.19, 0.085),
    "hazel": (0.42, 0.33, 0.14),
    "green": (0.33, 0.43, 0.24),
    "blue": (0.29, 0.45, 0.60),
    "grey": (0.45, 0.50, 0.53),
}
"""sRGB."""

# What a random person may have, with probabilities. Colours are conditioned on the skin tone, so
# that a crowd looks natural.
_LIGHT_TONE = 0.42
_HAIR_OF_LIGHT = {
    "black": 0.1,
    "dark_brown": 0.2,
    "brown": 0.22,
    "auburn": 0.08,
    "red": 0.08,
    "dark_blond": 0.14,
    "blond": 0.12,
    "grey": 0.06,
}
_HAIR_OF_DARK = {"black": 0.68, "dark_brown": 0.26, "grey": 0.06}
_EYES_OF_LIGHT = {
    "brown": 0.24,
    "hazel": 0.16,
    "green": 0.15,
    "blue": 0.27,
    "grey": 0.1,
    "dark_brown": 0.08,
}
_EYES_OF_DARK = {"dark_brown": 0.6, "brown": 0.34, "hazel": 0.06}
_STYLES_OF_MEN = {"crop": 0.42, "side": 0.28, "buzz": 0.2, "curly": 0.1}
_STYLES_OF_WOMEN = {"bob": 0.3, "long": 0.3, "bun": 0.18, "curly": 0.1, "side": 0.12}

_GARMENT_COLORS: tuple[_Color, ...] = (
    (0.115, 0.135, 0.17),
    (0.09, 0.09, 0.095),
    (0.30, 0.31, 0.33),
    (0.20, 0.24, 0.20),
    (0.27, 0.13, 0.14),
    (0.62, 0.60, 0.56),
)


@dataclass(frozen=True)
class Look:
    """What a subject's surface looks like; shape is in the identity coefficients."""

    seed: int = 3
    """Of all speckles, strands and fibres."""
    tone: float = 0.20
    """Skin tone in [0, 1] from light to dark."""
    undertone: float = 0.2
    """Warmer above 0, cooler below; about a standard deviation per unit."""
    hair_color: str | _Color = "brown"
    """A name in ``HAIR_COLORS``, or sRGB."""
    eye_color: str | _Color = "hazel"
    """A name in ``EYE_COLORS``, or sRGB."""
    hair_style: str = "side"
    masculinity: float = -1.0
    """Above 0: bluer jaw; below 0: darker lash line."""
    freckles: float = 0.15
    """0 is none, 1 very many."""
    blush: float = 0.9
    """Redness of cheeks, nose, chin and ears; 1 is common."""
    beard: float = 0.0
    """Coverage of the stubble in [0, 1]."""
    brow_thickness: float = 1.0
    lip_tint: float = 0.1
    """From bare lips at 0 to made-up ones at 1."""
    age: float = 0.0
    """Standard deviations; deepens lines and shadows above 0."""
    garment_color: tuple[float, float, float] = (0.115, 0.135, 0.17)
    """sRGB of the collar."""

    def __post_init__(self) -> None:
        """Reject unknown names and shares outside [0, 1]."""
        for field, value, known in (
            ("hair_color", self.hair_color, HAIR_COLORS),
            ("eye_color", self.eye_color, EYE_COLORS),
            ("hair_style", self.hair_style, HAIR_STYLES),
        ):
            if isinstance(value, str) and value not in known:
                raise ValueError(f"{field} must be one of {', '.join(known)}, got {value!r}")
            if not isinstance(value, str) and not all(0 <= channel <= 1 for channel in value):
                raise ValueError(f"{field} must be sRGB in [0, 1], got {value}")
        for field in ("tone", "beard", "lip_tint"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must lie in [0, 1], got {getattr(self, field)}")

    @property
    def hair_rgb(self) -> _Color:
        """SRGB of the hair."""
        color = self.hair_color
        return HAIR_COLORS[color] if isinstance(color, str) else color

    @property
    def eye_rgb(self) -> _Color:
        """SRGB of the irises."""
        color = self.eye_color
        return EYE_COLORS[color] if isinstance(color, str) else color


DEFAULT_LOOK = Look()
"""The default subject; see ``default_identity`` for her shape."""


def default_identity() -> Float[Tensor, "1 28"]:
    """Identity coefficients of the default subject."""
    coeffs = torch.zeros(1, len(IDENTITY_NAMES))
    coeffs[0, IDENTITY_NAMES.index("masculinity")] = -0.5
    coeffs[0, IDENTITY_NAMES.index("eye_opening")] = 0.3
    return coeffs


def random_appearance(seed: int) -> Look:
    """Draw a look; the same seed gives the same person."""
    rng = np.random.default_rng(seed)

    def choose(options: dict[str, float]) -> str:
        return str(rng.choice(list(options), p=list(options.values())))

    tone = rng.uniform(0, 1) ** 1.25
    is_light = tone < _LIGHT_TONE
    hair_color = choose(_HAIR_OF_LIGHT if is_light else _HAIR_OF_DARK)
    eye_color = choose(_EYES_OF_LIGHT if is_light else _EYES_OF_DARK)
    masculinity = float(rng.choice([-1, 1]))
    is_man = masculinity > 0
    hair_style = choose(_STYLES_OF_MEN if is_man else _STYLES_OF_WOMEN)
    return Look(
        seed=seed,
        tone=float(tone),
        undertone=float(rng.normal(0, 0.5)),
        hair_color=hair_color,
        eye_color=eye_color,
        hair_style=hair_style,
        masculinity=masculinity,
        freckles=float(max(0, rng.normal(-0.1, 0.6)) * (tone < 0.4)),
        blush=float(rng.uniform(0.6, 1.2)),
        beard=float((rng.random() < 0.5) * rng.uniform(0.2, 0.9) * is_man),
        brow_thickness=float(rng.uniform(0.75, 1.1) + 0.15 * masculinity),
        lip_tint=0.0 if is_man else float(rng.uniform(0, 0.5)),
        age=float(np.clip(rng.normal(0, 0.6), -1, 1.8)),
        garment_color=_GARMENT_COLORS[rng.integers(len(_GARMENT_COLORS))],
    )


def random_identity(seed: int, look: Look | None = None) -> Float[Tensor, "1 28"]:
    """Draw identity coefficients within ±1.8, some of them coupled with a look."""
    rng = np.random.default_rng(seed + 5000)
    coeffs = rng.normal(0, 0.8, len(IDENTITY_NAMES))
    index = {name: position for position, name in enumerate(IDENTITY_NAMES)}
    if look is not None:
        drawn = coeffs[index["masculinity"]]
        coeffs[index["masculinity"]] = 0.75 * look.masculinity + 0.25 * drawn
        coeffs[index["age"]] = look.age
        darkness = max(0.0, look.tone - 0.5)
        coeffs[index["nose_width"]] += 1.2 * darkness
        coeffs[index["lip_fullness"]] += 1.6 * darkness
    return torch.from_numpy(np.clip(coeffs, -1.8, 1.8).astype(np.float32))[None]

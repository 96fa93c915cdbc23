"""Options that all readers share, and how options given as text become values."""

from __future__ import annotations

import dataclasses
import math
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vultus.heads.base import HeadModel

__all__ = [
    "AUTOMATIC_RESOLUTION",
    "IMAGE_BACKGROUNDS",
    "ImageBackground",
    "ReaderOptions",
    "parse_options",
]

AUTOMATIC_RESOLUTION = -1
"""As 3D Gaussian splatting has it: the size of the files, up to a limit."""

OptionsT = TypeVar("OptionsT", bound="ReaderOptions")

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
ImageBackground = Literal["scene", "white", "black"]
IMAGE_BACKGROUNDS: dict[ImageBackground, tuple[float, float, float] | None] = {
    "scene": None,
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}
"""What image files show behind the head, for ``HeadSequence.image_background``."""


@dataclass(frozen=True)
class ReaderOptions:
    """What can be chosen about any sequence."""

    head: HeadModel | None = None
    """The rig itself, for callers in Python; by default it is opened by what the files say."""
    head_file: Path | None = None
    """File of the rig, for models that are not part of the package (ICT-FaceKit, FLAME)."""
    background: Literal["white", "black"] = "white"
    """What images are composited over."""
    resolution: int = 1
    """1, 2, 4 or 8 divide the size; any other positive number is the width in pixels; -1 keeps the
    size of images up to 1600 wide, and makes wider ones 1600 wide."""
    cut_height: float | None = None
    """Show background below this height of the rig at rest in metres, where captures have clothes
    and shoulders that the rig lacks; ICT-FaceKit has its chin at -0.08
    and the root of its neck at -0.13."""

    def __post_init__(self) -> None:
        """Reject a size that cannot be meant."""
        if self.resolution < 1 and self.resolution != AUTOMATIC_RESOLUTION:
            raise ValueError(f"resolution must be positive or -1, got {self.resolution}")

    @property
    def background_color(self) -> tuple[float, float, float]:
        """The background in [0, 1]."""
        return _BACKGROUNDS[self.background]


def parse_options(options_class: type[OptionsT], values: dict[str, Any]) -> OptionsT:
    """Build a reader's options; texts are turned into the type of their field.

    Raises:
        ValueError: If an option is unknown or its text does not fit.
    """
    hints = get_type_hints(options_class)
    known = [field.name for field in dataclasses.fields(options_class)]
    for name in values:
        if name not in known:
            raise ValueError(f"option {name!r} is not known; this reader has {', '.join(known)}")
    return options_class(**{n: _parse(n, value, hints[n]) for n, value in values.items()})


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _parse(name: str, value: Any, hint: Any) -> Any:
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if not isinstance(value, str):
        return Path(value) if Path in choices and value is not None else value
    for choice in choices:
        if choice is bool and value.lower() in _WORDS:
            return _WORDS[value.lower()]
        if choice is int and value.lstrip("-").isdecimal():
            return int(value)
        if choice is float and _is_number(value):
            return float(value)
        if choice in (str, Path):
            return choice(value)
        if get_origin(choice) is Literal and value in get_args(choice):
            return value
    wanted = " or ".join(
        ", ".join(map(repr, get_args(c))) if get_origin(c) is Literal else c.__name__
        for c in choices
        if c is not types.NoneType
    )
    raise ValueError(f"option {name} must be {wanted}, got {value!r}")

"""``light.json``: under which light a capture was taken, and under which ones it was taken again.

light.json
light.exr                                  or any other path that ``train_env`` names
envs/{light}.exr                           (or .hdr) surroundings of each of ``tests``
relight/{light}/images/{picture}.png       pictures under it, named as those in ``images/``

Pictures under test lights are looked for beside the folder of the original first: a union of
sequences has them in ``{sequence}/relight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from vultus.core.files import read_json, write_json
from vultus.data.companion_files import find_companions
from vultus.data.relighting import KnownLight, RelightTruth, check_exposure
from vultus.data.sequence import HeadSequence, LightSpace
from vultus.data.studio.tone_curve import Film
from vultus.render.lighting.environments import read_environment

__all__ = [
    "CARD_NAME",
    "TRAIN_LIGHT",
    "ColorSpace",
    "LightCard",
    "find_test_map",
    "read_relight_folder",
    "with_light_card",
]

CARD_NAME = "light.json"
TRAIN_LIGHT = "train"
"""Name of the light of ``train_env``; no test light may have it."""

_CONVENTION = (
    "row 0 is +y; column j shows (cos e cos a, sin e, cos e sin a) with azimuth "
    "a = 2 pi (j + 0.5) / w; picture = encoding(exposure * radiance)"
)
_FRAMES: dict[str, LightSpace] = {"world": "world", "camera": "camera_opengl"}
_SUFFIXES = (".exr", ".hdr")
ColorSpace = Film | Literal["linear"]
"""What pictures hold: radiance as a film encodes it, or radiance itself, clipped at 1."""
_COLOR_SPACES = (*get_args(Film), "linear")


@dataclass(frozen=True)
class LightCard:
    """The file's content."""

    train_env: str | None
    """Path of the map below the capture; ``None`` if nobody knows the light."""
    exposure: float
    """Factor on ``train_env`` that the pictures were taken with, and on test lights without one."""
    test_exposures: Mapping[str, float] = field(default_factory=dict)
    """Test lights by name, with the factor on each map."""
    space: LightSpace = "world"
    color_space: ColorSpace = "srgb"
    """What the image files hold."""

    @property
    def film(self) -> Film:
        """What pictures are encoded with once they are loaded."""
        return "srgb" if self.color_space == "linear" else self.color_space

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the card, with further facts."""
        data = {
            "train_env": self.train_env,
            "exposure": self.exposure,
            "up": "+y",
            "frame": _frame_name(self.space),
            "color_space": self.color_space,
            "tests": list(self.test_exposures),
            "test_exposures": dict(self.test_exposures),
            "convention": _CONVENTION,
        }
        write_json(path, {**data, **facts})

    @staticmethod
    def load(path: Path, default_space: LightSpace = "world") -> LightCard:
        """Read the card.

        Args:
            path: The file.
            default_space: Of lights whose card has no ``frame``.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: Naming the file, the field and what it must be.
        """
        data = read_json(path)
        if not isinstance(data, dict):
            raise ValueError(f"{path}: must be an object, got {type(data).__name__}")
        train_env = data.get("train_env")
        if train_env is not None and not (isinstance(train_env, str) and train_env):
            raise ValueError(f"{path}: train_env must be a path or null, got {train_env!r}")
        _check_choice(path, data, "up", ("+y",), "+y")
        tests = data.get("tests", [])
        if not isinstance(tests, list) or not all(map(_is_name, tests)):
            raise ValueError(f"{path}: tests must be a list of names without slashes, got {tests}")
        if TRAIN_LIGHT in tests:
            raise ValueError(f"{path}: tests must not have {TRAIN_LIGHT!r}, the light of training")
        exposure = check_exposure(f"{path}: exposure", data.get("exposure", 1.0))
        frame = _frame_name(default_space)
        return LightCard(
            train_env,
            exposure,
            _test_exposures(path, tests, data.get("test_exposures", {}), exposure),
            _FRAMES[_check_choice(path, data, "frame", tuple(_FRAMES), frame)],
            _check_choice(path, data, "color_space", _COLOR_SPACES, "srgb"),
        )


def with_light_card(sequence: HeadSequence) -> HeadSequence:
    """Take from a capture's card, if it has one, where lights stand and what its pictures hold.

    Raises:
        ValueError: If the card is wrong.
    """
    path = sequence.root / CARD_NAME
    if not path.is_file():
        return sequence
    card = LightCard.load(path, sequence.light_space)
    return replace(sequence, light_space=card.space, has_linear_colors=card.color_space == "linear")


def read_relight_folder(sequence: HeadSequence) -> RelightTruth:
    """Read which lights a capture was taken under, and find its pictures under the test lights.

    Raises:
        FileNotFoundError: If the card or a map is missing, or a test light has no pictures.
        ValueError: If the card is wrong.
    """
    root = sequence.root
    card = LightCard.load(root / CARD_NAME, sequence.light_space)
    train = None
    if card.train_env is not None:
        path = root / card.train_env
        if not path.is_file():
            raise FileNotFoundError(f"{root / 'light.json'}: train_env: {path} does not exist")
        train = _known(TRAIN_LIGHT, path, card.exposure)
    tests = {
        name: _known(name, find_test_map(root, name), exposure)
        for name, exposure in card.test_exposures.items()
    }
    pictures = {name: _pictures(sequence, name) for name in tests}
    return RelightTruth(train, tests, card.space, card.film, pictures)


def find_test_map(root: Path, name: str) -> Path:
    """The map of a test light.

    Raises:
        FileNotFoundError: If there is none.
    """
    paths = [root / "envs" / f"{name}{suffix}" for suffix in _SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{paths[0]} does not exist, though {CARD_NAME} names {name!r}")
    return found


def _known(name: str, path: Path, exposure: float) -> KnownLight:
    return KnownLight(name, partial(read_environment, path, "world", exposure))


def _pictures(sequence: HeadSequence, light: str) -> dict[Path, Path]:
    below = Path("relight", light, "images")
    pictures = (record.image_path for record in sequence.frames)
    found = find_companions(sequence.root, pictures, below)
    if not found:
        folder = sequence.root / below
        raise FileNotFoundError(f"{folder}: has no picture named as one of the capture")
    return found


def _test_exposures(
    path: Path, tests: list[str], exposures: object, default: float
) -> dict[str, float]:
    if not isinstance(exposures, dict):
        raise ValueError(f"{path}: test_exposures must be an object, got {exposures!r}")
    unknown = next((name for name in exposures if name not in tests), None)
    if unknown is not None:
        raise ValueError(f"{path}: test_exposures has {unknown!r}, which tests has not")
    return {
        name: check_exposure(f"{path}: test_exposures.{name}", exposures.get(name, default))
        for name in tests
    }


def _frame_name(space: LightSpace) -> str:
    return next(name for name, known in _FRAMES.items() if known == space)


def _check_choice(
    path: Path, data: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str
) -> Any:
    value = data.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{path}: {key} must be one of {', '.join(choices)}, got {value!r}")
    return value


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\\")

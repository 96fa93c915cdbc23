"""Performances: expression and head motion over time, named as ARKit does, for any head model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.npz_io import finite_floats, read_npz
from vultus.heads.blendshapes import ARKIT_NAMES

__all__ = ["Performance", "load_arkit_performance", "talking", "turns"]

_FPS = 25.0

_VISEMES: tuple[Mapping[str, float], ...] = (
    {},
    {"jawOpen": 0.55, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15},
    {"jawOpen": 0.2, "mouthStretchLeft": 0.35, "mouthStretchRight": 0.35, "mouthSmileLeft": 0.3,
     "mouthSmileRight": 0.3},
    {"jawOpen": 0.28, "mouthFunnel": 0.8},
    {"jawOpen": 0.06, "mouthPucker": 0.85},
    {"jawOpen": 0.08, "mouthRollLower": 0.7, "mouthUpperUpLeft": 0.3, "mouthUpperUpRight": 0.3},
    {"mouthPressLeft": 0.6, "mouthPressRight": 0.6, "mouthRollLower": 0.3, "mouthRollUpper": 0.3},
    {"jawOpen": 0.25, "mouthUpperUpLeft": 0.3, "mouthUpperUpRight": 0.3, "mouthLowerDownLeft": 0.4,
     "mouthLowerDownRight": 0.4},
)  # fmt: skip
"""Mouth shapes of speech, chosen by eye: rest, A, E, O, U, F, M and S."""
_VISEME_SECONDS = (0.09, 0.22)
_BLINK_SECONDS = 0.28
_BLINK_EVERY = (1.2, 3.2)
"""Seconds between blinks of a speaker; people blink 15 to 30 times a minute while they talk."""
_GAZE_EVERY = (0.5, 1.6)
_TURN_AMPLITUDE = (0.28, 0.76, 0.18)
"""Largest nod, turn and tilt in radians: wide, as capture protocols ask for, because every turn
shows the standing cameras another outline of the head."""

_ARKIT_KEYS = ("names", "weights", "head_pose", "fps")


@dataclass(frozen=True)
class Performance:
    """What an actor does, independent of the head that plays it."""

    names: tuple[str, ...]
    """One per channel."""
    weights: Float[Tensor, "t c"]
    head_rotation: Float[Tensor, "t 3"]
    """Axis-angle of the head against the body, radians."""
    fps: float

    def __post_init__(self) -> None:
        """Reject tables whose sizes contradict each other."""
        if self.weights.shape[1] != len(self.names):
            raise ValueError(
                f"weights must have one column per name, got {self.weights.shape[1]} columns and "
                f"{len(self.names)} names"
            )
        if self.weights.shape[0] != self.head_rotation.shape[0]:
            raise ValueError(
                "weights and head_rotation must have the same number of frames, got "
                f"{self.weights.shape[0]} and {self.head_rotation.shape[0]}"
            )

    def __len__(self) -> int:
        """Number of frames."""
        return self.weights.shape[0]


def load_arkit_performance(
    path: Path, num_frames: int, stride: int = 1, start: int = 0
) -> Performance:
    """Read every ``stride``-th frame of a recorded ARKit sequence, from frame ``start`` on.

    The file is an ``.npz`` with ``names`` (c), ``weights`` (t, c), ``head_pose`` (t, 3; small
    rotations, radians) and ``fps``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such sequence or is too short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no ARKit sequence here")
    arrays = read_npz(path, _ARKIT_KEYS)
    missing = [key for key in _ARKIT_KEYS if key not in arrays]
    if missing:
        raise ValueError(f"{path}: not an ARKit sequence: array {missing[0]!r} is missing")
    names = tuple(str(name) for name in arrays["names"].ravel())
    weights, head_rotation, fps = (
        torch.from_numpy(finite_floats(arrays[key], f"{path}: {key}")) for key in _ARKIT_KEYS[1:]
    )
    shapes = [tuple(array.shape) for array in arrays.values()]
    count = len(weights) if weights.ndim else 0
    has_shapes = weights.shape == (count, len(names)) and head_rotation.shape == (count, 3)
    if not has_shapes or fps.numel() != 1 or float(fps) <= 0:
        raise ValueError(
            f"{path}: not an ARKit sequence: weights must be (t, c) with c names, head_pose (t, 3) "
            f"and fps a positive number, got shapes {shapes}"
        )
    needed = start + (num_frames - 1) * stride + 1
    if weights.shape[0] < needed:
        raise ValueError(
            f"{path}: has {weights.shape[0]} frames, needs {needed} for {num_frames} frames at "
            f"stride {stride} from frame {start} on"
        )
    picked = slice(start, needed, stride)
    return Performance(names, weights[picked], head_rotation[picked], float(fps) / stride)


def talking(num_frames: int, seed: int) -> Performance:
    """Invent a speaker: a stream of mouth shapes, blinks, brow and gaze motion, head turns.

    The same seed gives the same take; a longer take does not begin as a shorter one does.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(num_frames, len(ARKIT_NAMES))
    column = {name: i for i, name in enumerate(ARKIT_NAMES)}
    times = torch.arange(num_frames) / _FPS
    duration = num_frames / _FPS
    _speak(weights, column, times, _onsets(duration, _VISEME_SECONDS, generator), generator)
    for onset in _onsets(duration, _BLINK_EVERY, generator, first=0.4):
        phase = (times - onset) / _BLINK_SECONDS
        lid = torch.sin(math.pi * phase.clamp(0, 1)) ** 2
        for side in ("Left", "Right"):
            blink = weights[:, column[f"eyeBlink{side}"]]
            blink.copy_(torch.maximum(blink, lid))
    _look_around(weights, column, times, _onsets(duration, _GAZE_EVERY, generator), generator)
    for name, strength in (("browInnerUp", 0.35), ("browOuterUp", 0.4), ("mouthSmile", 0.4)):
        curve = strength * (0.5 + 0.5 * _drift(times, 0.45, generator)) ** 2
        names = [n for n in (name, f"{name}Left", f"{name}Right") if n in column]
        for channel in names:
            weights[:, column[channel]] += curve
    rotation = torch.stack(
        [amplitude * _drift(times, 0.3, generator) for amplitude in _TURN_AMPLITUDE], dim=1
    )
    return Performance(tuple(ARKIT_NAMES), weights.clamp(0, 1), rotation, _FPS)


def turns(num_frames: int, yaw: float = 0.7, pitch: float = 0.3) -> Performance:
    """Turn a still face once to each side, then nod once up and down."""
    phase = torch.arange(num_frames) / max(num_frames - 1, 1)
    rotation = torch.zeros(num_frames, 3)
    rotation[:, 1] = yaw * torch.sin(4 * math.pi * phase) * (phase < 0.5)
    rotation[:, 0] = pitch * torch.sin(4 * math.pi * phase) * (phase >= 0.5)
    return Performance((), torch.zeros(num_frames, 0), rotation, _FPS)


def _speak(
    weights: Tensor,
    column: Mapping[str, int],
    times: Tensor,
    onsets: list[float],
    generator: torch.Generator,
) -> None:
    """Blend from one mouth shape to the next; each is held for no time, as in fluent speech."""
    shapes = torch.zeros(len(onsets) + 1, weights.shape[1])
    previous = 0
    for i in range(1, len(shapes)):
        step = int(torch.randint(1, len(_VISEMES), (), generator=generator))
        previous = (previous + step) % len(_VISEMES)
        loudness = 0.7 + 0.5 * float(torch.rand((), generator=generator))
        for name, value in _VISEMES[previous].items():
            shapes[i, column[name]] = loudness * value
    weights += _interpolate(shapes, torch.tensor([0.0, *onsets]), times)


def _look_around(
    weights: Tensor,
    column: Mapping[str, int],
    times: Tensor,
    onsets: list[float],
    generator: torch.Generator,
) -> None:
    """Move the gaze in jumps: both eyes together, mostly sideways."""
    targets = torch.rand(len(onsets) + 1, 2, generator=generator) * 2 - 1
    index = torch.bucketize(times, torch.tensor(onsets))
    side, up = 0.5 * targets[index, 0], 0.3 * targets[index, 1]
    for name, curve in (
        ("eyeLookOutLeft", side),
        ("eyeLookInRight", side),
        ("eyeLookInLeft", -side),
        ("eyeLookOutRight", -side),
        ("eyeLookUpLeft", up),
        ("eyeLookUpRight", up),
        ("eyeLookDownLeft", -up),
        ("eyeLookDownRight", -up),
    ):
        weights[:, column[name]] += curve.clamp_min(0)


def _onsets(
    duration: float,
    gap: tuple[float, float],
    generator: torch.Generator,
    first: float | None = None,
) -> list[float]:
    """Times of events with uniformly drawn gaps, over the whole take and one event beyond."""
    onsets: list[float] = []
    time = 0.0 if first is None else first - gap[0]
    while time <= duration:
        spread = float(torch.rand((), generator=generator)) if onsets or first is None else 0.0
        time += gap[0] + (gap[1] - gap[0]) * spread
        onsets.append(time)
    return onsets


def _interpolate(values: Tensor, knots: Tensor, times: Tensor) -> Tensor:
    """Cosine interpolation between rows of ``values`` at rising ``knots``."""
    right = torch.bucketize(times, knots).clamp(1, len(knots) - 1)
    left = right - 1
    phase = ((times - knots[left]) / (knots[right] - knots[left])).clamp(0, 1)
    blend = (0.5 - 0.5 * torch.cos(math.pi * phase))[:, None]
    return values[left] * (1 - blend) + values[right] * blend


def _drift(times: Tensor, frequency: float, generator: torch.Generator) -> Tensor:
    """A smooth random curve in [-1, 1]: three sines around ``frequency`` hertz."""
    phases = torch.rand(3, generator=generator) * 2 * math.pi
    factors = torch.tensor([0.6, 1.0, 1.7])
    waves = torch.sin(2 * math.pi * frequency * factors * times[:, None] + phases)
    return waves @ torch.tensor([0.45, 0.35, 0.2])

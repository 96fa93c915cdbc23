"""How a person is taken: expression, light, camera and backdrop of every picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from vultus.core.seeding import numpy_generator
from vultus.data.camera_labels import look_at_labels
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.collection.lights import draw_light
from vultus.data.studio.performance import Performance
from vultus.data.studio.subject import Subject
from vultus.data.studio.tracks import perform
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.blendshapes import ARKIT_NAMES
from vultus.heads.face_motion import skull_to_world
from vultus.render.lighting.lights import LightList

__all__ = ["Shot", "draw_shots", "place_heads"]


def _both(**shapes: float) -> dict[str, float]:
    return {f"{name}{side}": value for name, value in shapes.items() for side in ("Left", "Right")}


_MOODS: tuple[tuple[float, Mapping[str, float]], ...] = (
    (0.34, {}),
    (0.16, _both(mouthSmile=0.7, cheekSquint=0.4, eyeSquint=0.2)),
    (0.12, {"jawOpen": 0.16, **_both(mouthSmile=0.9, cheekSquint=0.6, mouthUpperUp=0.25)}),
    (0.05, {"jawOpen": 0.55, **_both(mouthSmile=0.6, eyeSquint=0.3)}),
    (0.07, {"jawOpen": 0.3, **_both(mouthLowerDown=0.25)}),
    (0.05, {"jawOpen": 0.2, "mouthFunnel": 0.6}),
    (0.04, {"mouthPucker": 0.7}),
    (0.05, {"jawOpen": 0.35, "browInnerUp": 0.8, **_both(browOuterUp=0.8, eyeWide=0.6)}),
    (0.05, _both(browDown=0.8, mouthFrown=0.4, noseSneer=0.3)),
    (0.04, {"browInnerUp": 0.7, **_both(mouthFrown=0.6, mouthPress=0.3)}),
    (0.03, _both(mouthPress=0.7, eyeSquint=0.5)),
)
"""Share and shapes of each mood, chosen by eye: calm, smiles, laughs, speech, surprise, anger."""
_MOOD_STRENGTH = (0.35, 1.1)
_SHAPE_NOISE = 0.06
_BLINK_SHARE, _GAZE = 0.03, (0.35, 0.2)
"""How often eyes are closed; standard deviations of the gaze, sideways and up, of the shapes."""
_NECK_SPREAD = (0.08, 0.14, 0.05)
"""Standard deviations of nod, turn and tilt against the shoulders, radians."""
_MAX_HEIGHT = 0.85
"""Sine of the largest elevation; beyond it, a label's axes turn quickly."""
_ORIGIN_BELOW_EYES, _ORIGIN_BEHIND_EYES = 0.007, 0.070
"""Origin of the labels' world, metres from between the eyes: FFHQ's crops have their middle a tenth
of the way from there to the mouth, and it lies in the middle of the head's depth."""
_BACKDROP_CELLS = 4


@dataclass(frozen=True)
class Shot:
    """One picture to take. The world is the labels', in metres instead of units."""

    label: Float[Tensor, " 25"]
    light: LightList
    backdrop: Float[Tensor, "3 c c"]
    """Coarse colours that are blown up to the picture's size."""

    def backdrop_picture(self, size: int) -> Float[Tensor, "3 s s"]:
        """What is behind the head, display-encoded."""
        picture = interpolate(self.backdrop[None], size=(size, size), mode="bicubic")[0]
        return picture.clamp(0, 1)


def draw_shots(
    config: CollectionConfig, number: int, head: HeadModel
) -> tuple[HeadPose, list[Shot]]:
    """Draw all pictures of a person; the same config and number give the same ones.

    Returns:
        The head's pose, one row per picture and without identity, and the pictures.
    """
    rng = numpy_generator(config.seed, f"shots {number}")
    weights, rotations, shots = [], [], []
    for _ in range(config.views):
        weights.append(_draw_expression(rng))
        rotations.append(rng.normal(0.0, _NECK_SPREAD))
        yaw = rng.uniform(-config.yaw_range, config.yaw_range)
        height = rng.normal(config.height_mean, config.height_std)
        height = float(np.clip(height, -_MAX_HEIGHT, _MAX_HEIGHT))
        label = look_at_labels(
            torch.tensor([yaw]).double(), torch.tensor([height]).double(),
            target=torch.zeros(3).double(), radius=config.radius, focal=config.focal,
        )[0]  # fmt: skip
        light = draw_light(rng, config.num_lights, yaw)
        shots.append(Shot(label.float(), light, _draw_backdrop(rng)))
    performance = Performance(
        tuple(ARKIT_NAMES),
        torch.from_numpy(np.stack(weights)).float(),
        torch.from_numpy(np.stack(rotations)).float(),
        fps=1.0,
    )
    return perform(performance, head), shots


def place_heads(subject: Subject, pose: HeadPose) -> Float[Tensor, "b v 3"]:
    """Pose a head and put its skull into the labels' world, in metres.

    The face then looks along +z in all pictures, whatever the neck does.
    """
    pose = pose.replace(identity_coeffs=subject.identity)
    head = subject.head
    with torch.no_grad():
        posed = head.vertices(pose)
        origin = _origin(subject)
    to_world = skull_to_world(head, pose)
    # Rows: R^T (x - t), then relative to the origin.
    return (posed - to_world[:, None, :3, 3]) @ to_world[:, :3, :3] - origin


def _origin(subject: Subject) -> Float[Tensor, 3]:
    rest = subject.head.vertices(HeadPose(identity_coeffs=subject.identity))[0]
    regions = subject.head.topology.regions
    eyes = [mask for name, mask in regions.items() if name.endswith(("eyeball", "eyeballs"))]
    if not eyes:
        raise ValueError(f"head {subject.head.name!r} has no eyes to be centered by")
    globes = rest[torch.stack(eyes).any(dim=0)]
    middle = 0.5 * (globes.amin(dim=0) + globes.amax(dim=0))
    return middle - middle.new_tensor([0.0, _ORIGIN_BELOW_EYES, _ORIGIN_BEHIND_EYES])


def _draw_expression(rng: np.random.Generator) -> Float[np.ndarray, " c"]:
    column = {name: i for i, name in enumerate(ARKIT_NAMES)}
    shares, moods = zip(*_MOODS, strict=True)
    weights = np.zeros(len(ARKIT_NAMES))
    strength = rng.uniform(*_MOOD_STRENGTH)
    for name, value in moods[rng.choice(len(moods), p=shares)].items():
        weights[column[name]] = strength * value
    noise = np.abs(rng.normal(0.0, _SHAPE_NOISE, len(weights)))
    is_lip_or_brow = np.array([n.startswith(("brow", "mouth", "cheek")) for n in ARKIT_NAMES])
    weights += noise * is_lip_or_brow
    # A mouth is closed against the jaw that it follows, never more.
    weights[column["mouthClose"]] = min(weights[column["mouthClose"]], weights[column["jawOpen"]])
    side, up = rng.normal(0.0, _GAZE)
    lid = 1.0 if rng.random() < _BLINK_SHARE else abs(rng.normal(0.0, 0.08))
    for name, value in (
        ("eyeLookOutLeft", side), ("eyeLookInRight", side), ("eyeLookInLeft", -side),
        ("eyeLookOutRight", -side), ("eyeLookUpLeft", up), ("eyeLookUpRight", up),
        ("eyeLookDownLeft", -up), ("eyeLookDownRight", -up), ("eyeBlinkLeft", lid),
        ("eyeBlinkRight", lid),
    ):  # fmt: skip
        weights[column[name]] = max(value, 0.0)
    return weights.clip(0.0, 1.0)


def _draw_backdrop(rng: np.random.Generator) -> Float[Tensor, "3 c c"]:
    """A colour that changes from top to bottom, with soft patches."""
    cells = _BACKDROP_CELLS
    base, change = rng.uniform(0.05, 0.95), rng.normal(0.0, 0.12)
    tint = rng.normal(0.0, 0.05, (3, 1, 1))
    ramp = np.linspace(change, -change, cells)[None, :, None]
    patches = rng.uniform(0.0, 0.12) * rng.normal(size=(1, cells, cells))
    colored = 0.02 * rng.normal(size=(3, cells, cells))
    return torch.from_numpy(base + ramp + tint + patches + colored).float()

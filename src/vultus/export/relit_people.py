"""Films and sheets of generated people in many lights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from vultus.core.progress import track
from vultus.core.srgb import linear_to_srgb
from vultus.export.pictures import contact_sheet
from vultus.geometry.cameras import Camera
from vultus.methods.gsheadrelight.light_sources import LightSource, TurnAxis
from vultus.methods.gsheadrelight.lights import labels_to_light, lit_ball
from vultus.methods.gsheadrelight.rendering import label_camera
from vultus.methods.gsheadrelight.sampling import RelightableHead, RelightableSampler
from vultus.methods.head_views import Motion, motion_labels
from vultus.methods.people import People
from vultus.render.lighting.environments import see_surroundings
from vultus.render.lighting.envmap import EnvironmentMap

__all__ = [
    "RelitFilm",
    "Surroundings",
    "ball_picture",
    "film_relit",
    "light_picture",
    "measured_lights_sheet",
    "relit_sheet",
]

Surroundings = Literal["none", "inset", "background"]
"""How films show where light comes from: not at all; in a corner, as a white ball and the map with
what is before the face in its middle; or the map behind heads, as the camera would see it."""

_INSET_SHARE = 4
"""The inset's height is so many times smaller than the picture."""
_BALL_STRENGTH = 0.69
"""Of lights that are compared, the root of the sum of squares in each colour: the largest that
never makes a white surface brighter than white."""


@dataclass(frozen=True)
class RelitFilm:
    """How people are filmed while light goes around them; the film ends where it began."""

    frames: int = 120
    turns: float = 1.0
    """How often light goes around heads, in the sense of ``LightSource.turned``."""
    axis: TurnAxis = "up"
    motion: Motion = "front"
    surroundings: Surroundings = "none"
    is_sequence: bool = False
    """Show lights one after the other, each for all frames, instead of side by side."""

    def __post_init__(self) -> None:
        """Reject what shows nothing."""
        if self.frames < 1:
            raise ValueError(f"frames must be positive, got {self.frames}")
        if not math.isfinite(self.turns):
            raise ValueError(f"turns must be finite, got {self.turns}")

    def num_frames(self, num_lights: int) -> int:
        """Length of the film."""
        return self.frames * (num_lights if self.is_sequence else 1)


def film_relit(
    sampler: RelightableSampler,
    people: People,
    lights: Sequence[LightSource],
    film: RelitFilm,
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Make the frames one by one: people in rows, lights in columns or one after the other.

    Heads are made once; all lights of a head are rendered in one pass.
    """
    heads = [sampler.head(person) for person in people]
    labels = motion_labels(sampler.rig, film.motion, film.frames)
    shown = [[light] for light in lights] if film.is_sequence else [list(lights)]
    total = film.num_frames(len(lights))
    for index in track(range(total), label="filming", unit="frames"):
        part, frame = divmod(index, film.frames)
        angle = 2.0 * math.pi * film.turns * frame / film.frames
        turned = [light.turned(angle, film.axis) for light in shown[part]]
        label = labels[frame : frame + 1]
        rows = [_row(sampler, head, turned, label, film.surroundings) for head in heads]
        yield torch.cat([torch.cat(row, dim=2) for row in rows], dim=1)


def relit_sheet(
    sampler: RelightableSampler,
    people: People,
    lights: Sequence[LightSource],
    label: Float[Tensor, "1 25"],
    surroundings: Surroundings = "none",
) -> Float[Tensor, "3 h w"]:
    """People in rows under the lights, which the first row shows."""
    size = sampler.size
    rows = [[light_picture(light, size) for light in lights]]
    for person in track(list(people), label="lighting", unit="people"):
        rows.append(_row(sampler, sampler.head(person), lights, label, surroundings))
    return contact_sheet(rows)


def measured_lights_sheet(
    pictures: Float[Tensor, "n 3 s s"],
    wanted: Float[Tensor, "n l"],
    found: Float[Tensor, "n l"],
) -> Float[Tensor, "3 h w"]:
    """People above white balls in the lights asked for, and in those that were read off.

    Balls have one brightness: it is directions that are compared.

    Args:
        pictures: One of each person.
        wanted: Lights of 9 or 27 numbers in axes of the cameras.
        found: The same.
    """
    size = pictures.shape[-1]
    rows = [list(pictures)]
    for labels in (wanted, found):
        lights = labels_to_light(normalize(labels, dim=1))
        strength = _BALL_STRENGTH * math.sqrt(lights.shape[2])
        rows.append([ball_picture(strength * light, size) for light in lights])
    return contact_sheet(rows)


def light_picture(light: LightSource, size: int) -> Float[Tensor, "3 s s"]:
    """A white ball in the light, above its map where there is one."""
    picture = torch.zeros(3, size, size)
    side = size // 2 if light.environment is not None else size
    left = (size - side) // 2
    picture[:, :side, left : left + side] = ball_picture(light.light, side)
    if light.environment is not None:
        picture[:, side : side + size // 2] = _panorama(light.environment, size // 2, size)
    return picture


def ball_picture(light: Float[Tensor, "9 c"], size: int) -> Float[Tensor, "3 s s"]:
    """A white matte ball in a light, in colours."""
    return lit_ball(light, size).expand(3, -1, -1)


def _row(
    sampler: RelightableSampler,
    head: RelightableHead,
    lights: Sequence[LightSource],
    label: Float[Tensor, "1 25"],
    surroundings: Surroundings,
) -> list[Float[Tensor, "3 h w"]]:
    """One head in all lights."""
    camera = label_camera(label, sampler.size, sampler.generator.config.parity)
    backdrop = torch.tensor(sampler.settings.backdrop)[:, None, None]
    row = []
    for light, (picture, alpha) in zip(lights, sampler.relit(head, lights, label), strict=True):
        behind = backdrop
        if surroundings == "background" and light.environment is not None:
            behind = _seen_environment(light.environment, camera)
        picture = (picture + (1.0 - alpha) * behind).clamp(0.0, 1.0)
        row.append(_with_inset(picture, light) if surroundings == "inset" else picture)
    return row


def _seen_environment(environment: EnvironmentMap, camera: Camera) -> Float[Tensor, "3 h w"]:
    """What a camera sees of a map, display-encoded."""
    radiance = see_surroundings(environment.radiance, camera, torch.eye(3)[None])[0]
    return linear_to_srgb(radiance.clamp(0.0, 1.0))


def _with_inset(picture: Float[Tensor, "3 h w"], light: LightSource) -> Float[Tensor, "3 h w"]:
    """Put ball and map into the lower left corner."""
    side = max(picture.shape[1] // _INSET_SHARE, 1)
    parts = [ball_picture(light.light, side)]
    if light.environment is not None:
        parts.append(_panorama(light.environment, side, 2 * side))
    inset = torch.cat(parts, dim=2)
    result = picture.clone()
    result[:, -side:, : inset.shape[2]] = inset[:, :, : picture.shape[2]]
    return result


def _panorama(environment: EnvironmentMap, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """A map, display-encoded, with what is before the face in its middle."""
    centered = environment.rotated(-0.5 * math.pi).radiance[None]
    resized = interpolate(centered, size=(height, width), mode="bilinear", antialias=True)
    return linear_to_srgb(resized[0].clamp(0.0, 1.0))

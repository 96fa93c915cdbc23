"""Measure whether generated people stay who they are in other lights and from other sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.image_io import to_bytes
from vultus.core.progress import track
from vultus.core.seeding import torch_generator
from vultus.data.cropping.face_descriptions import FaceDescriber
from vultus.data.image_feed import Conditions, ImageFeed
from vultus.engine.light_quality import LitImageMaker
from vultus.metrics.identity_similarity import similarity_between_people, similarity_within_people

__all__ = [
    "FaceRecognizer",
    "IdentityQualityConfig",
    "check_identity_lights",
    "identity_protocol",
    "identity_view_protocol",
    "identity_yaws",
    "measure_identity",
    "measure_identity_over_views",
]

_FFHQ_BOX = (0.08, 0.0, 0.84)
_MOST_YAW = 90.0
_LIGHT_DECIMALS = 4
"""Lights that agree so far are one: labels in axes of cameras are turned, which rounds."""


@dataclass(frozen=True)
class IdentityQualityConfig:
    """How much is looked at."""

    identity_count: int = 0
    """People whose likeness in different lights and views is measured, by a network of face
    recognition; 0 measures none."""
    identity_lights: int = 4
    """Different lights of the set that each of them is seen in, from the front."""
    identity_yaw: float = 30.0
    """Each of them is also seen in the mean light of the set: from the front, and from that many
    degrees to either side; 0 measures no likeness over views."""
    identity_box: tuple[float, float, float] = _FFHQ_BOX
    """Left, top and side of the square that the network sees, in shares of a picture's side. By
    default eyes lie where the network expects them if the set is cropped as FFHQ for EG3D; for the
    studio's collections take 0.185 0.19 0.63."""

    def __post_init__(self) -> None:
        """Reject what measures nothing."""
        if self.identity_count < 0 or self.identity_count == 1 or self.identity_lights < 2:
            raise ValueError(
                "identity_count must be 0 or at least 2 and identity_lights at least 2, got "
                f"{self.identity_count} and {self.identity_lights}"
            )
        if not 0.0 <= self.identity_yaw <= _MOST_YAW:
            raise ValueError(
                f"identity_yaw must be 0 to {_MOST_YAW:g} degrees, got {self.identity_yaw}"
            )
        left, top, side = self.identity_box
        if not (min(left, top) >= 0.0 and side > 0.0 and max(left, top) + side <= 1.0):
            raise ValueError(f"identity_box must lie in the picture, got {self.identity_box}")
        if not self.identity_count:
            for name in ("identity_lights", "identity_yaw", "identity_box"):
                if getattr(self, name) != getattr(IdentityQualityConfig, name):
                    raise ValueError(f"{name} needs identity_count above 0")


@dataclass(frozen=True)
class FaceRecognizer:
    """A network that tells people apart."""

    name: str
    """Tells it apart from others; numbers of different networks do not compare."""
    describe: FaceDescriber


def identity_protocol(config: IdentityQualityConfig, recognizer: FaceRecognizer) -> str:
    """Id that every number over lights carries."""
    network = _network_id(config, recognizer)
    return f"identity-{config.identity_count}x{config.identity_lights}{network}-v2"


def identity_view_protocol(config: IdentityQualityConfig, recognizer: FaceRecognizer) -> str:
    """Id that every number over views carries."""
    network = _network_id(config, recognizer)
    return f"identity-views-{config.identity_count}x{config.identity_yaw:g}{network}-v1"


def identity_yaws(config: IdentityQualityConfig) -> Float[Tensor, " v"]:
    """Where each person is seen from, in radians; empty if that is not measured."""
    if not config.identity_yaw:
        return torch.zeros(0)
    return math.radians(config.identity_yaw) * torch.tensor([0.0, -1.0, 1.0])


def check_identity_lights(config: IdentityQualityConfig, lights: Float[Tensor, "n l"]) -> None:
    """Refuse a set with too few different lights before the long work.

    Raises:
        ValueError: Saying how many there are.
    """
    found = len(_different(lights))
    if found < config.identity_lights:
        raise ValueError(
            f"identity_lights must be at most {found}, which is how many different lights the set "
            f"has, got {config.identity_lights}"
        )


@torch.no_grad()
def measure_identity(
    make: LitImageMaker,
    feed: ImageFeed,
    frontal: Float[Tensor, "1 25"],
    config: IdentityQualityConfig,
    recognizer: FaceRecognizer,
    batch: int,
    seed: int = 0,
) -> dict[str, float]:
    """Show people in several lights, and compare what face recognition makes of them.

    ``identity_similarity`` is the mean cosine between pictures of one person in two lights,
    ``identity_similarity.others`` that between different people, in two lights as well.
    Lights are dealt into as many groups as each person is seen in lights, one of each group, so
    that compared pictures never share a light. People are not truncated, and pictures are rounded
    to bytes.

    Args:
        make: The generator, on the device of ``frontal``.
        feed: Real images, whose lights are taken.
        frontal: The camera of all pictures, on which people are conditioned.
        config: How much is looked at.
        recognizer: Describes faces.
        batch: People shown at once; does not change who is drawn.
        seed: Of people and lights.

    Raises:
        ValueError: If the set has too few different lights.
    """
    known = feed.conditions.lights
    assert known is not None
    check_identity_lights(config, known)
    random = torch_generator(seed, "identity_quality", feed.device)
    lights = _deal_lights(_different(known), config, random)
    labels = frontal.expand(config.identity_count, -1)
    ws = make.draw_styles(labels, random)
    scenes = [Conditions(labels, light) for light in lights]
    features = _describe(make, ws, scenes, config, recognizer, batch, "several lights")
    return {
        "identity_similarity": float(similarity_within_people(features)),
        "identity_similarity.others": float(similarity_between_people(features)),
    }


@torch.no_grad()
def measure_identity_over_views(
    make: LitImageMaker,
    feed: ImageFeed,
    views: Float[Tensor, "v 25"],
    config: IdentityQualityConfig,
    recognizer: FaceRecognizer,
    batch: int,
    seed: int = 0,
) -> dict[str, float]:
    """Show people from several sides, and compare what face recognition makes of them.

    ``identity_over_views`` is the mean cosine between pictures of one person from two sides,
    ``identity_over_views.others`` that between different people, from two sides as well.
    All pictures have one light, the mean of the set's, in axes of the head, so that nothing but
    the view differs. Otherwise as ``measure_identity``.

    Args:
        make: The generator, on the device of ``views``.
        feed: Real images, whose lights are averaged.
        views: At least two cameras, on the first of which people are conditioned.
        config: How much is looked at.
        recognizer: Describes faces.
        batch: People shown at once; does not change who is drawn.
        seed: Of people.

    Raises:
        ValueError: If there are fewer than two views.
    """
    if len(views) < 2:
        raise ValueError(f"views must be at least two, got {len(views)}")
    known = feed.conditions.lights
    assert known is not None
    num_people = config.identity_count
    random = torch_generator(seed, "identity_quality.views", feed.device)
    ws = make.draw_styles(views[:1].expand(num_people, -1), random)
    light = known.mean(dim=0).expand(num_people, -1)
    scenes = [Conditions(view.expand(num_people, -1), light) for view in views]
    features = _describe(make, ws, scenes, config, recognizer, batch, "several views")
    return {
        "identity_over_views": float(similarity_within_people(features)),
        "identity_over_views.others": float(similarity_between_people(features)),
    }


def _describe(
    make: LitImageMaker,
    ws: Float[Tensor, "p n w"],
    scenes: list[Conditions],
    config: IdentityQualityConfig,
    recognizer: FaceRecognizer,
    batch: int,
    where: str,
) -> Float[Tensor, "l p d"]:
    """What face recognition makes of everybody in every scene."""
    parts, places = [], range(0, len(ws), batch)
    for at in track(places, len(places), f"people in {where}", "batches"):
        some, seen = slice(at, at + batch), []
        for scene in scenes:
            assert scene.lights is not None
            shown = make.show(ws[some], Conditions(scene.labels[some], scene.lights[some]))
            pixels = to_bytes(shown).float() / 255.0
            seen.append(recognizer.describe(_faces(pixels, config)))
        parts.append(torch.stack(seen))
    return torch.cat(parts, dim=1)


def _network_id(config: IdentityQualityConfig, recognizer: FaceRecognizer) -> str:
    """Which network sees which part of pictures."""
    box = ""
    if config.identity_box != _FFHQ_BOX:
        box = "-box" + "-".join(f"{share:g}" for share in config.identity_box)
    return f"{box}-{recognizer.name}"


def _different(lights: Float[Tensor, "n l"]) -> Float[Tensor, "d l"]:
    """Each light once."""
    return lights.round(decimals=_LIGHT_DECIMALS).unique(dim=0)


def _deal_lights(
    lights: Float[Tensor, "d l"], config: IdentityQualityConfig, random: torch.Generator
) -> Float[Tensor, "g p l"]:
    """Draw a light of each group for each person; no two groups share a light."""
    num_groups, per_group = config.identity_lights, len(lights) // config.identity_lights
    order = torch.randperm(len(lights), generator=random, device=lights.device)
    groups = order[: num_groups * per_group].view(num_groups, per_group)
    shape = num_groups, config.identity_count
    drawn = torch.randint(per_group, shape, generator=random, device=lights.device)
    return lights[groups.gather(1, drawn)]


def _faces(
    pictures: Float[Tensor, "b 3 s s"], config: IdentityQualityConfig
) -> Float[Tensor, "b 3 f f"]:
    """Cut the box out, to whole pixels, of which there is at least one."""
    size = pictures.shape[-1]
    left, top, side = (round(share * size) for share in config.identity_box)
    left, top = min(left, size - 1), min(top, size - 1)
    side = min(max(side, 1), size - max(left, top))
    return pictures[..., top : top + side, left : left + side]

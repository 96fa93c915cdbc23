"""Measure whether generated people stay who they are in other lights."""

from __future__ import annotations

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
from vultus.metrics.identity_similarity import similarity_between_people, similarity_over_lights

__all__ = [
    "FaceRecognizer",
    "IdentityQualityConfig",
    "check_identity_lights",
    "identity_protocol",
    "measure_identity",
]

_FFHQ_BOX = (0.08, 0.0, 0.84)
_LIGHT_DECIMALS = 4
"""Lights that agree so far are one: labels in axes of cameras are turned, which rounds."""


@dataclass(frozen=True)
class IdentityQualityConfig:
    """How much is looked at."""

    identity_count: int = 0
    """People whose likeness in different lights is measured, by a network of face recognition; 0
    measures none."""
    identity_lights: int = 4
    """Different lights of the set that each of them is seen in, from the front."""
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
        left, top, side = self.identity_box
        if not (min(left, top) >= 0.0 and side > 0.0 and max(left, top) + side <= 1.0):
            raise ValueError(f"identity_box must lie in the picture, got {self.identity_box}")


@dataclass(frozen=True)
class FaceRecognizer:
    """A network that tells people apart."""

    name: str
    """Tells it apart from others; numbers of different networks do not compare."""
    describe: FaceDescriber


def identity_protocol(config: IdentityQualityConfig, recognizer: FaceRecognizer) -> str:
    """Id that every number carries."""
    box = ""
    if config.identity_box != _FFHQ_BOX:
        box = "-box" + "-".join(f"{share:g}" for share in config.identity_box)
    return f"identity-{config.identity_count}x{config.identity_lights}{box}-{recognizer.name}-v2"


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
    num_people = config.identity_count
    random = torch_generator(seed, "identity_quality", feed.device)
    lights = _deal_lights(_different(known), config, random)
    labels = frontal.expand(num_people, -1)
    ws = make.draw_styles(labels, random)
    parts = []
    places = range(0, num_people, batch)
    for at in track(places, len(places), "people in several lights", "batches"):
        some = slice(at, at + batch)
        views = []
        for light in lights[:, some]:
            pixels = to_bytes(make.show(ws[some], Conditions(labels[some], light)))
            views.append(recognizer.describe(_faces(pixels.float() / 255.0, config)))
        parts.append(torch.stack(views))
    features = torch.cat(parts, dim=1)
    return {
        "identity_similarity": float(similarity_over_lights(features)),
        "identity_similarity.others": float(similarity_between_people(features)),
    }


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

"""Measure whether generated heads show the light that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.image_io import to_bytes
from vultus.core.progress import track
from vultus.core.seeding import torch_generator
from vultus.data.image_feed import Conditions, ImageFeed, RealBatch
from vultus.data.light_labels import camera_to_head_lights, head_to_camera_lights
from vultus.metrics.light_probe import (
    LightProbe,
    fit_light_probe,
    light_correlation,
    light_distance,
    light_slope,
)
from vultus.nets.random_features import RandomFeatures
from vultus.nets.stylegan2.filters import resize_antialiased

__all__ = [
    "LightMeasurement",
    "LightQualityConfig",
    "LitImageMaker",
    "check_light_images",
    "light_protocol",
    "measure_lights",
]

_HELD_OUT = 4
"""One of so many real images is not fitted to."""
_LEAST_IMAGES = 40
_LAYOUT_SIZE = 8
"""Side of the small pictures that the probe sees beside random features."""
_SHOWN = 8
"""People whose pictures are kept."""


@runtime_checkable
class LitImageMaker(Protocol):
    """A generator whose heads can be lit and seen again."""

    def draw_styles(
        self, condition: Float[Tensor, "b 25"], random: torch.Generator
    ) -> Float[Tensor, "b n w"]:
        """Styles of random people who are conditioned on cameras."""
        ...

    def show(self, ws: Float[Tensor, "b n w"], conditions: Conditions) -> Float[Tensor, "b 3 s s"]:
        """Pictures of people in [0, 1]."""
        ...

    def show_real(self, real: RealBatch) -> Float[Tensor, "b 3 s s"]:
        """Real images in [0, 1], on the ground of generated ones."""
        ...


@dataclass(frozen=True)
class LightQualityConfig:
    """How much is looked at."""

    light_count: int = 1000
    """People whose light is measured; 0 measures no light."""
    light_views: int = 4
    """Cameras that see each of them."""

    def __post_init__(self) -> None:
        """Reject what measures nothing."""
        if self.light_count < 0 or self.light_count == 1 or self.light_views < 2:
            raise ValueError(
                "light_count must be 0 or at least 2 and light_views at least 2, got "
                f"{self.light_count} and {self.light_views}"
            )
        if not self.light_count and self.light_views != LightQualityConfig.light_views:
            raise ValueError("light_views needs light_count above 0")


@dataclass(frozen=True)
class LightMeasurement:
    """What was measured, and the first people that it was measured of."""

    figures: dict[str, float]
    pictures: Float[Tensor, "n 3 s s"]
    """People in [0, 1], each from one camera."""
    wanted: Float[Tensor, "n l"]
    """The lights that were asked for, in axes of these cameras."""
    found: Float[Tensor, "n l"]
    """The lights that the probe read off."""


def light_protocol(config: LightQualityConfig) -> str:
    """Id that every number carries.

    In v1 the people who were drawn depended on the batch.
    """
    return f"light-probe-{config.light_count}x{config.light_views}-v2"


def check_light_images(real: int) -> None:
    """Refuse too few real images before the long work.

    Raises:
        ValueError: Saying how many there must be.
    """
    if real < _LEAST_IMAGES:
        raise ValueError(f"lights need at least {_LEAST_IMAGES} real images, got {real}")


@torch.no_grad()
def measure_lights(
    make: LitImageMaker,
    feed: ImageFeed,
    config: LightQualityConfig,
    batch: int,
    seed: int = 0,
) -> LightMeasurement:
    """Ask for lights of the set, and read them off the pictures.

    A probe is fitted to three quarters of the real images. Of lights in axes of the cameras:
    ``light_error``, their mean distance whatever their strengths, ``light_correlation``, the mean
    over coefficients, and ``light_slope`` of the regression of found on wanted ones; all also for
    the other real images (``.real``), and the error of always answering the mean light
    (``light_error.blind``). ``light_instability`` is by how much the light of one head, brought
    into its axes, differs between cameras.

    Args:
        make: The generator.
        feed: Real images with lights.
        config: How much is looked at.
        batch: Pictures made at once; does not change what is drawn.
        seed: Of people, lights, cameras, and of what is fitted to.

    Raises:
        ValueError: If there are too few real images.
    """
    total = len(feed.labels)
    check_light_images(total)
    describe = _Describer().to(feed.device)
    places = [(at, min(batch, total - at)) for at in range(0, total, batch)]
    real = [
        (describe(to_bytes(make.show_real(images))), _seen_lights(images.conditions))
        for images in track(feed.batches(places), len(places), "real lights", "batches")
    ]
    features, lights = (torch.cat(parts) for parts in zip(*real, strict=True))
    held = torch.arange(total, device=feed.device) % _HELD_OUT == 0
    probe = fit_light_probe(features[~held], lights[~held], features[held], lights[held])
    people = _draw_people(make, feed, config, seed)
    read = _generated_lights(make, people, describe, probe, batch)
    found, wanted = read.found, read.wanted
    of_real, blind = probe(features[held]), probe.mean_light.to(lights).expand_as(lights[held])
    figures = {
        "light_error": float(light_distance(found, wanted).mean()),
        "light_error.real": float(light_distance(of_real, lights[held]).mean()),
        "light_error.blind": float(light_distance(blind, lights[held]).mean()),
        "light_correlation": float(light_correlation(found, wanted)),
        "light_correlation.real": float(light_correlation(of_real, lights[held])),
        "light_slope": float(light_slope(found, wanted)),
        "light_slope.real": float(light_slope(of_real, lights[held])),
        "light_instability": float(read.spread),
    }
    shown = slice(len(read.pictures))
    return LightMeasurement(figures, read.pictures, wanted[shown].cpu(), found[shown].cpu())


class _People(NamedTuple):
    """People who are looked at, each in one light."""

    ws: Float[Tensor, "p n w"]
    lights: Float[Tensor, "p l"]
    """In axes of the head."""
    labels: Float[Tensor, "v p 25"]
    """Cameras of every view, on the first of which people are conditioned."""


class _ReadLights(NamedTuple):
    """Lights of all pictures in axes of their cameras, view by view."""

    found: Float[Tensor, "n l"]
    wanted: Float[Tensor, "n l"]
    spread: Float[Tensor, ""]
    """Mean over people of how much their lights differ between cameras."""
    pictures: Float[Tensor, "m 3 s s"]
    """Of the first lights."""


class _Describer(torch.nn.Module):
    """What the probe sees of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.network = RandomFeatures()

    def forward(self, pixels: Tensor) -> Float[Tensor, "b d"]:
        """Describe pictures of bytes."""
        images = pixels.float() / 255.0
        layout = resize_antialiased(images, _LAYOUT_SIZE).flatten(1)
        return torch.cat([self.network(images), layout], dim=1)


def _seen_lights(conditions: Conditions) -> Float[Tensor, "b l"]:
    assert conditions.lights is not None
    return head_to_camera_lights(conditions.lights, conditions.labels)


def _draw_people(
    make: LitImageMaker, feed: ImageFeed, config: LightQualityConfig, seed: int
) -> _People:
    """Draw everybody at once, whatever the batch."""
    random = torch_generator(seed, "light_quality", feed.device)
    shape = config.light_views, config.light_count
    rows = torch.randint(len(feed.labels), shape, generator=random, device=feed.device)
    lights = feed.conditions.at(rows[0]).lights
    assert lights is not None
    labels = feed.conditions.labels[rows]
    return _People(make.draw_styles(labels[0], random), lights, labels)


def _generated_lights(
    make: LitImageMaker, people: _People, describe: _Describer, probe: LightProbe, batch: int
) -> _ReadLights:
    """Read off the lights of all people in all views, and keep pictures of the first people."""
    num_views, num_people = people.labels.shape[:2]
    parts, shown = [], []
    places = range(0, num_people, batch)
    for at in track(places, len(places), "generated lights", "batches"):
        some, views = slice(at, at + batch), []
        for view, labels in enumerate(people.labels[:, some]):
            seen = Conditions(labels, people.lights[some])
            pixels = to_bytes(make.show(people.ws[some], seen))
            if view == 0 and at < _SHOWN:
                shown.append(pixels[: _SHOWN - at].float().cpu() / 255.0)
            views.append(probe(describe(pixels)))
        parts.append(torch.stack(views))
    found, labels = torch.cat(parts, dim=1).flatten(0, 1), people.labels.flatten(0, 1)
    wanted = head_to_camera_lights(people.lights.repeat(num_views, 1), labels)
    in_head = camera_to_head_lights(found, labels).unflatten(0, (num_views, num_people))
    turned = torch.nn.functional.normalize(in_head, dim=2)
    spread = (turned - turned.mean(dim=0)).norm(dim=2).mean()
    return _ReadLights(found, wanted, spread, torch.cat(shown))

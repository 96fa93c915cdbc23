"""Inversion with light: who was generated, and in which light, is found again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from relight_heads import TINY, visible
from vultus.losses.pyramid import pyramid_distance
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.inversion import (
    LIGHT_EXTRA,
    InvertibleRelightable,
    LightSearch,
)
from vultus.methods.gsheadrelight.light_sources import named_light
from vultus.methods.head_views import ViewRig
from vultus.methods.inversion import (
    InversionConfig,
    InversionState,
    Invertible,
    StyleStatistics,
    find_pivot,
    style_statistics,
    tune_generator,
)

QUICK = InversionConfig(steps=60, tuning_steps=10, mean_samples=200, style_weight=0.0)
FRONT = named_light("front")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return visible(replace(TINY, background_points=0, channels=(16, 16, 8, 8)))


@pytest.fixture(scope="module")
def label() -> Tensor:
    return ViewRig().label(0.2)


@pytest.fixture(scope="module")
def ws(generator: Generator) -> Tensor:
    z = torch.randn(1, TINY.z_dim, generator=torch.Generator().manual_seed(3))
    return generator.map(z, ViewRig().label())


def photo_of(generator: Generator, ws: Tensor, light: Tensor, label: Tensor) -> Tensor:
    image = generator.render(generator.gaussians(ws), light[None], label).image
    return (0.5 * image + 0.5).clamp(0.0, 1.0)


def search(
    invertible: InvertibleRelightable, photo: Tensor, label: Tensor, config: InversionConfig
) -> list[InversionState]:
    statistics = style_statistics(invertible, ViewRig().label(), config.mean_samples)
    return list(find_pivot(invertible, photo, label, statistics, config, pyramid_distance))


def error(image: Tensor, target: Tensor) -> float:
    return float((image - target).square().mean())


def test_styles_and_light_of_a_generated_image_are_found(
    generator: Generator, ws: Tensor, label: Tensor
) -> None:
    light = 0.6 * FRONT
    photo = photo_of(generator, ws, light, label)
    invertible = InvertibleRelightable(generator, LightSearch(light_weight=0.0), FRONT)
    assert isinstance(invertible, Invertible)
    states = search(invertible, photo, label, QUICK)
    assert set(states[0].losses) == {"pixels", "distance", "style", "light"}
    assert error(states[-1].image, photo) < 0.1 * error(states[0].image, photo)


def test_the_brightness_of_the_light_is_found_for_a_known_head(
    generator: Generator, ws: Tensor, label: Tensor
) -> None:
    light = 0.6 * FRONT
    photo = photo_of(generator, ws, light, label)
    search_light = LightSearch(light_weight=0.0, light_rate=0.05)
    invertible = InvertibleRelightable(generator, search_light, FRONT)
    known = StyleStatistics(ws[0, 0], 0.0)
    config = replace(QUICK, learning_rate=1e-8, exploration=0.0, steps=80)
    states = list(find_pivot(invertible, photo, label, known, config, pyramid_distance))
    found = states[-1].found.extras[LIGHT_EXTRA]
    shown = [photo_of(generator, ws, each, label) for each in (FRONT, found)]
    assert error(shown[1], photo) < 0.01 * error(shown[0], photo)


def test_light_stays_where_it_is_told_to(generator: Generator, ws: Tensor, label: Tensor) -> None:
    photo = photo_of(generator, ws, FRONT, label)
    still = InvertibleRelightable(generator, LightSearch(light_rate=0.0), named_light("left"))
    states = search(still, photo, label, replace(QUICK, steps=3))
    assert torch.equal(states[-1].found.extras[LIGHT_EXTRA], named_light("left"))


def test_colored_light_has_nine_coefficients_for_each_color(generator: Generator) -> None:
    colored = InvertibleRelightable(generator, LightSearch(colored_light=True), FRONT)
    first = colored.first_extras(torch.Generator())[LIGHT_EXTRA]
    assert torch.equal(first, FRONT.expand(-1, 3))
    assert float(colored.penalties({LIGHT_EXTRA: first})["light"]) == 0.0
    assert float(colored.penalties({LIGHT_EXTRA: first + 1.0})["light"]) == pytest.approx(0.01)


def test_tuning_comes_closer_and_leaves_the_generator_alone(
    generator: Generator, ws: Tensor, label: Tensor
) -> None:
    photo = photo_of(generator, ws, named_light("above"), label)
    invertible = InvertibleRelightable(generator, LightSearch(), FRONT)
    config = replace(QUICK, steps=5, tuning_rate=3e-3)
    found = search(invertible, photo, label, config)[-1].found
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    tuned, states = tune_generator(invertible, found, photo, config, pyramid_distance)
    assert len(list(states)) == 10
    assert all(torch.equal(value, before[n]) for n, value in generator.state_dict().items())
    random = torch.Generator()
    with torch.no_grad():
        pivot, finished = (
            each.render(found.ws, found.label, found.extras, random) for each in (invertible, tuned)
        )
    assert error(finished, photo) < 0.9 * error(pivot, photo)


def test_searches_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValueError, match="light_rate must not be negative, got -1"):
        LightSearch(light_rate=-1.0)
    with pytest.raises(ValueError, match="light_weight must not be negative, got -1"):
        LightSearch(light_weight=-1.0)

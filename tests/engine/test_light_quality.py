"""Lights that are asked for, and what is measured of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tiny_image_sets import labels_at, png, write_files
from vultus.core.image_io import to_bytes
from vultus.data.image_choice import ChoiceConfig, choose_entries
from vultus.data.image_feed import Conditions, ImageFeed, RealBatch
from vultus.data.image_set import open_image_set
from vultus.data.light_labels import camera_to_head_lights, head_to_camera_lights
from vultus.engine.light_quality import LightQualityConfig, light_protocol, measure_lights
from vultus.geometry.spherical_harmonics import light_sh_basis
from vultus.metrics.light_probe import light_distance

SIZE, COUNT = 16, 240
QUICK = LightQualityConfig(light_count=60, light_views=3)


def balls(conditions: Conditions) -> Tensor:
    """White balls in [0, 1] as their cameras see them, without the factors of a cosine lobe."""
    assert conditions.lights is not None
    x = (torch.arange(SIZE) + 0.5) / SIZE * 2.0 - 1.0
    up, right = torch.meshgrid(-x, x, indexing="ij")
    into = (1.0 - right.square() - up.square()).clamp(min=0.0).sqrt()
    basis = light_sh_basis(torch.stack([right, -into, up], dim=-1), 2)
    seen = head_to_camera_lights(conditions.lights, conditions.labels)
    brightness = torch.einsum("hwk,bk->bhw", basis, seen) * (into > 0.0)
    return brightness[:, None].expand(-1, 3, -1, -1).clamp(0.0, 1.0)


def conditions_of(count: int) -> Conditions:
    random = torch.Generator().manual_seed(0)
    lights = 0.15 * torch.randn(count, 9, generator=random)
    lights[:, 0] += 1.2
    return Conditions(labels_at((torch.rand(count, generator=random) - 0.5).tolist()), lights)


@dataclass(frozen=True)
class Balls:
    """Every person is a ball; some answer with a light of their own."""

    fixed: Tensor | None = None

    def draw_styles(self, condition: Tensor, random: torch.Generator) -> Tensor:
        return torch.zeros(len(condition), 1, 1)

    def show(self, ws: Tensor, conditions: Conditions) -> Tensor:
        if self.fixed is not None:
            conditions = Conditions(conditions.labels, self.fixed.expand(len(ws), -1))
        return balls(conditions)

    def show_real(self, real: RealBatch) -> Tensor:
        return real.pixels.float() / 255.0


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> ImageFeed:
    known = conditions_of(COUNT)
    names = [f"{index:03d}.png" for index in range(COUNT)]
    files = {n: png(p) for n, p in zip(names, to_bytes(balls(known)), strict=True)}
    rows = [[n, label.tolist()] for n, label in zip(names, known.labels, strict=True)]
    files["dataset.json"] = json.dumps({"labels": rows}).encode()
    images = open_image_set(write_files(tmp_path_factory.mktemp("lights") / "set", files))
    entries = choose_entries(images.labels, ChoiceConfig(mirror=False), 0, known.lights)
    return ImageFeed(images, entries, 0)


def test_who_shows_the_light_asked_for_is_as_good_as_real_pictures(feed: ImageFeed) -> None:
    found = measure_lights(Balls(), feed, QUICK, 30).figures
    assert found["light_correlation.real"] > 0.8
    assert found["light_correlation"] > 0.8
    assert found["light_error"] < 0.6 * found["light_error.blind"]
    assert found["light_error"] == pytest.approx(found["light_error.real"], rel=0.5)
    assert found["light_slope"] == pytest.approx(found["light_slope.real"], abs=0.15)
    assert 0.6 < found["light_slope"] < 1.1
    assert found == measure_lights(Balls(), feed, QUICK, 30).figures


def test_who_does_not_listen_is_no_better_than_blind(feed: ImageFeed) -> None:
    known = feed.conditions.lights
    assert known is not None
    deaf = measure_lights(Balls(fixed=known[:1]), feed, QUICK, 30).figures
    obeying = measure_lights(Balls(), feed, QUICK, 30).figures
    assert abs(deaf["light_slope"]) < 0.3
    assert abs(deaf["light_correlation"]) < 0.35
    assert deaf["light_error"] > 0.9 * deaf["light_error.blind"]
    assert deaf["light_error.real"] == obeying["light_error.real"]


def test_people_are_kept_with_the_lights_that_they_were_asked_for(feed: ImageFeed) -> None:
    kept = measure_lights(Balls(), feed, QUICK, 30)
    assert len(kept.pictures) == len(kept.wanted) == len(kept.found) == 8
    frontal = labels_at([0.0]).expand(8, -1)
    labels = Conditions(frontal, camera_to_head_lights(kept.wanted, frontal))
    assert torch.equal(to_bytes(balls(labels)), to_bytes(kept.pictures))
    errors = light_distance(kept.found, kept.wanted)
    assert float(errors.mean()) < 0.6 * kept.figures["light_error.blind"]


def test_neither_figures_nor_pictures_depend_on_the_batch(feed: ImageFeed) -> None:
    class Tinted(Balls):
        """People differ in how much light they throw back."""

        def draw_styles(self, condition: Tensor, random: torch.Generator) -> Tensor:
            return 0.5 + 0.5 * torch.rand(len(condition), 1, 1, generator=random)

        def show(self, ws: Tensor, conditions: Conditions) -> Tensor:
            return ws[..., None] * balls(conditions)

    at_once = measure_lights(Tinted(), feed, QUICK, QUICK.light_count)
    for batch in (3, 25):
        parts = measure_lights(Tinted(), feed, QUICK, batch)
        assert parts.figures == pytest.approx(at_once.figures, rel=1e-3)
        assert torch.equal(parts.pictures, at_once.pictures)
        assert torch.equal(parts.wanted, at_once.wanted)
        torch.testing.assert_close(parts.found, at_once.found, rtol=1e-3, atol=1e-3)
    assert len(at_once.pictures) == 8


def test_light_that_follows_the_camera_is_instable(feed: ImageFeed) -> None:
    class Following(Balls):
        def show(self, ws: Tensor, conditions: Conditions) -> Tensor:
            front = labels_at([0.0]).expand(len(ws), -1)
            return balls(Conditions(front, conditions.lights))

    steady = measure_lights(Balls(), feed, QUICK, 30).figures["light_instability"]
    following = measure_lights(Following(), feed, QUICK, 30).figures["light_instability"]
    assert following > 1.3 * steady


def test_protocols_name_what_decides_and_contradictions_are_refused(feed: ImageFeed) -> None:
    assert light_protocol(QUICK) == "light-probe-60x3-v2"
    with pytest.raises(ValueError, match="light_views at least 2, got 10 and 1"):
        LightQualityConfig(10, 1)
    with pytest.raises(ValueError, match="light_views needs light_count above 0"):
        LightQualityConfig(0, 3)
    few = ImageFeed(
        feed.images,
        choose_entries(
            feed.labels, ChoiceConfig(mirror=False, max_images=9), 0, feed.conditions.lights
        ),
        0,
    )
    with pytest.raises(ValueError, match="at least 40 real images, got 9"):
        measure_lights(Balls(), few, QUICK, 30)

"""Random people in given lights, and real ones on the same ground."""

from __future__ import annotations

import pytest
import torch

from relight_heads import built, visible
from vultus.data.camera_labels import look_at_labels
from vultus.data.image_feed import Conditions, RealBatch
from vultus.engine.background_quality import (
    BackgroundSwapConfig,
    SceneryMaker,
    measure_background_swap,
)
from vultus.methods.gsheadrelight.random_images import RandomImages, SceneryImages

LIGHTS = torch.cat([torch.full((2, 1), 0.5), torch.zeros(2, 8)], dim=1)
YAW = torch.tensor([0.0, 0.3])
SEEN = Conditions(
    look_at_labels(YAW, 0.1 * YAW, target=torch.zeros(3), radius=2.7, focal=1.5), LIGHTS
)


WIDE = look_at_labels(YAW[:1], YAW[:1], target=torch.zeros(3), radius=2.7, focal=0.5)
"""Sees scenery, too."""


def real() -> RealBatch:
    pixels = torch.full((2, 4, 32, 32), 200, dtype=torch.uint8)
    pixels[:, 3, :, :16], pixels[:, 3, :, 16:] = 0, 255
    return RealBatch(pixels, SEEN)


def test_both_sides_are_over_black() -> None:
    make = RandomImages(visible())
    shown = make.show_real(real())
    assert torch.equal(shown[..., :16], torch.zeros(2, 3, 32, 16))
    assert torch.allclose(shown[..., 16:], torch.full((2, 3, 32, 16), 200 / 255))
    dark = Conditions(SEEN.labels, torch.zeros_like(LIGHTS))
    people = make(dark, SEEN.labels, torch.Generator().manual_seed(0), has_offset=True)
    assert torch.allclose(people, torch.zeros_like(people))
    assert make.ground == "black"


def test_scenery_is_shown_on_both_sides_or_on_none() -> None:
    make = RandomImages(built(), has_scenery=True)
    assert make.ground == "shown"
    assert torch.allclose(make.show_real(real()), torch.full((2, 3, 32, 32), 200 / 255))
    ws = make.draw_styles(SEEN.labels, torch.Generator().manual_seed(0))
    plain = RandomImages(make.generator).show(ws, SEEN)
    assert not torch.allclose(make.show(ws, SEEN), plain)


def test_brightness_follows_the_light() -> None:
    make = RandomImages(visible())
    ws = make.draw_styles(SEEN.labels, torch.Generator().manual_seed(0))
    one, two = (make.show(ws, Conditions(SEEN.labels, f * LIGHTS)) for f in (0.5, 1.0))
    assert torch.allclose(two, 2.0 * one, atol=1e-5)
    with pytest.raises(ValueError, match="conditions must have lights"):
        make.show(ws, Conditions(SEEN.labels))


def test_a_person_before_the_scenery_of_others_is_the_same_head() -> None:
    """What each picture shows is the head over what it would be without it."""
    generator = built()
    make = SceneryImages(generator, LIGHTS[0])
    assert isinstance(make, SceneryMaker)
    z = torch.randn(3, make.z_dim, generator=torch.Generator().manual_seed(2))
    label = WIDE
    pictures, head = make.before_backgrounds(z[:1], z[1:], label)
    assert not torch.allclose(pictures[0], pictures[1])
    assert bool((head > 0.0).any())
    own, other = (generator.map(z[k : k + 1], label) for k in (0, 2))
    mixed = torch.cat([own[:, :-1], other[:, -1:]], dim=1)
    shown = RandomImages(generator, has_scenery=True).show(mixed, Conditions(label, LIGHTS[:1]))
    assert torch.allclose(pictures[1:], shown, atol=1e-6)
    swapped, _ = make.before_backgrounds(z[:1], z[1:].flip(0), label)
    assert torch.allclose(swapped.flip(0), pictures, atol=1e-6)


def test_what_changes_with_scenery_is_outside_of_heads() -> None:
    make = SceneryImages(visible(), LIGHTS[0])
    found = measure_background_swap(make, WIDE, BackgroundSwapConfig(swap_count=4))
    assert found["background_swap_outside"] > 0.0
    assert found["background_swap_head"] < 0.5 * found["background_swap_outside"]

"""Random people in given lights, and real ones on the same ground."""

from __future__ import annotations

import pytest
import torch

from relight_heads import built, visible
from vultus.data.camera_labels import look_at_labels
from vultus.data.image_feed import Conditions, RealBatch
from vultus.methods.gsheadrelight.random_images import RandomImages

LIGHTS = torch.cat([torch.full((2, 1), 0.5), torch.zeros(2, 8)], dim=1)
YAW = torch.tensor([0.0, 0.3])
SEEN = Conditions(
    look_at_labels(YAW, 0.1 * YAW, target=torch.zeros(3), radius=2.7, focal=1.5), LIGHTS
)


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

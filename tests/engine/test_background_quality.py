"""Heads before the backgrounds of others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tiny_generators import tiny_generator
from vultus.data.cropping.detectors import Photograph
from vultus.engine.background_quality import (
    BackgroundSwapConfig,
    PersonFinder,
    SceneryMaker,
    measure_background_swap,
    swap_protocol,
)
from vultus.methods.head_views import ViewRig
from vultus.methods.spherehead.random_images import RandomImages

FRONTAL = ViewRig().label()
FEW = BackgroundSwapConfig(swap_count=5)

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Disc:
    """A bright disc whose middle lets ``share`` of the background through."""

    share: float
    z_dim: int = 4

    def before_backgrounds(self, z: Tensor, others: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        assert torch.equal(label, FRONTAL)
        place = (torch.arange(32) + 0.5) / 32 - 0.5
        mask = (place[:, None].square() + place.square() < 0.1).float()[None, None]
        behind = others[:, :3].sigmoid()[:, :, None, None]
        head = (1.0 - self.share) * 0.9 + self.share * behind
        return mask * head + (1.0 - mask) * behind, mask


def find_bright(photo: Photograph) -> Tensor:
    return (photo.rgb.amin(dim=0, keepdim=True) > 0.85).float()


def test_heads_that_let_backgrounds_through_are_found_out() -> None:
    finder = PersonFinder("bright", find_bright)
    solid, half = (measure_background_swap(Disc(s), FRONTAL, FEW, finder) for s in (0.0, 0.5))
    assert solid["background_swap_head"] == 0.0
    assert solid["background_swap_mask"] == 0.0
    outside = solid["background_swap_outside"]
    assert outside > 0.1
    assert half["background_swap_outside"] == outside
    # Bytes round a little.
    assert half["background_swap_head"] == pytest.approx(0.5 * outside, rel=0.05)
    assert swap_protocol(BackgroundSwapConfig()) == "background-swap-64-v1"
    assert swap_protocol(FEW) == "background-swap-5-v1"
    assert swap_protocol(FEW, finder) == "background-swap-5-bright-v1"


def test_masks_that_change_with_the_background_are_found_out() -> None:
    """Half of the disc's area is lost before dark backgrounds, and none before bright ones."""

    def find_all_or_nothing(photo: Photograph) -> Tensor:
        is_dark = bool(photo.rgb[:, 0, 0].mean() < 0.5)
        return torch.full((1, *photo.rgb.shape[1:]), 0.5 if is_dark else 1.0)

    finder = PersonFinder("moody", find_all_or_nothing)
    values = measure_background_swap(Disc(0.0), FRONTAL, BackgroundSwapConfig(40), finder)
    # About half of the pairs have one of each.
    assert 0.25 * 0.2 < values["background_swap_mask"] < 0.25 * 0.8
    blind = PersonFinder("blind", lambda photo: None)
    with pytest.raises(ValueError, match="blind: finds nobody in the picture of person 0"):
        measure_background_swap(Disc(0.0), FRONTAL, FEW, blind)
    with pytest.raises(ValueError, match="swap_count must be at least 0, got -1"):
        BackgroundSwapConfig(-1)


def test_a_generator_is_measured_whose_heads_are_more_or_less_solid() -> None:
    generator = tiny_generator()
    generator.decoder.out.weight.data[0] *= 0.0
    make, values = RandomImages(generator), {}
    assert isinstance(make, SceneryMaker)
    for name, density in (("glass", -40.0), ("veil", 1.3), ("solid", 200.0)):
        generator.decoder.out.bias.data[0] = density
        values[name] = measure_background_swap(make, FRONTAL, FEW)
    # The box fills the picture: glass has no head, what is solid has nothing outside.
    whole = values["glass"]["background_swap_outside"]
    assert whole > 0.05
    assert values["glass"]["background_swap_head"] == 0.0
    assert 0.2 * whole < values["veil"]["background_swap_head"] < 0.8 * whole
    assert values["solid"] == {"background_swap_head": 0.0, "background_swap_outside": 0.0}
    generator.decoder.out.bias.data[0] = 1.3
    assert measure_background_swap(make, FRONTAL, FEW) == values["veil"]
    assert measure_background_swap(make, FRONTAL, FEW, seed=1) != values["veil"]

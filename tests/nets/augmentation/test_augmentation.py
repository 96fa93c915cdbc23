"""Transformations of discriminator augmentation: identities, statistics, gradients, control."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from vultus.nets.augmentation.control import AugmentationConfig, AugmentationControl
from vultus.nets.augmentation.draws import TransformConfig, draw_colors, draw_geometry
from vultus.nets.augmentation.warp import transform_colors, warp_images

NONE = TransformConfig(**dict.fromkeys((f.name for f in fields(TransformConfig)), 0.0))
ONE = torch.tensor(1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrices(*rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows)


def smooth(size: int, batch: int = 1) -> Tensor:
    """Waves that are well below the finest."""
    place = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(place, place, indexing="ij")
    picture = torch.stack([(3.0 * x + 1.0).sin(), (4.0 * y - x).cos(), (2.0 * x * y).sin()])
    return picture.expand(batch, 3, size, size)


def turn(angle: float) -> Tensor:
    sine, cosine = math.sin(angle), math.cos(angle)
    return matrices([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("border", ["reflect", "zero"])
def test_the_identity_gives_back_any_image(border) -> None:
    images = torch.rand(2, 4, 16, 16, generator=seeded())
    found = warp_images(images, torch.eye(3).expand(2, 3, 3), border)
    assert torch.allclose(found, images, atol=1e-5)


def test_flips_turns_and_whole_shifts_move_pixels() -> None:
    images = smooth(32)
    flipped = warp_images(images, matrices([[-1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]))
    assert torch.allclose(flipped, images.flip(3), atol=0.02)
    # Positions in the result are turned by a quarter, x towards y, to those they come from.
    turned = warp_images(images, turn(math.pi / 2))
    assert torch.allclose(turned, images.rot90(1, (2, 3)), atol=0.02)
    moved = warp_images(images, matrices([[1.0, 0, 4 / 32], [0, 1.0, -2 / 32], [0, 0, 1.0]]))
    inside = slice(4, -4)
    rolled = images.roll((2, -4), (2, 3))
    assert torch.allclose(moved[..., inside, inside], rolled[..., inside, inside], atol=1e-5)


def test_beyond_the_border_is_the_reflection_or_nothing() -> None:
    images = torch.ones(1, 1, 16, 16)
    shrunk = matrices([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]])
    assert torch.allclose(warp_images(images, shrunk), images, atol=1e-4)
    seen = warp_images(images, shrunk, "zero")
    assert torch.allclose(seen[..., 6:10, 6:10], torch.ones(4, 4), atol=0.02)
    assert float(seen[..., :2, :].abs().max()) < 0.02


def test_one_draw_fits_images_of_several_sizes() -> None:
    inverse = draw_geometry(6, 64, ONE, TransformConfig(), seeded(3))
    large = warp_images(smooth(64, 6), inverse)
    small = warp_images(smooth(32, 6), inverse)
    averaged = torch.nn.functional.avg_pool2d(large, 2)
    assert float((averaged - small).abs().mean()) < 0.02


def test_warps_have_first_and_second_derivatives() -> None:
    inverse = draw_geometry(1, 8, ONE, TransformConfig(), seeded(1)).double()
    images = torch.rand(1, 1, 8, 8, generator=seeded(), dtype=torch.float64, requires_grad=True)

    def squared(x: Tensor) -> Tensor:
        return warp_images(x, inverse).square().sum()

    assert gradcheck(lambda x: warp_images(x, inverse), images)
    assert gradgradcheck(squared, images)


def test_without_probability_nothing_happens() -> None:
    zero = torch.tensor(0.0)
    assert torch.equal(
        draw_geometry(5, 64, zero, TransformConfig(), seeded()), torch.eye(3).expand(5, 3, 3)
    )
    expected = torch.eye(3, 4).expand(5, 3, 4)
    assert torch.allclose(draw_colors(5, zero, TransformConfig(), seeded()), expected, atol=1e-6)


def test_turns_together_are_as_likely_as_one() -> None:
    config = replace(NONE, rotation=1.0)
    drawn = draw_geometry(20_000, 64, torch.tensor(0.4), config, seeded())
    share = (drawn[:, 0, 1].abs() > 1e-6).float().mean()
    assert float(share) == pytest.approx(0.4, abs=0.015)
    assert torch.allclose(drawn[:, :2, :2].det(), torch.ones(20_000), atol=1e-5)


def test_geometry_has_the_published_spread() -> None:
    def drawn(**multipliers: float) -> Tensor:
        return draw_geometry(20_000, 64, ONE, replace(NONE, **multipliers), seeded())

    assert float((drawn(flip=1.0)[:, 0, 0] < 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    angles = torch.atan2(*drawn(quarter_turn=1.0)[:, :2, 0].flip(1).unbind(1))
    quarters = (angles / (math.pi / 2)).round().long() % 4
    assert (quarters.bincount() / 20_000 - 0.25).abs().max() < 0.02
    moved = drawn(whole_shift=1.0)[:, :2, 2] * 64
    assert torch.allclose(moved, moved.round(), atol=1e-4)
    assert float(moved.abs().max()) == 8.0
    assert float(drawn(scale=1.0)[:, 0, 0].log2().std()) == pytest.approx(0.2, rel=0.03)
    stretched = drawn(stretch=1.0)
    assert torch.allclose(stretched[:, 0, 0] * stretched[:, 1, 1], torch.ones(20_000), atol=1e-5)
    assert float(drawn(shift=1.0)[:, :2, 2].std()) == pytest.approx(0.125, rel=0.03)


def test_colours_have_the_published_spread_and_keep_what_they_must() -> None:
    def drawn(**multipliers: float) -> Tensor:
        return draw_colors(20_000, ONE, replace(NONE, **multipliers), seeded())

    grey = torch.ones(3)
    bright = drawn(brightness=1.0)[:, :, 3]
    assert float(bright.std()) == pytest.approx(0.2, rel=0.03)
    assert float((bright - bright[:, :1]).abs().max()) == 0.0
    assert float(drawn(contrast=1.0)[:, 1, 1].log2().std()) == pytest.approx(0.5, rel=0.03)
    # Inverting brightness turns grey into its negative and leaves the chroma.
    inverted = drawn(luma_flip=1.0)[:, :, :3]
    signs = (inverted @ grey)[:, 0]
    assert torch.allclose(signs.abs(), torch.ones(20_000), atol=1e-5)
    assert float((signs < 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    chroma = torch.tensor([1.0, -1.0, 0.0])
    assert torch.allclose(inverted @ chroma, chroma.expand(20_000, 3), atol=1e-5)
    hue = drawn(hue=1.0)[:, :, :3]
    assert torch.allclose(hue @ hue.transpose(1, 2), torch.eye(3).expand(20_000, 3, 3), atol=1e-5)
    assert torch.allclose(hue @ grey, grey.expand(20_000, 3), atol=1e-5)
    vivid = drawn(saturation=1.0)[:, :, :3]
    assert torch.allclose(vivid @ grey, grey.expand(20_000, 3), atol=1e-5)
    factor = (vivid @ chroma)[:, 0]
    assert float(factor.log2().std()) == pytest.approx(1.0, rel=0.03)
    images = torch.rand(2, 3, 4, 4, generator=seeded())
    matrix = drawn(hue=1.0, brightness=1.0)[:2]
    by_pixel = (
        torch.einsum("bij,bjhw->bihw", matrix[:, :, :3], images) + matrix[:, :, 3, None, None]
    )
    assert torch.allclose(transform_colors(images, matrix), by_pixel, atol=1e-6)


def test_the_probability_rises_while_real_images_are_recognised() -> None:
    config = AugmentationConfig(mode="adaptive", speed=1000, update_every=4)
    control = AugmentationControl(config)
    for step, sign in enumerate([0.5, 0.5, 0.9, 0.9], start=1):
        assert float(control.probability) == 0.0
        control.update(torch.tensor(sign), step, batch=10)
    # Their mean is above the target of 0.6: 40 of 1000 images.
    assert float(control.probability) == pytest.approx(0.04)
    for step in range(5, 13):
        control.update(torch.tensor(0.1), step, batch=10)
    assert float(control.probability) == 0.0
    fixed = AugmentationControl(replace(config, mode="fixed", probability=0.3))
    fixed.update(torch.tensor(1.0), 4, batch=1000)
    assert float(fixed.probability) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (AugmentationConfig, {"probability": 1.5}),
        (AugmentationConfig, {"speed": 0}),
        (TransformConfig, {"hue": -1.0}),
    ],
)
def test_what_is_no_probability_is_refused(config, wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        config(**wrong)

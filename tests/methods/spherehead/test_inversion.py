"""Inversion: what was generated is found again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_generators import TINY, tiny_generator
from vultus.core.seeding import torch_generator
from vultus.losses.pyramid import pyramid_distance
from vultus.methods.head_views import ViewRig
from vultus.methods.inversion import (
    InversionConfig,
    InversionState,
    Invertible,
    StyleStatistics,
    find_pivot,
    moved_label,
    style_statistics,
    tune_generator,
)
from vultus.methods.spherehead.generator import Generator
from vultus.methods.spherehead.inversion import (
    InvertibleSphereHead,
    NoiseSearch,
    noise_correlation,
)
from vultus.methods.spherehead.sampling import HeadSampler, SamplingSettings

QUICK = InversionConfig(steps=60, tuning_steps=10, mean_samples=200)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


@pytest.fixture(scope="module")
def invertible(generator: Generator) -> InvertibleSphereHead:
    return InvertibleSphereHead(generator)


@pytest.fixture(scope="module")
def label() -> Tensor:
    return ViewRig().label(0.2)


@pytest.fixture(scope="module")
def statistics(invertible: InvertibleSphereHead) -> StyleStatistics:
    return style_statistics(invertible, ViewRig().label(), QUICK.mean_samples)


def render(generator: Any, ws: Tensor, label: Tensor) -> Tensor:
    draws = generator.draw(1, torch_generator(5, "test"))
    with torch.no_grad():
        images = generator.render(generator.planes(ws), ws, label, draws)
    return (0.5 * images.image + 0.5).clamp(0, 1)


@pytest.fixture(scope="module")
def photo(generator: Generator, label: Tensor) -> Tensor:
    z = torch.randn(1, generator.config.z_dim, generator=torch.Generator().manual_seed(3))
    return render(generator, generator.map(z, ViewRig().label()), label)


def last(states: list[InversionState]) -> InversionState:
    return states[-1]


def error(image: Tensor, target: Tensor) -> float:
    return float((image - target).square().mean())


@pytest.mark.parametrize("space", ["w", "w+"])
def test_styles_of_a_generated_image_are_found(
    invertible, generator, photo, label, statistics, space
):
    config = replace(QUICK, space=space)
    states = list(find_pivot(invertible, photo, label, statistics, config, pyramid_distance))
    assert [state.step for state in states] == list(range(1, 61))
    mean = statistics.mean.expand(1, invertible.num_ws, -1)
    before = error(render(invertible.network, mean, label), photo)
    found = last(states).found
    after = error(render(invertible.network, found.ws, found.label), photo)
    assert after < 0.5 * before
    assert torch.equal(found.label, label)
    spread = float((found.ws - found.ws[:, :1]).abs().max())
    assert (spread == 0.0) == (space == "w")
    assert set(states[0].losses) == {"pixels", "distance", "style"}


def test_tuning_comes_closer_and_leaves_the_generator_alone(
    invertible, generator, photo, label, statistics
):
    config = replace(QUICK, steps=10, tuning_rate=3e-3)
    found = last(
        list(find_pivot(invertible, photo, label, statistics, config, pyramid_distance))
    ).found
    before = {name: value.clone() for name, value in invertible.network.state_dict().items()}
    tuned, states = tune_generator(invertible, found, photo, config, pyramid_distance)
    assert len(list(states)) == 10
    assert all(
        torch.equal(value, before[n]) for n, value in invertible.network.state_dict().items()
    )
    assert not any(parameter.requires_grad for parameter in tuned.network.parameters())
    pivot, finished = (
        render(each, found.ws, found.label) for each in (invertible.network, tuned.network)
    )
    assert error(finished, photo) < 0.9 * error(pivot, photo)


def test_the_camera_is_refined_when_that_is_asked_for(
    invertible, generator, photo, label, statistics
):
    wrong = moved_label(label, torch.tensor([0.0, 0.12, 0.0, 0.0, 0.0, 0.0]))
    z = torch.randn(1, invertible.z_dim, generator=torch.Generator().manual_seed(3))
    own = StyleStatistics(invertible.network.map(z, ViewRig().label())[0, 0], statistics.deviation)
    config = replace(
        QUICK, steps=80, camera_rate=0.02, learning_rate=1e-6, exploration=0.0, style_weight=0.0
    )
    found = last(list(find_pivot(invertible, photo, wrong, own, config, pyramid_distance))).found
    yaws = [float(torch.atan2(each[0, 3], each[0, 11])) for each in (wrong, found.label)]
    assert abs(yaws[1] - 0.2) < 0.3 * abs(yaws[0] - 0.2)
    before, after = (
        error(render(invertible.network, found.ws, c), photo) for c in (wrong, found.label)
    )
    assert after < 0.5 * before


def test_the_mean_offset_moves_the_camera_of_the_search(generator, label):
    """A camera without offset, moved by it, sees what the search sees with it."""
    generator = tiny_generator(replace(TINY, camera_offset_scale=0.5))
    frontal = ViewRig().label()
    moved = InvertibleSphereHead.open(generator, NoiseSearch(camera_offset="mean"), frontal)
    plain = InvertibleSphereHead.open(generator, NoiseSearch(), frontal)
    z = torch.randn(1000, 8, generator=torch.Generator().manual_seed(123))
    offset = generator.offset_labels(z, frontal.expand(1000, -1))[1].mean(dim=0, keepdim=True)
    assert float(offset.norm()) > 0.01
    ws = generator.map(z[:1], frontal)
    shifted = label.clone()
    shifted[:, [3, 7, 11]] += offset

    def seen(by: InvertibleSphereHead, camera: Tensor) -> Tensor:
        return by.render(ws, camera, {}, torch_generator(1, "test"))

    assert torch.allclose(seen(moved, label), seen(plain, shifted), atol=1e-5)
    assert torch.equal(seen(moved.copy({}), label), seen(moved, label))
    assert not torch.allclose(seen(moved, label), seen(plain, label), atol=1e-3)
    settings = SamplingSettings(truncation=1.0, camera_offset="mean")
    sampler = HeadSampler(generator, ViewRig(), settings)
    shown = sampler.seen_label(sampler.head(sampler.people_of_styles(ws)), label)
    assert torch.allclose(shown, shifted, atol=1e-6)
    bare = tiny_generator(replace(TINY, has_camera_offset=False))
    with pytest.raises(ValueError, match="camera_offset must be 'none' with this generator"):
        InvertibleSphereHead.open(bare, NoiseSearch(camera_offset="mean"), frontal)


def test_noise_is_found_with_zero_mean_and_unit_square(generator, photo, label, statistics):
    config, noisy = replace(QUICK, steps=3), NoiseSearch(optimize_noise=True)
    invertible = InvertibleSphereHead(generator, noisy)
    buffers = {n: b.clone() for n, b in generator.named_buffers() if n.endswith("noise")}
    states = list(find_pivot(invertible, photo, label, statistics, config, pyramid_distance))
    assert "noise" in states[0].losses
    noise = last(states).found.extras
    assert noise
    assert set(noise) <= set(buffers)
    for name, each in noise.items():
        assert abs(float(each.mean())) < 1e-5
        assert abs(float(each.square().mean()) - 1) < 1e-4
        assert torch.equal(dict(generator.named_buffers())[name], buffers[name])
    tuned, _ = tune_generator(invertible, last(states).found, photo, config, pyramid_distance)
    name = next(iter(noise))
    assert torch.equal(dict(tuned.network.named_buffers())[name], noise[name])


def test_only_what_the_mask_shows_counts(invertible, photo, label, statistics):
    mask = torch.zeros_like(photo[:, :1])
    config = replace(QUICK, steps=1, style_weight=0.0)
    states = find_pivot(invertible, photo, label, statistics, config, pyramid_distance, mask=mask)
    assert next(states).losses == {"pixels": 0.0, "distance": 0.0, "style": 0.0}


def test_two_searches_from_one_seed_give_the_same_bits(
    invertible, generator, photo, label, statistics
):
    config = replace(QUICK, steps=4)
    runs = [
        last(
            list(find_pivot(invertible, photo, label, statistics, config, pyramid_distance, seed=s))
        )
        for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0].found.ws, runs[1].found.ws)
    assert not torch.equal(runs[0].found.ws, runs[2].found.ws)


def test_statistics_are_those_of_many_styles(invertible, generator):
    few = style_statistics(invertible, ViewRig().label(), 500)
    z = torch.randn(3000, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    w = generator.map(z, ViewRig().label().expand(3000, -1))[:, 0]
    assert float((few.mean - w.mean(0)).norm()) < 0.2 * few.deviation
    deviation = float((w - w.mean(0)).square().sum(1).mean().sqrt())
    assert few.deviation == pytest.approx(deviation, rel=0.1)


def test_a_moved_camera_looks_at_a_turned_head(label):
    quarter = torch.tensor([0.0, torch.pi / 2, 0.0, 0.0, 0.0, 0.0])
    expected = ViewRig().label(0.2 + torch.pi / 2)
    torch.testing.assert_close(moved_label(label, quarter), expected, atol=1e-5, rtol=0)
    shift = moved_label(label, torch.tensor([0.0, 0, 0, 0.1, 0.2, 0.3])) - label
    assert shift[0, [3, 7, 11]].tolist() == pytest.approx([0.1, 0.2, 0.3], abs=1e-6)


def test_correlated_noise_is_told_from_white():
    white = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(white[None, None], 5, 1, 2)[0, 0]
    smooth = smooth / smooth.square().mean().sqrt()
    assert float(noise_correlation(smooth)) > 20 * float(noise_correlation(white))


def test_rays_that_cannot_begin_there_are_refused_before_the_work():
    with pytest.raises(ValueError, match=r"limits must rise"):
        InvertibleSphereHead(tiny_generator(), NoiseSearch(nearest=9.0))
    boxed = replace(TINY, volume=replace(TINY.volume, representation="tri_plane", limits="box"))
    with pytest.raises(ValueError, match="rays of this generator begin at its box"):
        InvertibleSphereHead(tiny_generator(boxed), NoiseSearch(nearest=2.3))
    with pytest.raises(ValueError, match="noise_weight must not be negative, got -1"):
        NoiseSearch(noise_weight=-1.0)


def test_it_can_be_inverted(invertible):
    assert isinstance(invertible, Invertible)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"tuning_steps": -1}, "tuning_steps must not be negative"),
        ({"warm_up": 1.5}, r"warm_up must be in \[0, 1\]"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"camera_rate": -1.0}, "camera_rate must not be negative"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(InversionConfig(), **changes)

"""Fréchet distance of features, against closed forms and SciPy; features of the untrained net."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from vultus.metrics.frechet import FeatureStatistics, frechet_distance
from vultus.nets.random_features import RandomFeatures


def drawn(seed: int, count: int = 400, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mixing + 0.3 * seed


def test_statistics_do_not_depend_on_batches() -> None:
    features = drawn(0)
    whole = FeatureStatistics.of([features])
    parts = FeatureStatistics.of(features.split(33))
    assert parts.count == whole.count == 400
    centered = features.double() - features.double().mean(dim=0)
    assert torch.allclose(parts.mean(), features.double().mean(dim=0))
    assert torch.allclose(parts.covariance(), centered.T @ centered / 400)
    assert torch.allclose(parts.covariance(), whole.covariance())


def test_distance_is_that_of_the_definition() -> None:
    first, second = (FeatureStatistics.of([drawn(seed)]) for seed in (1, 2))
    one, other = first.covariance().numpy(), second.covariance().numpy()
    root = scipy.linalg.sqrtm(one @ other)
    gap = (first.mean() - second.mean()).numpy()
    expected = gap @ gap + np.trace(one + other - 2.0 * np.real(root))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-8)


def test_a_shift_counts_with_its_square_and_a_set_is_no_distance_from_itself() -> None:
    features = drawn(3)
    first = FeatureStatistics.of([features])
    assert frechet_distance(first, FeatureStatistics.of([features])) == pytest.approx(0, abs=1e-9)
    moved = FeatureStatistics.of([features.double() + 2.0])
    assert frechet_distance(first, moved) == pytest.approx(6 * 4.0)
    few = FeatureStatistics.of([features[:3]])
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="features must be added"):
        FeatureStatistics().mean()


def test_features_of_the_untrained_network_tell_sets_apart() -> None:
    network = RandomFeatures()
    weights = [weight.clone() for weight in network.buffers()]
    for mine, same in zip(weights, RandomFeatures().buffers(), strict=True):
        assert torch.equal(mine, same)
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.rand(600, 3, 4, 4, generator=generator), size=32, mode="bilinear"
    )

    def statistics(images: torch.Tensor) -> FeatureStatistics:
        features = network(images)
        assert features.shape == (len(images), RandomFeatures.num_features)
        return FeatureStatistics.of([features])

    same = frechet_distance(statistics(smooth[:300]), statistics(smooth[300:]))
    noise = 0.1 * torch.randn(300, 3, 32, 32, generator=generator)
    others = {
        "noise": smooth[300:] + noise,
        "dark": 0.8 * smooth[300:],
        "one head": smooth[300:301].expand(300, -1, -1, -1),
    }
    for name, images in others.items():
        assert frechet_distance(statistics(smooth[:300]), statistics(images)) > 1.2 * same, name

"""Light that is read off descriptions of pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vultus.metrics.light_probe import (
    fit_light_probe,
    light_correlation,
    light_distance,
    light_slope,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_linear_is_found() -> None:
    lights, mix = drawn(80, 9), drawn(9, 20, seed=1)
    features = lights @ mix + 3.0
    features = torch.cat([features, torch.ones(80, 1)], dim=1)
    probe = fit_light_probe(features[:60], lights[:60], features[60:], lights[60:])
    assert torch.allclose(probe(features[60:]), lights[60:], atol=0.02)


def test_descriptions_that_say_nothing_give_the_mean_light() -> None:
    lights, features = 2.0 + 0.1 * drawn(400, 9), drawn(400, 50, seed=1)
    probe = fit_light_probe(features[:300], lights[:300], features[300:], lights[300:])
    found = probe(features[300:])
    assert float((found - probe.mean_light).abs().mean()) < 0.05
    assert abs(float(light_correlation(found, lights[300:]))) < 0.2


def test_distances_do_not_depend_on_strengths() -> None:
    lights = drawn(5, 9)
    assert torch.allclose(light_distance(3.0 * lights, lights), torch.zeros(5), atol=1e-6)
    assert torch.allclose(light_distance(-lights, lights), torch.full((5,), 2.0))
    right_angle = light_distance(torch.eye(9)[:1], torch.eye(9)[1:2])
    assert float(right_angle) == pytest.approx(2.0**0.5)


def test_correlations_are_means_over_coefficients() -> None:
    lights = drawn(30, 2)
    found = torch.stack([5.0 * lights[:, 0] + 1.0, -lights[:, 1]], dim=1)
    assert float(light_correlation(found, lights)) == pytest.approx(0.0, abs=1e-6)
    assert float(light_correlation(found[:, :1], lights[:, :1])) == pytest.approx(1.0)


def test_slopes_tell_the_contrast_of_lights() -> None:
    lights = drawn(300, 9)
    assert float(light_slope(0.5 * lights + 2.0, lights)) == pytest.approx(0.5)
    assert abs(float(light_slope(drawn(300, 9, seed=1), lights))) < 0.1

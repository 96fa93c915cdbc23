"""The brighter side of pictures."""

from __future__ import annotations

import pytest
import torch

from vultus.metrics.side_light import correlation, side_brightness


def test_even_brightness_has_no_side() -> None:
    alpha = torch.zeros(1, 1, 8, 8)
    alpha[..., 5:] = 1.0
    assert float(side_brightness(0.3 * alpha.expand(-1, 3, -1, -1), alpha)) == pytest.approx(0.0)
    nothing = torch.zeros(1, 1, 8, 8)
    assert float(side_brightness(nothing.expand(-1, 3, -1, -1), nothing)) == 0.0


def test_the_brighter_side_is_where_there_is_more_light() -> None:
    place = (torch.arange(64.0) + 0.5) / 64.0
    rgb = place.expand(2, 3, 64, 64).clone()
    rgb[1] = rgb[1].flip(2)
    right, left = side_brightness(rgb, torch.ones(2, 1, 64, 64))
    # The centroid of a ramp lies at two thirds.
    assert float(right) == pytest.approx(2 / 3 - 1 / 2, abs=1e-3)
    assert float(left) == pytest.approx(-float(right), abs=1e-6)


def test_correlation_is_that_of_pytorch() -> None:
    x, y = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    expected = torch.corrcoef(torch.stack([x, y]))[0, 1]
    assert float(correlation(x, y)) == pytest.approx(float(expected), abs=1e-6)
    assert float(correlation(x, 3.0 - 2.0 * x)) == pytest.approx(-1.0)
    assert float(correlation(x, torch.ones(50))) == 0.0

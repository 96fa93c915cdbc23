"""Distances that compare features one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vultus.metrics.feature_sets import coverage, inception_score, kernel_distance


def draw(num: int, shift: float = 0.0, seed: int = 0, dim: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, dim, generator=generator) + shift


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kernel_distance_of_whole_sets_is_the_formula():
    x, y = draw(7).double(), draw(7, 0.5, seed=1).double()

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 6 + 1) ** 3)

    within = [
        sum(kernel(z[i], z[j]) for i in range(7) for j in range(7) if i != j) / 42 for z in (x, y)
    ]
    between = sum(kernel(a, b) for a in x for b in y) / 49
    actual = kernel_distance(x, y, random(), subsets=1, size=7)
    assert actual == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_kernel_distance_is_about_zero_for_one_distribution_and_grows_with_the_shift():
    values = [
        kernel_distance(draw(600), draw(600, shift, seed=1), random(), subsets=20, size=300)
        for shift in (0.0, 0.3, 1.0)
    ]
    assert abs(values[0]) < 0.02
    assert values[0] < values[1] < values[2]


def test_sets_cover_themselves_and_not_what_is_far_away():
    x = draw(80)
    assert coverage(x, x.clone()) == (1.0, 1.0)
    assert coverage(x, x + 100.0) == (0.0, 0.0)


def test_precision_and_recall_tell_missing_variety_from_missing_quality():
    real = torch.cat([draw(200), draw(200, 30.0, seed=1)])
    half = draw(200, seed=2)  # plausible, but one mode only
    scattered = torch.cat([real + 0.0, draw(400, -60.0, seed=3)])  # all modes, and nonsense
    narrow, wide = coverage(real, half), coverage(real, scattered)
    assert narrow.precision > 0.8
    assert narrow.recall < 0.6
    assert wide.recall == 1.0
    assert wide.precision == pytest.approx(0.5, abs=0.01)


def test_inception_score_is_one_without_variety_and_the_number_of_classes_at_best():
    same = torch.full((40, 5), 0.2)
    assert inception_score(same, splits=4) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
    best = torch.eye(5).repeat(8, 1)
    mean, deviation = inception_score(best, splits=4)
    assert mean == pytest.approx(5.0)
    assert deviation == pytest.approx(0.0, abs=1e-9)
    mixed = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    marginal = [0.7, 0.3]
    divergence = sum(
        p * math.log(p / q) for row in mixed.tolist() for p, q in zip(row, marginal, strict=True)
    )
    assert inception_score(mixed, splits=1)[0] == pytest.approx(math.exp(divergence / 2), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel_distance(draw(1), draw(5), random()), "KID needs two images"),
        (lambda: coverage(draw(3), draw(9)), "need more than 3 images"),
        (lambda: inception_score(torch.ones(3, 2), splits=4), "the score needs 4 images"),
    ],
)
def test_too_few_images_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

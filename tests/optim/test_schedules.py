from __future__ import annotations

import math

import pytest

from vultus.optim.schedules import exponential_decay, linear_decay, scale_steps


def test_exponential_decay_passes_through_both_ends_and_the_geometric_mean() -> None:
    rates = [exponential_decay(step, 1e-2, 1e-4, 200) for step in (0, 100, 200)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4])


def test_exponential_decay_is_constant_outside_its_range() -> None:
    assert exponential_decay(-5, 1e-2, 1e-4, 200) == exponential_decay(0, 1e-2, 1e-4, 200)
    assert exponential_decay(999, 1e-2, 1e-4, 200) == pytest.approx(1e-4)


def test_delay_starts_at_its_factor_and_ends_at_the_plain_rate() -> None:
    def delayed(step: int) -> float:
        return exponential_decay(step, 1.0, 1e-2, 100, delay_steps=50, delay_factor=0.1)

    assert delayed(0) == pytest.approx(0.1)
    plain = exponential_decay(25, 1.0, 1e-2, 100)
    assert delayed(25) == pytest.approx(plain * (0.1 + 0.9 * math.sqrt(0.5)))
    assert delayed(60) == pytest.approx(exponential_decay(60, 1.0, 1e-2, 100))


def test_linear_decay_passes_through_ends_and_middle() -> None:
    rates = [linear_decay(step, 3.0, 1.0, 10) for step in (-1, 0, 5, 10, 99)]
    assert rates == pytest.approx([3.0, 3.0, 2.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("initial", "final", "steps"), [(0.0, 1.0, 1), (1.0, -1.0, 1), (1.0, 1.0, 0)]
)
def test_exponential_decay_rejects_rates_and_lengths_that_are_not_positive(
    initial: float, final: float, steps: int
) -> None:
    with pytest.raises(ValueError, match="must be positive, got"):
        exponential_decay(0, initial, final, steps)


@pytest.mark.parametrize(
    ("steps", "factor", "expected"), [(0, 0.1, 0), (1000, 0.1, 100), (3, 0.01, 1), (7, 2.0, 14)]
)
def test_scaled_steps_stay_steps(steps, factor, expected):
    assert scale_steps(steps, factor) == expected


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_scale_of_steps_must_be_positive(factor):
    with pytest.raises(ValueError, match="schedule must be positive"):
        scale_steps(10, factor)

"""Learning rates as pure functions of the step."""

from __future__ import annotations

import math

__all__ = ["exponential_decay", "fade_progress", "linear_decay", "scale_steps"]


def exponential_decay(
    step: int,
    initial: float,
    final: float,
    num_steps: int,
    *,
    delay_steps: int = 0,
    delay_factor: float = 1.0,
) -> float:
    """Interpolate between two rates in log space; constant after ``num_steps``.

    Args:
        step: Steps taken; negative counts as 0.
        initial: Rate at step 0, positive.
        final: Rate from ``num_steps`` on, positive.
        num_steps: Length of the decay.
        delay_steps: Steps in which the rate is reduced at first; 0 for none.
        delay_factor: Factor on the rate at step 0 of the delay; it rises along a quarter sine.

    Raises:
        ValueError: If a rate or ``num_steps`` is not positive.

    Reference: Barron et al., Mip-NeRF, supplement; the position schedule of 3DGS.
    """
    _check_positive(initial=initial, final=final, num_steps=num_steps)
    done = min(max(step / num_steps, 0.0), 1.0)
    rate = math.exp((1.0 - done) * math.log(initial) + done * math.log(final))
    if delay_steps <= 0:
        return rate
    eased = math.sin(0.5 * math.pi * min(max(step / delay_steps, 0.0), 1.0))
    return rate * (delay_factor + (1.0 - delay_factor) * eased)


def fade_progress(images_seen: int, fade: int) -> float:
    """How much of a fade is over, from 0 to 1; a fade of no length is over."""
    return min(images_seen / fade, 1.0) if fade else 1.0


def linear_decay(step: int, initial: float, final: float, num_steps: int) -> float:
    """Interpolate between two rates; constant before step 0 and after ``num_steps``.

    Raises:
        ValueError: If ``num_steps`` is not positive.
    """
    _check_positive(num_steps=num_steps)
    done = min(max(step / num_steps, 0.0), 1.0)
    return (1.0 - done) * initial + done * final


def scale_steps(steps: int, factor: float) -> int:
    """Multiply a number of steps of a schedule; 0 stays 0, all others stay at least 1.

    Raises:
        ValueError: If the factor is not positive.
    """
    if not factor > 0:
        raise ValueError(f"schedule must be positive, got {factor}")
    return max(1, round(factor * steps)) if steps else 0


def _check_positive(**values: float | int) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")

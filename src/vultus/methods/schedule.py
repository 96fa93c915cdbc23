"""How long a training is and how often it writes: what the settings of every method share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["FitSettings", "Schedule", "check_fit_settings", "check_schedule"]


@runtime_checkable
class Schedule(Protocol):
    """The part of a method's config that says when something is written."""

    @property
    def steps(self) -> int:
        """Optimisation steps."""
        ...

    @property
    def log_every(self) -> int:
        """Steps between lines of the metrics log."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints; the last step always writes one."""
        ...

    @property
    def keep_checkpoints(self) -> int:
        """How many of the last checkpoints stay; 0 keeps all."""
        ...


@runtime_checkable
class FitSettings(Schedule, Protocol):
    """The part of an avatar's config that its training loop reads."""

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations of the held-out splits; 0 only at the end."""
        ...


def check_schedule(schedule: Schedule) -> None:
    """Reject numbers of steps that cannot be meant.

    Raises:
        ValueError: If a number is too small; names it.
    """
    for name in ("steps", "log_every", "checkpoint_every"):
        if getattr(schedule, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(schedule, name)}")
    _check_not_negative("keep_checkpoints", schedule.keep_checkpoints)


def check_fit_settings(settings: FitSettings) -> None:
    """Reject numbers of steps of an avatar's training that cannot be meant.

    Raises:
        ValueError: If a number is too small; names it.
    """
    check_schedule(settings)
    _check_not_negative("evaluate_every", settings.evaluate_every)


def _check_not_negative(name: str, value: int) -> None:
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")

"""How long a training is and how often it writes: what the settings of every method share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Schedule", "check_schedule"]


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


def check_schedule(schedule: Schedule) -> None:
    """Reject numbers of steps that cannot be meant.

    Raises:
        ValueError: If a number is too small; names it.
    """
    for name in ("steps", "log_every", "checkpoint_every"):
        if getattr(schedule, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(schedule, name)}")
    if schedule.keep_checkpoints < 0:
        raise ValueError(f"keep_checkpoints must be at least 0, got {schedule.keep_checkpoints}")

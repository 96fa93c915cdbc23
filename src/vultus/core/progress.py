"""Progress of long work: a bar on a terminal, now and then a line elsewhere, nothing if short."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TypeVar

import rich.progress
from rich.console import Console

__all__ = ["Progress", "format_duration", "track"]

ItemT = TypeVar("ItemT")

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 10.0
"""Between plain lines; a log of an hour stays readable."""


def track(
    iterable: Iterable[ItemT], total: int | None = None, label: str = "", unit: str = "it"
) -> Iterator[ItemT]:
    """Yield the items and show how far the work has come.

    Args:
        iterable: What to walk through.
        total: How many items there are; by default the length, where there is one.
        label: What is being done.
        unit: Name of one item in the rate (``img``, ``step``).
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(label, total, unit) as progress:
        for item in iterable:
            yield item
            progress.advance()


def format_duration(seconds: float) -> str:
    """Write a duration as ``42s``, ``3m05s`` or ``2h07m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Progress:
    """Counts items of work and shows rate and time left on stderr, from two seconds on."""

    def __init__(self, label: str, total: int | None = None, unit: str = "it") -> None:
        """Prepare; nothing is shown before the context is entered.

        Args:
            label: What is being done.
            total: Number of items, if known.
            unit: Name of one item.
        """
        self._label, self._total, self._unit = label, total, unit
        self._stream = sys.stderr
        self._done = 0
        self._note = ""
        self._start = self._last_line = time.monotonic()
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        """Start the clock."""
        self._start = self._last_line = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the bar, or write the last line if lines were due."""
        if self._bar is not None:
            self._update_bar(self._bar)
            self._bar.stop()
        elif time.monotonic() - self._start >= _QUIET_SECONDS:
            self._write_line()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count finished items; a note (such as the loss) is shown beside the rate."""
        self._done += count
        self._note = note or self._note
        now = time.monotonic()
        if now - self._start < _QUIET_SECONDS:
            return
        if self._stream.isatty():
            self._bar = self._bar or self._start_bar()
            self._update_bar(self._bar)
        elif self._last_line == self._start or now - self._last_line >= _LINE_SECONDS:
            self._write_line()
            self._last_line = now

    def _describe(self) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = self._done / elapsed
        if rate >= 1:
            parts = [f"{rate:.3g} {self._unit}/s"]
        else:
            parts = [f"{1 / rate:.3g} s each" if self._done else "starting"]
        if self._total is not None and 0 < self._done < self._total:
            parts.append(f"{format_duration((self._total - self._done) / rate)} left")
        else:
            parts.append(format_duration(elapsed))
        return ", ".join([*parts, self._note] if self._note else parts)

    def _write_line(self) -> None:
        count = str(self._done) if self._total is None else f"{self._done}/{self._total}"
        label = f"{self._label}: " if self._label else ""
        self._stream.write(f"{label}{count} {self._unit} ({self._describe()})\n")
        self._stream.flush()

    def _start_bar(self) -> rich.progress.Progress:
        bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[facts]}"),
            console=Console(file=self._stream),
        )
        bar.add_task(self._label, total=self._total, facts="")
        bar.start()
        return bar

    def _update_bar(self, bar: rich.progress.Progress) -> None:
        bar.update(bar.task_ids[0], completed=self._done, facts=self._describe())

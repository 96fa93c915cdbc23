"""Averages of measurements per sequence and over sequences, ready to be printed as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vultus.metrics.catalogue import METRICS
from vultus.metrics.protocols import Measurement, Protocol

__all__ = ["Summary", "SummaryRow", "summarize"]


@dataclass(frozen=True)
class SummaryRow:
    """Averages over the images of a sequence, or over sequences."""

    name: str
    num_images: int
    values: Mapping[str, float]
    """Metrics that every image (every sequence) has."""
    unavailable: Mapping[str, str]
    """The other metrics of the protocol, each with the first reason met."""


@dataclass(frozen=True)
class Summary:
    """Results of one protocol."""

    protocol: str
    """Its id."""
    rows: tuple[SummaryRow, ...]
    """Per sequence."""
    mean: SummaryRow
    """Mean of the rows: sequences count equally, whatever their length."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics that at least one row has, in the order of ``METRICS``."""
        return tuple(n for n in METRICS if any(n in row.values for row in (*self.rows, self.mean)))

    def header(self) -> tuple[str, ...]:
        """Titles of ``cells``: label and unit of every column."""
        titles = [METRICS[name] for name in self.columns]
        return (
            "sequence",
            "images",
            *(
                f"{metric.label} [{metric.unit}]" if metric.unit else metric.label
                for metric in titles
            ),
        )

    def cells(self) -> list[list[str]]:
        """Text of the table: a row per sequence, then the mean."""
        return [
            [row.name, str(row.num_images), *(_cell(row, name) for name in self.columns)]
            for row in (*self.rows, self.mean)
        ]


def summarize(protocol: Protocol, measurements: Mapping[str, Sequence[Measurement]]) -> Summary:
    """Average measurements by sequence name.

    A metric that some image of a sequence lacks is unavailable for the sequence: an average over
    other images would be a different number.

    Raises:
        ValueError: If there is no measurement, or a sequence is empty.
    """
    empty = [name for name, found in measurements.items() if not found]
    if empty or not measurements:
        which = repr(empty[0]) if empty else "the evaluation"
        raise ValueError(f"protocol {protocol.id}: {which} has no measured image")
    rows = tuple(
        _average(protocol, name, found, len(found)) for name, found in measurements.items()
    )
    num_images = sum(row.num_images for row in rows)
    return Summary(protocol.id, rows, _average(protocol, "mean", rows, num_images))


def _average(
    protocol: Protocol,
    name: str,
    parts: Sequence[Measurement] | Sequence[SummaryRow],
    num_images: int,
) -> SummaryRow:
    values, unavailable = {}, {}
    for metric in protocol.metrics:
        reasons = [part.unavailable[metric] for part in parts if metric in part.unavailable]
        if reasons:
            unavailable[metric] = reasons[0]
        else:
            values[metric] = sum(part.values[metric] for part in parts) / len(parts)
    return SummaryRow(name, num_images, values, unavailable)


def _cell(row: SummaryRow, name: str) -> str:
    if name in row.values:
        return f"{row.values[name]:.{METRICS[name].decimals}f}"
    return f"not available: {row.unavailable[name]}"

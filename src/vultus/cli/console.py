"""What commands print: rich on a terminal, plain lines that other programs can read elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["console", "print_error", "print_note", "print_table"]

# Paths and messages are printed as they are: no markup, no wrapping at a guessed width.
console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = ""
) -> None:
    """Print a table; numbers get four significant digits, None becomes a dash.

    Args:
        title: Line above the table, if not empty.
        columns: Heads.
        rows: Cells, as many in a row as there are columns.
        note: Line below the table, if not empty.

    Raises:
        ValueError: If a row has another number of cells.
    """
    cells = [[_format_cell(cell) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"a row must have {len(columns)} cells, got {row}")
    is_number = [
        bool(rows) and all(isinstance(row[i], (int, float, type(None))) for row in rows)
        for i in range(len(columns))
    ]
    if console.is_terminal:
        table = Table(title=title or None, title_justify="left", title_style="bold")
        for column, is_right in zip(columns, is_number, strict=True):
            table.add_column(column, justify="right" if is_right else "left", overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table, soft_wrap=False)
    else:
        if title:
            console.print(title)
        for line in _align([list(columns), *cells], is_number):
            console.print(line)
    if note:
        console.print(note)


def print_error(message: str) -> None:
    """Print one line to stderr; what a terminal would not show as it is, is escaped."""
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    print(f"vultus: {shown}", file=sys.stderr)


def print_note(message: str) -> None:
    """Print one line to stderr that is no error."""
    print_error(f"note: {message}")


def _format_cell(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _align(rows: list[list[str]], is_number: list[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, is_number, strict=True)
        )
        lines.append("  ".join(padded).rstrip())
    return lines

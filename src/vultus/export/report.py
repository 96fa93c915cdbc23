"""One self-contained HTML page about a run: metrics, curves, pictures, film."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Curve", "Report", "Table", "render_report"]

_MIME = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --faint: #6b7280; --line: #d9dce1;
  --hue: #2563eb }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --faint: #9aa0a8; --line: #3a3f46;
  --hue: #7aa7ff } body { background: #16181b } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem } h2 { margin-top: 2.2rem; font-size: 1.2rem }
img, video { max-width: 100%; border-radius: 6px } figure { margin: 1rem 0 }
figcaption, .faint { color: var(--faint); font-size: .9rem }
table { border-collapse: collapse; margin: .5rem 0 }
td, th { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { background: color-mix(in srgb, var(--line) 35%, transparent); padding: .8rem;
  border-radius: 6px; overflow-x: auto } svg text { fill: var(--faint); font-size: 11px }
.curves { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)) }
"""


@dataclass(frozen=True)
class Table:
    """A table of strings and numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """One quantity over steps."""

    title: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Report:
    """What the page shows, in this order."""

    title: str
    lead: str
    media: Sequence[tuple[Path, str]] = ()
    """Files to embed with their captions; png, jpg or mp4."""
    tables: Sequence[Table] = ()
    curves: Sequence[Curve] = ()
    commands: Sequence[tuple[str, str]] = ()
    """What a command does, and the command."""
    facts: Mapping[str, object] = field(default_factory=dict)


def render_report(report: Report) -> str:
    """Write the page as HTML that needs no other file.

    Raises:
        ValueError: If a medium has an unknown ending.
        FileNotFoundError: If a medium is missing.
    """
    parts = [f"<h1>{html.escape(report.title)}</h1><p>{html.escape(report.lead)}</p>"]
    parts += [_figure(path, caption) for path, caption in report.media]
    parts += [_table(table) for table in report.tables]
    if report.curves:
        drawn = "".join(_curve(curve) for curve in report.curves)
        parts.append(f'<h2>Training</h2><div class="curves">{drawn}</div>')
    if report.commands:
        parts.append("<h2>Commands</h2>")
        parts += [
            f"<p>{html.escape(what)}</p><pre>{html.escape(command)}</pre>"
            for what, command in report.commands
        ]
    if report.facts:
        rows = [(name, str(value)) for name, value in report.facts.items()]
        parts.append(_table(Table("This run", ("", ""), rows)))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(report.title)}</title><style>{_STYLE}</style>{''.join(parts)}</html>"
    )


def _figure(path: Path, caption: str) -> str:
    mime = _MIME.get(path.suffix.lower())
    if mime is None:
        raise ValueError(f"{path}: a report embeds {', '.join(_MIME)}, got {path.suffix!r}")
    data = f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
    text = html.escape(caption)
    if mime.startswith("video"):
        medium = f'<video src="{data}" controls loop muted autoplay playsinline></video>'
    else:
        medium = f'<img src="{data}" alt="{text}">'
    return f"<figure>{medium}<figcaption>{text}</figcaption></figure>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in table.rows)
    note = f'<p class="faint">{html.escape(table.note)}</p>' if table.note else ""
    title = html.escape(table.title)
    return f"<h2>{title}</h2><table><tr>{head}</tr>{body}</table>{note}"


def _cell(value: str | float | None) -> str:
    if value is None:
        return '<td class="number">not available</td>'
    if isinstance(value, str):
        return f"<td>{html.escape(value)}</td>"
    return f'<td class="number">{value:.4g}</td>'


def _curve(curve: Curve, width: int = 300, height: int = 150) -> str:
    pairs = [(s, v) for s, v in zip(curve.steps, curve.values, strict=True) if v == v]
    if len(pairs) < 2:
        return ""
    low, high = min(v for _, v in pairs), max(v for _, v in pairs)
    first, last = pairs[0][0], pairs[-1][0]
    span_x, span_y = max(last - first, 1e-12), max(high - low, 1e-12)
    points = " ".join(
        f"{40 + (s - first) / span_x * (width - 50):.1f},"
        f"{height - 22 - (v - low) / span_y * (height - 44):.1f}"
        for s, v in pairs
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(curve.title)}">'
        f'<text x="40" y="12">{html.escape(curve.title)}</text>'
        f'<text x="0" y="26">{high:.3g}</text><text x="0" y="{height - 20}">{low:.3g}</text>'
        f'<text x="40" y="{height - 4}">{first:g}</text>'
        f'<text x="{width - 10}" y="{height - 4}" text-anchor="end">{last:g} steps</text>'
        f'<polyline points="{points}" fill="none" stroke="var(--hue)" stroke-width="1.5"/></svg>'
    )

"""Measure a finished run and write what people look at: tables, contact sheet, report."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from vultus.core.files import write_json, write_text
from vultus.core.image_io import write_image
from vultus.core.run_folder import RunFolder
from vultus.data.sequence import Frame, FrameRecord, HeadSequence, Split
from vultus.engine.evaluate import Evaluation, evaluate_split
from vultus.export.pictures import contact_sheet
from vultus.export.report import Curve, Report, Table, render_report
from vultus.export.shots import View, frame_shots, picture_of, save_views, shot_of
from vultus.methods.base import ReconstructionMethod
from vultus.metrics.protocols import Protocol
from vultus.nets.perceptual import imported_lpips
from vultus.render.output import RenderOutput

__all__ = ["evaluate_run", "evaluation_tables", "write_contact_sheet", "write_run_report"]

_TITLES: dict[Split, str] = {
    "val": "Novel view (held-out camera)",
    "test": "Self-reenactment (held-out time)",
    "train": "Training images",
}
_SHEET_ROWS = 4
_SHEET_VIEWS: tuple[View, ...] = ("truth", "rgb", "error", "normals")


def evaluate_run(
    run: RunFolder,
    avatar: ReconstructionMethod,
    sequence: HeadSequence,
    protocol: Protocol,
    splits: Sequence[Split] = ("val", "test"),
    *,
    views: Sequence[View] = (),
) -> list[Evaluation]:
    """Measure the held-out splits that exist.

    Writes ``results.json`` (means by split), ``per_view.csv`` (a line per image) and
    ``evaluation.json`` (both, for programs). Those of ``views`` that can be made are saved as
    ``media/images/SPLIT/VIEW/NAME.png``.

    Raises:
        ValueError: If none of the splits has a frame.
    """
    present: list[Split] = [split for split in splits if len(sequence.splits.get(split, ())) > 0]
    if not present:
        raise ValueError(f"{sequence.root}: none of the splits {', '.join(splits)} has a frame")
    networks = imported_lpips()
    results = []
    for split in present:
        saver = _view_saver(avatar, run.media_path / "images" / split, views) if views else None
        results.append(evaluate_split(avatar, sequence, split, protocol, networks, observe=saver))
    write_json(run.path / "evaluation.json", [asdict(result) for result in results])
    write_json(run.path / "results.json", _means(results))
    write_text(run.path / "per_view.csv", _per_view(results, protocol))
    return results


def _view_saver(
    avatar: ReconstructionMethod, folder: Path, views: Sequence[View]
) -> Callable[[FrameRecord, Frame, RenderOutput], None]:
    def save(record: FrameRecord, frame: Frame, output: RenderOutput) -> None:
        shot = shot_of(avatar, record, frame, output)
        possible: list[View] = [view for view in views if shot.has(view)]
        save_views(shot, folder, possible)

    return save


def _means(results: Sequence[Evaluation]) -> dict[str, dict[str, object]]:
    return {
        result.split: {
            "protocol": result.protocol,
            "images": len(result.frames),
            "masks": result.masks,
            **result.mean,
        }
        for result in results
    }


def _per_view(results: Sequence[Evaluation], protocol: Protocol) -> str:
    """A line per image; cells of metrics that could not be computed are empty."""
    text = io.StringIO()
    columns = ["protocol", "split", "image", "mask", *protocol.metrics]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for result in results:
        for row in result.frames:
            writer.writerow({"protocol": result.protocol, "split": result.split, **row})
    return text.getvalue()


def evaluation_tables(results: Sequence[Evaluation]) -> list[Table]:
    """One table per split: metric and mean, or why it is missing."""
    tables = []
    for result in results:
        rows: list[Sequence[str | float | None]] = [(n, v) for n, v in result.mean.items()]
        for name, why in result.unavailable.items():
            rows.append((name, f"not available: {why}"))
        note = f"protocol {result.protocol}, {len(result.frames)} images, mean of per-image values"
        if any(name.endswith("_masked") for name in result.mean):
            note += f"; masked: {_mask_note(result.masks)}"
        tables.append(Table(_TITLES[result.split], ("metric", "value"), rows, note))
    return tables


def _mask_note(masks: Mapping[str, int]) -> str:
    """What masked metrics have looked at, with counts where images differ."""
    if len(masks) == 1:
        return next(iter(masks))
    return ", ".join(f"{kind} in {count} images" for kind, count in masks.items())


def write_contact_sheet(
    run: RunFolder, avatar: ReconstructionMethod, sequence: HeadSequence, splits: Sequence[Split]
) -> Path:
    """Rows of truth, rendering, error and normals (if there are any), spread over the splits."""
    rows = []
    for split in splits:
        records = sequence.split(split)
        chosen = [
            records[(2 * i + 1) * len(records) // (2 * _SHEET_ROWS)] for i in range(_SHEET_ROWS)
        ]
        for shot in frame_shots(avatar, sequence, chosen):
            rows.append([picture_of(shot, view) for view in _SHEET_VIEWS if shot.has(view)])
    path = run.media_path / "contact_sheet.png"
    write_image(path, contact_sheet(rows))
    return path


def write_run_report(
    run: RunFolder,
    title: str,
    lead: str,
    media: Sequence[tuple[Path, str]],
    tables: Sequence[Table],
    commands: Sequence[tuple[str, str]],
) -> Path:
    """Write ``report.html`` from the run's log and card."""
    report = Report(
        title, lead, media, tables, training_curves(run), commands, facts=run.read_card()
    )
    path = run.path / "report.html"
    write_text(path, render_report(report))
    return path


def training_curves(run: RunFolder) -> list[Curve]:
    """Every number of the metrics log over the steps."""
    lines = run.read_metrics()
    names = sorted({name for line in lines for name in line} - {"step"})
    curves = []
    for name in names:
        pairs = [(line["step"], line[name]) for line in lines if name in line]
        curves.append(
            Curve(name, *(list(map(float, column)) for column in zip(*pairs, strict=True)))
        )
    return curves

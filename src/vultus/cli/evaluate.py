"""``vultus evaluate``: measure a trained run on its held-out frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vultus.cli.avatar_run import open_run
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.cli.train import find_protocol
from vultus.data.sequence import Split
from vultus.export.run_report import evaluate_run, evaluation_tables, write_contact_sheet
from vultus.export.shots import ALL_VIEWS, View

__all__ = ["EvaluateOptions", "main"]


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure PSNR, SSIM, LPIPS (with imported weights), normals and depth where known."""

    run: Path
    """Folder that train wrote."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    protocol: str = "surfhead-v1"
    """What is measured: surfhead-v1, held-out-v1 or demo-v1; every number
    carries this id."""
    splits: tuple[Split, ...] = ("val", "test")
    """Which frames; splits that the capture does not have are left out."""
    per_image: bool = False
    """Also print one row per image."""
    save_images: bool = False
    """Write views of every image to RUN/media/images/SPLIT/VIEW; depth and normals as .npy too."""
    views: tuple[View, ...] = ALL_VIEWS
    """What --save-images writes; what capture or avatar do not have is left out."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Evaluate and print."""
    options = parse_arguments(
        EvaluateOptions, arguments, prog="vultus evaluate", description=__doc__
    )
    protocol = find_protocol(options.protocol)
    opened = open_run(options.run, options.data, options.device, options.step)
    if options.dry_run:
        console.print(f"would evaluate step {opened.step} of {options.run}")
        return
    results = evaluate_run(
        opened.folder,
        opened.avatar,
        opened.sequence,
        protocol,
        options.splits,
        views=options.views if options.save_images else (),
    )
    for table in evaluation_tables(results):
        print_table(table.title, table.columns, table.rows, table.note)
    for result in results if options.per_image else ():
        names = list(result.frames[0])
        print_table(result.split, names, [[row.get(n) for n in names] for row in result.frames])
    sheet = write_contact_sheet(
        opened.folder, opened.avatar, opened.sequence, [r.split for r in results]
    )
    console.print(f"contact sheet: {sheet}")
    if options.save_images:
        console.print(f"images: {opened.folder.media_path / 'images'}")

"""``vultus data patch-dataset``: label maps from an archive into captures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.data.label_patch import LabelPatch, plan_label_patch

__all__ = ["PatchOptions", "patch_dataset"]


@dataclass(frozen=True)
class PatchOptions:
    """Which maps go where."""

    input: Annotated[Path, tyro.conf.arg(aliases=["-i"])]
    """Zip archive or folder with a folder of label maps for each subject."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder below which the captures are, each in a folder named as its subject."""
    subjects: tuple[str, ...] = ()
    """Only these; default: all that the archive has."""
    force: bool = False
    """Replace maps that are there already."""
    dry_run: bool = False
    """Check every map, write nothing."""


def patch_dataset(arguments: list[str]) -> None:
    """Add label maps to captures."""
    options = parse_arguments(
        PatchOptions,
        arguments,
        prog="vultus data patch-dataset",
        description="Write the label maps of an archive beside the pictures of tracked videos "
        "(semantic/, or semantic.HQ/ beside images.HQ/). All maps are checked before any is "
        "written; captures that have maps are left alone.",
    )
    patch = plan_label_patch(options.input, options.output, options.subjects, force=options.force)
    if options.dry_run:
        patch.check()
        print_table(f"would patch {options.output}", ["", ""], _facts(patch, "maps to write"))
        return
    facts = _facts(patch, "maps written")
    count = patch.write()
    print_table(str(options.output), ["", ""], facts)
    console.print(f"maps written: {count}, captures: {len(patch.pending)}")


def _facts(patch: LabelPatch, label: str) -> list[list[object]]:
    return [
        [str(c.target), "there already" if c.is_present else f"{len(c.entries)} {label}"]
        for c in patch.captures
    ]

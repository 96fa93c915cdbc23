"""``vultus data pack``: images, masks and labels of any origin as a set for generators."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from vultus.cli.console import print_table
from vultus.cli.option_parser import parse_arguments
from vultus.data.image_packing import PackConfig, plan_pack

__all__ = ["PackOptions", "pack"]


@dataclass(frozen=True)
class PackOptions:
    """What to pack."""

    source: Positional[Path]
    """Folder or zip archive of images with dataset.json, or a folder of all (img, seg, parts)."""
    out: Path
    """New folder for the set."""
    masks: Path | None = None
    """Folder or zip archive of masks; default: seg beside img, or none."""
    parts: Path | None = None
    """Folder or zip archive of semantic maps in the classes of face parsers, which are resized
    without mixing; default: parts beside img, or none."""
    labels: Path | None = None
    """Label file in place of the source's dataset.json and dataset_*.json."""
    config: Annotated[PackConfig, tyro.conf.arg(name="")] = field(default_factory=PackConfig)
    """What is done to the images."""
    dry_run: bool = False
    """Check names and labels, write nothing."""


def pack(arguments: list[str]) -> None:
    """Pack an image set."""
    options = parse_arguments(
        PackOptions,
        arguments,
        prog="vultus data pack",
        description="Check images, masks, semantic maps and labels (cameras, lights) and write "
        "them as an image set of one size, as archives or folders. Nothing is written unless "
        "everything fits.",
    )
    plan = plan_pack(
        options.source,
        options.out,
        options.config,
        masks=options.masks,
        parts=options.parts,
        labels=options.labels,
    )
    rows = [[name, value] for name, value in plan.facts().items()]
    if options.dry_run:
        print_table(f"would write {options.out}", ["", ""], rows)
        return
    plan.write()
    print_table(str(options.out), ["", ""], rows)

"""``vultus data collection``: image sets of random people for generators."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.core.devices import find_device
from vultus.data.studio.collection.collect import CollectionPlan, collect, plan_collection
from vultus.data.studio.collection.config import CollectionConfig

__all__ = ["CollectionOptions", "collection"]


@dataclass(frozen=True)
class CollectionOptions:
    """Where and how much to collect."""

    out: Path
    """Folder; made if missing, continued if it holds a collection of the same settings."""
    count: int = 1000
    """Pictures in all; a collection that is complete grows when more are asked for."""
    config: Annotated[CollectionConfig, tyro.conf.arg(name="")] = field(
        default_factory=CollectionConfig
    )
    """Whom to draw and how."""
    part: tuple[int, int] = (0, 1)
    """I N: make every N-th person from the I-th on, for several processes or GPUs that write into
    one folder."""
    threads: int | None = None
    """Workers that make people and write files; default: all cores."""
    device: str = "auto"
    """Where pictures are taken: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, write nothing."""


def collection(arguments: list[str]) -> None:
    """Collect random people."""
    options = parse_arguments(
        CollectionOptions,
        arguments,
        prog="vultus data collection",
        description="Make an image set of random people for generators: pictures from all sides, "
        "camera labels, masks, semantic maps and the light of every picture. A stopped collection "
        "continues when the command is repeated.",
    )
    device = find_device(options.device)
    if options.dry_run:
        plan = plan_collection(options.config, options.out, options.count, options.part)
        print_table(f"would collect into {options.out}", ["", ""], _facts(plan))
        return
    taken = collect(
        options.config,
        options.out,
        options.count,
        part=options.part,
        threads=options.threads,
        device=device,
    )
    console.print(f"{options.out}: {options.count} pictures, {taken} of them new")
    console.print(f"look at it: {options.out / 'sheet.png'}")


def _facts(plan: CollectionPlan) -> list[list[object]]:
    folder, config = plan.folder, plan.folder.config
    return [
        ["people", f"{folder.num_people} ({config.head}), {config.views} pictures of each"],
        ["pictures", f"{folder.count} of {config.size} x {config.size}"],
        ["backdrop", config.backdrop],
        ["pictures to take", plan.num_missing],
    ]

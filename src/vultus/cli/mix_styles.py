"""``vultus mix-styles``: people with the coarse styles of one and the fine styles of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.console import console
from vultus.cli.generator_options import (
    GeneratorOptions,
    check_output_folder,
    describe_generator,
    open_sampler,
    parse_options,
    parse_seeds,
)
from vultus.core.image_io import write_image
from vultus.core.progress import Progress
from vultus.export.generator_pictures import look, mixing_sheet, picture_of_head
from vultus.methods.spherehead.sampling import HeadSampler, People, mixed_person

__all__ = ["MixStylesOptions", "main"]

_LAYERS = (0, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class MixStylesOptions:
    """Write a matrix of mixed people for each layer: coarse ones in rows, fine ones in columns."""

    generator: Annotated[GeneratorOptions, tyro.conf.arg(name="")] = field(
        default_factory=GeneratorOptions
    )
    out: Path = Path("people")
    """Folder; made if missing. A matrix is named by its layer and view."""
    coarse: str = "521"
    """Seeds of the rows: numbers and ranges such as 1,4-6."""
    fine: str = "329"
    """Seeds of the columns."""
    layers: tuple[int, ...] | None = None
    """First style that comes from the column; a matrix for each. Default: 0 2 3 4 6 8, as published
    like the seeds, as far as the generator has so many styles."""
    yaws: tuple[float, ...] = (0.0, 90.0, 180.0)
    """Views in degrees, 0 is frontal; a matrix for each."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, generate, write."""
    options = parse_options(MixStylesOptions, "mix-styles", arguments, __doc__)
    if options.layers == () or not options.yaws:
        raise ValueError("--layers and --yaws must name at least one each")
    coarse, fine = parse_seeds(options.coarse, "--coarse"), parse_seeds(options.fine, "--fine")
    check_output_folder(options.out)
    sampler = open_sampler(options.generator)
    num_ws = sampler.generator.num_ws
    layers = options.layers or [layer for layer in _LAYERS if layer < num_ws]
    for layer in layers:
        if not 0 <= layer <= num_ws:
            raise ValueError(f"--layers must be 0 to {num_ws}, got {layer}")
    count = len(layers) * len(options.yaws)
    if options.dry_run:
        console.print(
            f"would write {count} matrices of {len(coarse)} x {len(fine)} people with a "
            f"{describe_generator(sampler)} into {options.out}"
        )
        return
    options.out.mkdir(exist_ok=True)
    total = len(options.yaws) * (len(coarse) + len(fine) + len(layers) * len(coarse) * len(fine))
    with Progress("mixing", total, "images") as progress:
        _write_matrices(
            sampler, sampler.people(coarse), sampler.people(fine), layers, options, progress
        )
    console.print(f"pictures: {options.out} ({count} matrices)")


def _write_matrices(
    sampler: HeadSampler,
    rows: People,
    columns: People,
    layers: Sequence[int],
    options: MixStylesOptions,
    progress: Progress,
) -> None:
    labels = [sampler.rig.label(math.radians(yaw)) for yaw in options.yaws]

    def views(person: People) -> list[Float[Tensor, "3 h w"]]:
        head, pictures = sampler.head(person), []
        for label in labels:
            pictures.append(picture_of_head(look(sampler, head, label), "rgb"))
            progress.advance()
        return pictures

    row_views, column_views = [views(person) for person in rows], [views(p) for p in columns]
    for layer in layers:
        mixed = [[views(mixed_person(r, c, layer)) for c in columns] for r in rows]
        for index, yaw in enumerate(options.yaws):
            sheet = mixing_sheet(
                [pictures[index] for pictures in row_views],
                [pictures[index] for pictures in column_views],
                [[pictures[index] for pictures in line] for line in mixed],
            )
            write_image(options.out / f"layer{layer:02d}_yaw{yaw:+04.0f}.png", sheet)

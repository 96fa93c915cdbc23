"""``vultus mix-styles``: people with the coarse styles of one and the fine styles of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic

import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.console import console
from vultus.cli.generator_options import (
    OptionsT,
    check_output_folder,
    parse_options,
    parse_seeds,
)
from vultus.core.image_io import write_image
from vultus.core.progress import Progress
from vultus.export.generator_pictures import mixing_sheet, picture_of_head
from vultus.methods.generated_heads import PeopleSampler
from vultus.methods.people import People, mixed_person

__all__ = ["MixStylesOptions", "main"]

_LAYERS = (0, 2, 3, 4, 6, 8)
_ALL_SIDES, _FACE = (0.0, 90.0, 180.0), (0.0, 30.0)


@dataclass(frozen=True)
class MixStylesOptions(Generic[OptionsT]):
    """Write a matrix of mixed people for each layer: coarse ones in rows, fine ones in columns."""

    generator: Annotated[OptionsT, tyro.conf.arg(name="")]
    out: Path = Path("people")
    """Folder; made if missing. A matrix is named by its layer and view."""
    coarse: str = "521"
    """Seeds of the rows: numbers and ranges such as 1,4-6."""
    fine: str = "329"
    """Seeds of the columns."""
    layers: tuple[int, ...] | None = None
    """First style that comes from the column; a matrix for each. Default: 0 2 3 4 6 8, as published
    like the seeds, as far as the generator has so many styles."""
    yaws: tuple[float, ...] | None = None
    """Views in degrees, 0 is frontal; a matrix for each. Default: 0 90 180 where heads have a back,
    else 0 30."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, generate, write."""
    options: MixStylesOptions[Any] = parse_options(
        MixStylesOptions, "mix-styles", arguments, __doc__
    )
    if () in (options.layers, options.yaws):
        raise ValueError("--layers and --yaws must name at least one each")
    coarse, fine = parse_seeds(options.coarse, "--coarse"), parse_seeds(options.fine, "--fine")
    check_output_folder(options.out)
    sampler = options.generator.open_sampler()
    num_ws, _ = sampler.style_shape
    yaws = options.yaws or (_ALL_SIDES if sampler.shows_all_sides else _FACE)
    layers = options.layers or [layer for layer in _LAYERS if layer < num_ws]
    for layer in layers:
        if not 0 <= layer <= num_ws:
            raise ValueError(f"--layers must be 0 to {num_ws}, got {layer}")
    count = len(layers) * len(yaws)
    if options.dry_run:
        console.print(
            f"would write {count} matrices of {len(coarse)} x {len(fine)} people with a "
            f"{sampler.description} into {options.out}"
        )
        return
    options.out.mkdir(exist_ok=True)
    total = len(yaws) * (len(coarse) + len(fine) + len(layers) * len(coarse) * len(fine))
    with Progress("mixing", total, "images") as progress:
        rows, columns = sampler.people(coarse), sampler.people(fine)
        _write_matrices(sampler, (rows, columns), layers, yaws, options.out, progress)
    console.print(f"pictures: {options.out} ({count} matrices)")


def _write_matrices(
    sampler: PeopleSampler[Any],
    people: tuple[People, People],
    layers: Sequence[int],
    yaws: Sequence[float],
    out: Path,
    progress: Progress,
) -> None:
    rows, columns = people
    labels = [sampler.rig.label(math.radians(yaw)) for yaw in yaws]

    def views(person: People) -> list[Float[Tensor, "3 h w"]]:
        head, pictures = sampler.head(person), []
        for label in labels:
            pictures.append(picture_of_head(sampler.look(head, label), "rgb"))
            progress.advance()
        return pictures

    row_views, column_views = [views(person) for person in rows], [views(p) for p in columns]
    for layer in layers:
        mixed = [[views(mixed_person(r, c, layer)) for c in columns] for r in rows]
        for index, yaw in enumerate(yaws):
            sheet = mixing_sheet(
                [pictures[index] for pictures in row_views],
                [pictures[index] for pictures in column_views],
                [[pictures[index] for pictures in line] for line in mixed],
            )
            write_image(out / f"layer{layer:02d}_yaw{yaw:+04.0f}.png", sheet)

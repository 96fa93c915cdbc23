"""``vultus generate-splats``: generated people as splat files, one for each light."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vultus.cli.console import console
from vultus.cli.generate_relit import RELIGHTABLE_METHODS, lights_of_options
from vultus.cli.generator_options import (
    GaussianOptions,
    PeopleOptions,
    check_output_folder,
    count_people,
    split_method,
)
from vultus.cli.option_parser import parse_arguments
from vultus.gaussians.splat_files import write_splats
from vultus.methods.gsheadrelight.light_sources import LightSettings
from vultus.methods.gsheadrelight.splats import lit_splats

__all__ = ["GenerateSplatsOptions", "main"]


@dataclass(frozen=True)
class GenerateSplatsOptions:
    """Write the Gaussians of people in the layout of 3D Gaussian splatting (.ply).

    Light is baked into their colours, which no viewer can change.
    """

    generator: Annotated[GaussianOptions, tyro.conf.arg(name="")] = field(
        default_factory=GaussianOptions
    )
    out: Path = Path("people")
    """Folder; made if missing, files of the same names are replaced."""
    people: Annotated[PeopleOptions, tyro.conf.arg(name="")] = field(default_factory=PeopleOptions)
    lights: tuple[str, ...] = ("front",)
    """A file for each: front, left, right, above, below, even, or albedo for none; or files: maps
    of surroundings (.hdr, .exr), or 9 or 27 coefficients (.json, .npz, .txt)."""
    settings: Annotated[LightSettings, tyro.conf.arg(name="")] = field(
        default_factory=LightSettings
    )
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, bake, write."""
    method, rest = split_method("generate-splats", arguments, RELIGHTABLE_METHODS)
    prog = f"vultus generate-splats {method}"
    options = parse_arguments(GenerateSplatsOptions, rest, prog=prog, description=__doc__)
    check_output_folder(options.out)
    lights = lights_of_options(options.lights, options.settings)
    if len({light.name for light in lights}) < len(lights):
        raise ValueError("--lights must have different names, as files are named by them")
    sampler = options.generator.open_sampler()
    people = options.people.named(sampler)
    count = len(people) * len(lights)
    if options.dry_run:
        console.print(
            f"would write {count} files of {count_people(len(people))} with a "
            f"{sampler.description} into {options.out}"
        )
        return
    options.out.mkdir(exist_ok=True)
    for name, person in people:
        gaussians = sampler.head(person).gaussians
        for light in lights:
            path = options.out / f"{name}_{light.name}.ply"
            splats = lit_splats(gaussians, light.light.to(sampler.device), light.mode)
            write_splats(path, splats)
            console.print(f"splats: {path} ({len(splats)} splats)")

"""``vultus generate-mesh``: surfaces of generated people, with colours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vultus.cli.console import console
from vultus.cli.generator_options import (
    GeneratorOptions,
    PeopleOptions,
    check_output_folder,
    count_people,
    describe_generator,
    open_sampler,
    parse_options,
)
from vultus.export.mesh_files import write_mesh
from vultus.export.mrc import write_mrc
from vultus.methods.spherehead.density import (
    DensitySettings,
    cube_length,
    density_grid,
    head_mesh,
)
from vultus.methods.spherehead.sampling import HeadSampler, People

__all__ = ["GenerateMeshOptions", "MeshFormat", "main"]

MeshFormat = Literal["ply", "obj", "glb", "mrc"]


@dataclass(frozen=True)
class GenerateMeshOptions:
    """Sample the density of generated people on a grid and extract its surface.

    Units and axes are those of the generator: the face looks along +z, +y is up.
    """

    generator: Annotated[GeneratorOptions, tyro.conf.arg(name="")] = field(
        default_factory=GeneratorOptions
    )
    out: Path = Path("people")
    """Folder; made if missing, files of the same names are replaced."""
    people: Annotated[PeopleOptions, tyro.conf.arg(name="")] = field(default_factory=PeopleOptions)
    formats: tuple[MeshFormat, ...] = ("ply",)
    """ply, obj and glb hold the surface with colours; mrc holds the densities themselves."""
    density: Annotated[DensitySettings, tyro.conf.arg(name="")] = field(
        default_factory=DensitySettings
    )
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, sample, write."""
    options = parse_options(GenerateMeshOptions, "generate-mesh", arguments, __doc__)
    if not options.formats:
        raise ValueError("--formats must name at least one")
    check_output_folder(options.out)
    sampler = open_sampler(options.generator)
    people = options.people.named(sampler)
    side = options.density.resolution
    length = cube_length(sampler.generator, options.density)
    if options.dry_run:
        console.print(
            f"would sample {side} x {side} x {side} points of a cube of {length:g} for "
            f"{count_people(len(people))} with a {describe_generator(sampler)} and write "
            f"{', '.join(options.formats)} into {options.out}"
        )
        return
    options.out.mkdir(exist_ok=True)
    for name, person in people:
        _write(sampler, person, options.out / name, options, length)


def _write(
    sampler: HeadSampler, person: People, path: Path, options: GenerateMeshOptions, length: float
) -> None:
    """Write the files of one person; their formats become suffixes of the path."""
    head = sampler.head(person)
    density = density_grid(sampler.generator, head, options.density)
    if "mrc" in options.formats:
        write_mrc(path.with_suffix(".mrc"), density, length)
        console.print(f"volume: {path.with_suffix('.mrc')}")
    surfaces = [kind for kind in options.formats if kind != "mrc"]
    if not surfaces:
        return
    try:
        mesh = head_mesh(sampler.generator, head, options.density, density)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    for kind in surfaces:
        write_mesh(path.with_suffix(f".{kind}"), mesh)
        count = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces"
        console.print(f"mesh: {path.with_suffix(f'.{kind}')} ({count})")

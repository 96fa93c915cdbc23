"""``vultus generate-mesh``: surfaces of generated people, with colours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vultus.cli.console import console
from vultus.cli.generator_options import (
    GeneratorOptions,
    check_output_folder,
    describe_generator,
    open_sampler,
    parse_seeds,
)
from vultus.export.mesh_files import write_mesh
from vultus.export.mrc import write_mrc
from vultus.methods.spherehead.density import (
    DensitySettings,
    cube_length,
    density_grid,
    head_mesh,
)
from vultus.methods.spherehead.sampling import HeadSampler

__all__ = ["GenerateMeshOptions", "MeshFormat", "main"]

MeshFormat = Literal["ply", "obj", "glb", "mrc"]


@dataclass(frozen=True)
class GenerateMeshOptions:
    """Sample the density of generated people on a grid and extract its surface.

    Units and axes are those of the generator: the face looks along +z, +y is up.
    """

    generator: Annotated[GeneratorOptions, tyro.conf.arg(name="")]
    out: Path
    """Folder; made if missing, files of the same names are replaced."""
    seeds: str = "0"
    """People: numbers and ranges such as 1,4-6."""
    formats: tuple[MeshFormat, ...] = ("ply",)
    """ply, obj and glb hold the surface with colours; mrc holds the densities themselves."""
    density: Annotated[DensitySettings, tyro.conf.arg(name="")] = field(
        default_factory=DensitySettings
    )
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, sample, write."""
    options = tyro.cli(
        GenerateMeshOptions, args=arguments, prog="vultus generate-mesh", description=__doc__
    )
    seeds = parse_seeds(options.seeds)
    check_output_folder(options.out)
    sampler = open_sampler(options.generator)
    side = options.density.resolution
    length = cube_length(sampler.generator, options.density)
    if options.dry_run:
        console.print(
            f"would sample {side} x {side} x {side} points of a cube of {length:g} for "
            f"{len(seeds)} people with a {describe_generator(sampler)} and write "
            f"{', '.join(options.formats)} into {options.out}"
        )
        return
    options.out.mkdir(exist_ok=True)
    for seed in seeds:
        _write(sampler, seed, options, length)


def _write(sampler: HeadSampler, seed: int, options: GenerateMeshOptions, length: float) -> None:
    head = sampler.head(sampler.people((seed,)))
    density = density_grid(sampler.generator, head, options.density)
    path = options.out / f"seed{seed:04d}"
    if "mrc" in options.formats:
        write_mrc(path.with_suffix(".mrc"), density, length)
        console.print(f"volume: {path.with_suffix('.mrc')}")
    surfaces = [kind for kind in options.formats if kind != "mrc"]
    if not surfaces:
        return
    try:
        mesh = head_mesh(sampler.generator, head, options.density, density)
    except ValueError as error:
        raise ValueError(f"seed {seed}: {error}") from error
    for kind in surfaces:
        write_mesh(path.with_suffix(f".{kind}"), mesh)
        count = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces"
        console.print(f"mesh: {path.with_suffix(f'.{kind}')} ({count})")

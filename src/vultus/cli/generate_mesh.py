"""``vultus generate-mesh``: surfaces of generated people, with colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from vultus.cli.console import console
from vultus.cli.generator_options import (
    LitGaussianOptions,
    OptionsT,
    PeopleOptions,
    SphereSurfaceOptions,
    check_output_folder,
    count_people,
    parse_options,
)
from vultus.export.mesh_files import write_mesh
from vultus.export.mrc import write_mrc
from vultus.geometry.decimation import decimated_mesh
from vultus.methods.generated_heads import HeadCarver
from vultus.methods.gsheadrelight.occupancy import OccupancyCarver, OccupancySettings
from vultus.methods.people import People
from vultus.methods.spherehead.density import DensityCarver, DensitySettings

__all__ = ["GenerateMeshOptions", "MeshFormat", "main"]

_LEAST_FACES = 4
"""Of a closed surface."""

MeshFormat = Literal["ply", "obj", "glb", "mrc"]

SurfaceT = TypeVar("SurfaceT", DensitySettings, OccupancySettings)
_GENERATORS = {"spherehead": SphereSurfaceOptions, "gsheadrelight": LitGaussianOptions}
_SURFACES: dict[str, type] = {"spherehead": DensitySettings, "gsheadrelight": OccupancySettings}
"""Method -> how its heads are sampled."""
_CARVERS: dict[type, Callable[[Any, Any], HeadCarver]] = {
    DensitySettings: DensityCarver,
    OccupancySettings: OccupancyCarver,
}


@dataclass(frozen=True)
class GenerateMeshOptions(Generic[OptionsT, SurfaceT]):
    """Sample the density of generated people on a grid and extract its surface.

    Units and axes are those of the generator: the face looks along +z, +y is up. Colours of
    GSHeadRelight are those in the chosen light, or the albedo.
    """

    generator: Annotated[OptionsT, tyro.conf.arg(name="")]
    surface: Annotated[SurfaceT, tyro.conf.arg(name="")]
    out: Path = Path("people")
    """Folder; made if missing, files of the same names are replaced."""
    people: Annotated[PeopleOptions, tyro.conf.arg(name="")] = field(default_factory=PeopleOptions)
    formats: tuple[MeshFormat, ...] = ("ply",)
    """ply, obj and glb hold the surface with colours; mrc holds the densities themselves."""
    max_faces: int | None = None
    """Most faces that a surface may have; vertices are then removed where it bends least. Default:
    all that the grid gives."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, sample, write."""
    options: GenerateMeshOptions[Any, Any] = parse_options(
        GenerateMeshOptions, "generate-mesh", arguments, __doc__, (_GENERATORS, _SURFACES)
    )
    if not options.formats:
        raise ValueError("--formats must name at least one")
    if options.max_faces is not None:
        if options.max_faces < _LEAST_FACES:
            raise ValueError(
                f"--max-faces must be at least {_LEAST_FACES}, got {options.max_faces}"
            )
        if set(options.formats) == {"mrc"}:
            raise ValueError("--max-faces needs a format with a surface: ply, obj or glb")
    check_output_folder(options.out)
    sampler = options.generator.open_sampler()
    carver = _CARVERS[type(options.surface)](sampler, options.surface)
    people = options.people.named(sampler)
    side = options.surface.resolution
    if options.dry_run:
        console.print(
            f"would sample {side} x {side} x {side} points of a cube of {carver.length:g} for "
            f"{count_people(len(people))} with a {sampler.description} and write "
            f"{', '.join(options.formats)} into {options.out}"
        )
        return
    options.out.mkdir(exist_ok=True)
    for name, person in people:
        _write(carver, person, options.out / name, options.formats, options.max_faces)


def _write(
    carver: HeadCarver,
    person: People,
    path: Path,
    formats: tuple[MeshFormat, ...],
    max_faces: int | None,
) -> None:
    """Write the files of one person; their formats become suffixes of the path."""
    surfaces = [kind for kind in formats if kind != "mrc"]
    try:
        carved = carver.carve(person, has_mesh=bool(surfaces))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if "mrc" in formats:
        write_mrc(path.with_suffix(".mrc"), carved.density, carver.length)
        console.print(f"volume: {path.with_suffix('.mrc')}")
    mesh = carved.mesh
    if mesh is None:
        return
    if max_faces is not None:
        mesh = decimated_mesh(mesh, max_faces)
    count = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces"
    for kind in surfaces:
        write_mesh(path.with_suffix(f".{kind}"), mesh)
        console.print(f"mesh: {path.with_suffix(f'.{kind}')} ({count})")

"""``vultus envmap-light``: the light of a map of surroundings as spherical harmonics."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from vultus.cli.avatar_run import output_path
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.core.image_io import write_image
from vultus.export.relit_people import light_picture
from vultus.methods.gsheadrelight.light_files import LIGHT_SUFFIXES, write_light
from vultus.methods.gsheadrelight.light_sources import LightSettings, light_of_map

__all__ = ["EnvmapLightOptions", "main"]

_TERMS = ("1", "Y", "Z", "X", "XY", "YZ", "3ZZ-1", "XZ", "XX-YY")


@dataclass(frozen=True)
class EnvmapLightOptions:
    """Integrate a map into 9 coefficients for each colour.

    They are radiance over pi in an orthonormal basis, with X to the right of a frontal picture, Y
    into the scene and Z up; --light and --lights take the file. A picture beside it shows a white
    ball in the light, above the map with what is before the face in its middle.
    """

    envmap: Positional[Path]
    """Map of the surroundings (.hdr, .exr)."""
    out: Path | None = None
    """File of the coefficients (.json, .txt, .npz); default: the map's name with .json, here."""
    settings: Annotated[LightSettings, tyro.conf.arg(name="")] = field(
        default_factory=LightSettings
    )
    gray: bool = False
    """Write the luminance alone: 9 numbers instead of 27."""
    picture_size: int = 256
    """Side of the picture."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Read, integrate, write."""
    options = parse_arguments(
        EnvmapLightOptions, arguments, prog="vultus envmap-light", description=__doc__
    )
    out = output_path(options.out, Path(f"{options.envmap.stem}.json"), LIGHT_SUFFIXES)
    if options.picture_size < 2 or options.picture_size % 2:
        raise ValueError(f"--picture-size must be even and positive, got {options.picture_size}")
    source = light_of_map(options.envmap, options.settings)
    if options.gray:
        source = source.gray()
    if options.dry_run:
        console.print(f"would write {source.light.numel()} coefficients to {out}")
        return
    path, picture = out.with_suffix(".png"), light_picture(source, options.picture_size)
    write_light(out, source.light)
    write_image(path, picture)
    rows = [[term, *row] for term, row in zip(_TERMS, source.light.tolist(), strict=True)]
    columns = ["luminance"] if options.gray else ["red", "green", "blue"]
    print_table(str(options.envmap), ["term", *columns], rows)
    console.print(f"light: {out}, picture: {path}")

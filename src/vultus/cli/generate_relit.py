"""``vultus generate-relit``: generated people in many lights, which may go around them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vultus.cli.avatar_run import output_path
from vultus.cli.console import console
from vultus.cli.generator_options import (
    ManyLightsOptions,
    PeopleOptions,
    count_people,
    split_method,
)
from vultus.cli.option_parser import parse_arguments
from vultus.core.image_io import write_image
from vultus.core.video_io import write_video
from vultus.export.relit_people import RelitFilm, Surroundings, film_relit, relit_sheet
from vultus.methods.gsheadrelight.light_sources import (
    LightSettings,
    LightSource,
    TurnAxis,
    open_lights,
)
from vultus.methods.head_views import Motion
from vultus.methods.people import People

__all__ = ["RELIGHTABLE_METHODS", "GenerateRelitOptions", "lights_of_options", "main"]

RELIGHTABLE_METHODS = ("gsheadrelight",)
_PICTURES = (".png", ".jpg", ".jpeg")
_MAX_COLUMNS = 360
"""Of one light: a degree each."""
_OF_FILMS = ("frames", "motion", "arrange", "fps")
"""Options that mean nothing for a sheet."""
_OF_TURNS = ("turns", "around")
"""Options that mean nothing where light stands still."""


@dataclass(frozen=True)
class GenerateRelitOptions:
    """Write a film, or a sheet with people in rows and lights in columns."""

    generator: Annotated[ManyLightsOptions, tyro.conf.arg(name="")] = field(
        default_factory=ManyLightsOptions
    )
    out: Path = Path("relit.mp4")
    """Film (.mp4), or sheet (.png, .jpg) whose first row shows the lights."""
    columns: int = 1
    """Of a sheet, for each light: places on its way around people (--turns), at most 360; 1 shows
    lights as they are."""
    people: Annotated[PeopleOptions, tyro.conf.arg(name="")] = field(default_factory=PeopleOptions)
    lights: tuple[str, ...] = ("front",)
    """front, left, right, above, below, even, or albedo for none; or files: maps of surroundings
    (.hdr, .exr), or 9 or 27 coefficients (.json of envmap-light, .npz, or .txt as DPR's)."""
    settings: Annotated[LightSettings, tyro.conf.arg(name="")] = field(
        default_factory=LightSettings
    )
    show: Surroundings = "none"
    """Where light comes from. inset: a white ball and the map in a corner; background: the map
    behind people."""
    frames: int = 120
    """Of a film, for a turn of the camera's path (official --w-frames)."""
    turns: float = 1.0
    """How often light goes around people in these frames; negative the other way, 0 not at all."""
    around: TurnAxis = "up"
    """up: around the vertical; view: around the axis of a frontal camera, like the lights that are
    published with GSHeadRelight."""
    motion: Motion = "front"
    """Of the camera: front stands still; face, swing and orbit move."""
    arrange: Literal["grid", "sequence"] = "grid"
    """Lights in columns side by side, or one after the other, each for all frames (as
    published)."""
    fps: float = 30.0
    """Frames per second."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, light, write."""
    method, rest = split_method("generate-relit", arguments, RELIGHTABLE_METHODS)
    prog = f"vultus generate-relit {method}"
    options = parse_arguments(GenerateRelitOptions, rest, prog=prog, description=__doc__)
    out = output_path(options.out, options.out, [".mp4", *_PICTURES])
    film = RelitFilm(
        options.frames,
        options.turns,
        options.around,
        options.motion,
        options.show,
        is_sequence=options.arrange == "sequence",
    )
    if not options.fps > 0:
        raise ValueError(f"--fps must be positive, got {options.fps}")
    is_film = out.suffix.lower() == ".mp4"
    _check_kind(options, is_film=is_film)
    lights = lights_of_options(options.lights, options.settings)
    sampler = options.generator.open_sampler()
    people = People.join([person for _, person in options.people.named(sampler)])
    what = f"{film.num_frames(len(lights))} frames" if is_film else "a sheet"
    num_lights = len(lights) * options.columns
    if options.dry_run:
        console.print(
            f"would write {what} of {count_people(len(people))} in {num_lights} lights with a "
            f"{sampler.description} to {out}"
        )
        return
    if is_film:
        count = write_video(out, film_relit(sampler, people, lights, film), options.fps)
        console.print(f"film: {out} ({count} frames)")
        return
    columns = [turned for light in lights for turned in _turn(light, options)]
    write_image(out, relit_sheet(sampler, people, columns, sampler.rig.label(), options.show))
    console.print(f"sheet: {out} ({count_people(len(people))} in {num_lights} lights)")


def _check_kind(options: GenerateRelitOptions, *, is_film: bool) -> None:
    """Refuse what has no effect on a film, or on a sheet."""
    if not 1 <= options.columns <= _MAX_COLUMNS:
        raise ValueError(f"--columns must be 1 to {_MAX_COLUMNS}, got {options.columns}")
    if is_film:
        if options.columns > 1:
            raise ValueError(f"--columns needs a sheet (.png, .jpg), got --out {options.out}")
        return
    needs = {name: "a film (.mp4)" for name in _OF_FILMS}
    if options.columns == 1:
        needs |= {name: "a film (.mp4), or --columns of a sheet" for name in _OF_TURNS}
    for option in fields(options):
        if option.name in needs and getattr(options, option.name) != option.default:
            raise ValueError(f"--{option.name} needs {needs[option.name]}, got --out {options.out}")


def _turn(light: LightSource, options: GenerateRelitOptions) -> list[LightSource]:
    """A light at equal steps of its way around people."""
    step = 2.0 * math.pi * options.turns / options.columns
    return [light.turned(index * step, options.around) for index in range(options.columns)]


def lights_of_options(texts: tuple[str, ...], settings: LightSettings) -> list[LightSource]:
    """Find or read the lights that ``--lights`` names.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If there is none, or one is no light.
    """
    if not texts:
        raise ValueError("--lights must name at least one")
    return open_lights(texts, settings)

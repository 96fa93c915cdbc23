"""``vultus generate-video``: films around generated people, from one to the next, in a grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic

import tyro

from vultus.cli.avatar_run import output_path
from vultus.cli.console import console
from vultus.cli.generate import check_outputs
from vultus.cli.generator_options import OptionsT, PeopleOptions, count_people, parse_options
from vultus.core.video_io import write_video
from vultus.export.generator_films import GeneratorFilm, film_people
from vultus.methods.generated_heads import GeneratorOutput
from vultus.methods.head_views import Motion
from vultus.methods.people import Between, People

__all__ = ["GenerateVideoOptions", "main"]


@dataclass(frozen=True)
class GenerateVideoOptions(Generic[OptionsT]):
    """Write a film that loops.

    With as many people as tiles, a tile shows one of them; with more, each tile goes through its
    share of them and back to the first.
    """

    generator: Annotated[OptionsT, tyro.conf.arg(name="")]
    out: Path = Path("people.mp4")
    """Film to write (.mp4)."""
    people: Annotated[PeopleOptions, tyro.conf.arg(name="")] = field(default_factory=PeopleOptions)
    grid: tuple[int, int] = (1, 1)
    """Columns and rows of people."""
    frames: int = 120
    """Frames for each person that a tile shows (official --w-frames 240)."""
    motion: Motion | None = None
    """orbit: once around in the whole film; front: a camera that stands still; swing: to and fro in
    front of the face; face: the same, less far. Default: orbit where heads have a back, else
    face."""
    between: Between = "w"
    """On the way to the next person: w follows a spline through styles, as published, z goes along
    arcs between latents."""
    outputs: tuple[GeneratorOutput, ...] = ("rgb",)
    """Side by side in each tile: rgb, depth, mask, normals; with SphereHead raw before
    super-resolution; with GSHeadRelight albedo and shading."""
    fps: float = 30.0
    """Frames per second."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, generate, write."""
    options: GenerateVideoOptions[Any] = parse_options(
        GenerateVideoOptions, "generate-video", arguments, __doc__
    )
    out = output_path(options.out, options.out, [".mp4"])
    if not options.fps > 0:
        raise ValueError(f"--fps must be positive, got {options.fps}")
    sampler = options.generator.open_sampler()
    check_outputs(options.outputs, sampler)
    motion = options.motion or ("orbit" if sampler.shows_all_sides else "face")
    film = GeneratorFilm(options.grid, options.frames, motion, options.between, options.outputs)
    people = People.join([person for _, person in options.people.named(sampler)])
    count = film.num_frames(len(people))
    if options.dry_run:
        console.print(
            f"would write {count} frames of {count_people(len(people))} with a "
            f"{sampler.description} to {out}"
        )
        return
    count = write_video(out, film_people(sampler, people, film), options.fps)
    console.print(f"film: {out} ({count} frames)")

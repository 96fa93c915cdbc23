"""Films of generated people: around one head, from person to person, many side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.progress import track
from vultus.export.generator_pictures import picture_of_head
from vultus.methods.generated_heads import GeneratorOutput, HeadT, PeopleSampler
from vultus.methods.head_views import Motion, motion_labels
from vultus.methods.people import Between, People

__all__ = ["GeneratorFilm", "film_people"]


@dataclass(frozen=True)
class GeneratorFilm:
    """How people are filmed; the film ends where it began."""

    grid: tuple[int, int] = (1, 1)
    """Columns and rows of the picture. Its tiles share out the people in order; each goes through
    its own and back to the first."""
    frames_per_person: int = 120
    motion: Motion = "orbit"
    between: Between = "w"
    outputs: tuple[GeneratorOutput, ...] = ("rgb",)
    """Side by side in each tile."""

    def __post_init__(self) -> None:
        """Reject what shows nothing."""
        columns, rows = self.grid
        if columns < 1 or rows < 1:
            raise ValueError(f"grid must have at least 1 column and row, got {columns} x {rows}")
        if self.frames_per_person < 1:
            raise ValueError(f"frames_per_person must be positive, got {self.frames_per_person}")
        if not self.outputs:
            raise ValueError("outputs must name at least one")

    def people_per_tile(self, num_people: int) -> int:
        """How many people a tile goes through.

        Raises:
            ValueError: If the tiles cannot share them out.
        """
        tiles = self.grid[0] * self.grid[1]
        if num_people < 1 or num_people % tiles:
            raise ValueError(
                f"people must be a multiple of the {tiles} tiles of the grid, got {num_people}"
            )
        return num_people // tiles

    def num_frames(self, num_people: int) -> int:
        """Length of the film."""
        return self.people_per_tile(num_people) * self.frames_per_person


def film_people(
    sampler: PeopleSampler[HeadT], people: People, film: GeneratorFilm
) -> Iterator[Float[Tensor, "3 h w"]]:
    """Make the frames one by one.

    Depth has the same colours in all frames.

    Raises:
        ValueError: If the tiles cannot share out the people.
    """
    count, num_frames = film.people_per_tile(len(people)), film.num_frames(len(people))
    labels = motion_labels(sampler.rig, film.motion, num_frames)
    times = torch.arange(num_frames) / film.frames_per_person
    shares = [people[start : start + count] for start in range(0, len(people), count)]
    tiles = [sampler.way(share, times, film.between) for share in shares]
    # People who do not change keep their planes.
    stills = [sampler.head(tile[0]) for tile in tiles] if count == 1 else None
    for index in track(range(num_frames), label="filming", unit="frames"):
        heads = stills or [sampler.head(tile[index]) for tile in tiles]
        label = labels[index : index + 1]
        yield _mosaic([_tile(sampler, head, label, film) for head in heads], film.grid[0])


def _tile(
    sampler: PeopleSampler[HeadT],
    head: HeadT,
    label: Tensor,
    film: GeneratorFilm,
) -> Float[Tensor, "3 h w"]:
    seen = sampler.look(head, label)
    bounds = sampler.depth_bounds
    return torch.cat([picture_of_head(seen, output, bounds) for output in film.outputs], dim=2)


def _mosaic(tiles: Sequence[Tensor], columns: int) -> Float[Tensor, "3 h w"]:
    rows = [torch.cat([*tiles[i : i + columns]], dim=2) for i in range(0, len(tiles), columns)]
    return torch.cat(rows, dim=1)

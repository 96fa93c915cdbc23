"""Films of generated people: around one head, from person to person, many side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.progress import track
from vultus.export.generator_pictures import GeneratorOutput, look, picture_of_head
from vultus.methods.spherehead.sampling import Between, Head, HeadSampler
from vultus.methods.spherehead.views import Motion, motion_labels

__all__ = ["FilmPlan", "generator_film"]


@dataclass(frozen=True)
class FilmPlan:
    """What a film shows; it ends where it began."""

    seeds: tuple[int, ...]
    """People, shared out over the tiles of the grid in order."""
    grid: tuple[int, int] = (1, 1)
    """Columns and rows of the picture."""
    frames_per_person: int = 120
    motion: Motion = "orbit"
    between: Between = "w"
    outputs: tuple[GeneratorOutput, ...] = ("rgb",)

    def __post_init__(self) -> None:
        """Reject what fills no grid."""
        columns, rows = self.grid
        if columns < 1 or rows < 1:
            raise ValueError(f"grid must have at least 1 column and row, got {columns} x {rows}")
        if not self.seeds or len(self.seeds) % (columns * rows):
            raise ValueError(
                f"seeds must be a multiple of the {columns * rows} tiles of the grid, got "
                f"{len(self.seeds)}"
            )
        if self.frames_per_person < 1:
            raise ValueError(f"frames_per_person must be positive, got {self.frames_per_person}")

    @property
    def keys_per_tile(self) -> int:
        """People that a tile goes through."""
        return len(self.seeds) // (self.grid[0] * self.grid[1])

    @property
    def num_frames(self) -> int:
        """Length of the film."""
        return self.keys_per_tile * self.frames_per_person


def generator_film(sampler: HeadSampler, plan: FilmPlan) -> Iterator[Float[Tensor, "3 h w"]]:
    """Make the frames one by one.

    Depth is coloured from the near to the far side of the box, in all frames alike.
    """
    labels = motion_labels(sampler.rig, plan.motion, plan.num_frames)
    times = torch.arange(plan.num_frames) / plan.frames_per_person
    tiles = [sampler.people_between(seeds, times, plan.between) for seeds in _shared_out(plan)]
    bounds = _depth_bounds(sampler)
    # People who do not change keep their planes.
    stills = [sampler.head(tile[0]) for tile in tiles] if plan.keys_per_tile == 1 else None
    for index in track(range(plan.num_frames), label="filming", unit="frames"):
        heads = stills or [sampler.head(tile[index]) for tile in tiles]
        label = labels[index : index + 1]
        yield _mosaic([_tile(sampler, head, label, plan, bounds) for head in heads], plan.grid[0])


def _tile(
    sampler: HeadSampler,
    head: Head,
    label: Tensor,
    plan: FilmPlan,
    bounds: tuple[float, float],
) -> Float[Tensor, "3 h w"]:
    seen = look(sampler, head, label)
    return torch.cat([picture_of_head(seen, output, bounds) for output in plan.outputs], dim=2)


def _mosaic(tiles: Sequence[Tensor], columns: int) -> Float[Tensor, "3 h w"]:
    rows = [torch.cat([*tiles[i : i + columns]], dim=2) for i in range(0, len(tiles), columns)]
    return torch.cat(rows, dim=1)


def _shared_out(plan: FilmPlan) -> list[tuple[int, ...]]:
    count = plan.keys_per_tile
    return [plan.seeds[i : i + count] for i in range(0, len(plan.seeds), count)]


def _depth_bounds(sampler: HeadSampler) -> tuple[float, float]:
    """Between the sides of the box that are nearest and farthest in a frontal view."""
    half = 0.5 * sampler.generator.config.volume.box_size
    return sampler.rig.distance - half, sampler.rig.distance + half

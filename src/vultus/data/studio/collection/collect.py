"""Draw, take and write a collection: people are made in threads while others are taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.progress import Progress
from vultus.core.threads import map_in_threads
from vultus.data.camera_labels import labels_to_camera
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.collection.folder import CollectionFolder, PersonPictures
from vultus.data.studio.collection.people import Person, check_heads, draw_person
from vultus.data.studio.collection.shots import Shot, draw_shots, place_heads
from vultus.data.studio.frames import StudioFrame, fetch_frames
from vultus.data.studio.renderer import StudioRenderer
from vultus.geometry.cameras import Camera

__all__ = ["CollectionPlan", "collect", "plan_collection"]


@dataclass(frozen=True)
class CollectionPlan:
    """A collection whose inputs and folder were checked, and what is left to do."""

    folder: CollectionFolder
    missing: tuple[int, ...]
    """Numbers of the people to make, of this part."""

    @property
    def num_missing(self) -> int:
        """Pictures to take."""
        return sum(len(self.folder.pictures_of(number)) for number in self.missing)


@dataclass(frozen=True)
class _Sitting:
    """A person who is ready for the cameras."""

    number: int
    person: Person
    vertices: Float[Tensor, "b v 3"]
    shots: list[Shot]


def plan_collection(
    config: CollectionConfig, out: Path, count: int, part: tuple[int, int] = (0, 1)
) -> CollectionPlan:
    """Check a collection without writing anything; see ``collect``."""
    index, parts = part
    if count < 1:
        raise ValueError(f"count must be positive, got {count}")
    if not 0 <= index < parts:
        raise ValueError(f"part must be I and N with 0 <= I < N, got {index} and {parts}")
    check_heads(config)
    folder = CollectionFolder(out, config, count)
    folder.check()
    people = range(index, folder.num_people, parts)
    return CollectionPlan(folder, tuple(n for n in people if not folder.has_person(n)))


def collect(
    config: CollectionConfig,
    out: Path,
    count: int,
    *,
    part: tuple[int, int] = (0, 1),
    threads: int | None = None,
    device: torch.device | str = "cpu",
) -> int:
    """Make an image set of random people.

    A stopped collection continues where it was, person by person, and a complete one grows if more
    pictures are asked for. Picture n is the same whatever the count, the parts and the threads.

    Args:
        config: Whom to draw and how.
        out: Folder; made if missing. ``folder`` says what is written.
        count: Pictures in all.
        part: (i, n): make every n-th person from the i-th on; for several processes or machines
            that write into one folder. The one that ends last writes the label files.
        threads: Workers; ``None`` takes all cores.
        device: Where pictures are taken; those of a GPU differ by the rounding of float32.

    Returns:
        Number of pictures taken now.

    Raises:
        FileNotFoundError: If the file of a head model is missing.
        ValueError: If the folder holds another collection.
    """
    plan = plan_collection(config, out, count, part)
    folder = plan.folder
    folder.begin()

    def prepare(number: int) -> _Sitting:
        return _prepare(config, number, len(folder.pictures_of(number)))

    sittings = map_in_threads(prepare, plan.missing, workers=threads)
    taken = _take_all(config, sittings, threads, torch.device(device))
    with Progress("collecting", plan.num_missing, "images") as progress:
        for written in map_in_threads(folder.write_person, taken, workers=threads):
            progress.advance(written)
    if all(folder.has_person(number) for number in range(folder.num_people)):
        folder.finish()
    return plan.num_missing


def _prepare(config: CollectionConfig, number: int, num_pictures: int) -> _Sitting:
    person = draw_person(config, number)
    pose, shots = draw_shots(config, number, person.subject.head)
    # All are posed even if few are wanted: a product of another size may round differently.
    vertices = place_heads(person.subject, pose)
    return _Sitting(number, person, vertices[:num_pictures], shots[:num_pictures])


def _take_all(
    config: CollectionConfig,
    sittings: Iterator[_Sitting],
    threads: int | None,
    device: torch.device,
) -> Iterator[PersonPictures]:
    """Take all pictures; a GPU works ahead while the CPU waits for the oldest."""
    frames = fetch_frames(_shoot(config, sittings, threads, device))
    for number, group in groupby(frames, key=lambda item: item[0].number):
        taken = list(group)
        sitting = taken[0][0]
        pictures = tuple(frame for _, frame in taken)
        yield PersonPictures(number, sitting.person.facts, tuple(sitting.shots), pictures)


def _shoot(
    config: CollectionConfig,
    sittings: Iterator[_Sitting],
    threads: int | None,
    device: torch.device,
) -> Iterator[tuple[_Sitting, StudioFrame]]:
    for sitting in sittings:
        subject = sitting.person.subject
        faces = subject.head.topology.faces
        # One ray hierarchy and one set of textures serve all pictures of a person.
        renderer = StudioRenderer(faces, subject.appearance, threads, device=device)
        cameras = _cameras(config, sitting.shots)
        for index, shot in enumerate(sitting.shots):
            renderer.pose(sitting.vertices[index], sitting.vertices[0])
            renderer.set_light(shot.light)
            frame = renderer.render(
                cameras[index], config.samples, shadows="baked_seen", background=None
            )
            yield sitting, frame


def _cameras(config: CollectionConfig, shots: Sequence[Shot]) -> Camera:
    """Cameras of labels in metres."""
    labels = torch.stack([shot.label for shot in shots])
    camera = labels_to_camera(labels, config.size)
    world_to_camera = camera.world_to_camera.clone()
    world_to_camera[:, :3, 3] *= config.meters_per_unit
    return Camera(world_to_camera, camera.intrinsics, config.size, config.size)

"""Draw, take and write a collection: people are made ahead, while others are taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.processes import map_in_processes
from vultus.core.progress import Progress
from vultus.core.threads import map_in_threads, num_threads
from vultus.data.camera_labels import labels_to_camera
from vultus.data.studio.collection.config import CollectionConfig
from vultus.data.studio.collection.folder import CollectionFolder, PersonPictures
from vultus.data.studio.collection.people import check_heads, draw_person, plain_head
from vultus.data.studio.collection.shots import Shot, draw_shots, place_heads
from vultus.data.studio.frames import StudioFrame, fetch_frames
from vultus.data.studio.renderer import StudioRenderer
from vultus.geometry.cameras import Camera
from vultus.heads.appearance import HeadAppearance

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
    head: str
    facts: Mapping[str, Any]
    appearance: HeadAppearance
    vertices: Float[Tensor, "b v 3"]
    shots: tuple[Shot, ...]


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
    processes: int | None = None,
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
        threads: Workers that write files, and on the CPU take pictures; ``None`` takes all cores.
        processes: Processes that make people; 0 does it in the threads. By default 0 where the CPU
            takes the pictures, else one less than there are cores.
        device: Where pictures are taken; those of a GPU differ by the rounding of float32.

    Returns:
        Number of pictures taken now.

    Raises:
        FileNotFoundError: If the file of a head model is missing.
        ValueError: If the folder holds another collection.
    """
    plan = plan_collection(config, out, count, part)
    folder, device = plan.folder, torch.device(device)
    if not plan.missing and folder.is_finished():
        return 0
    folder.begin()
    sittings = _sittings(config, plan, threads, processes, device)
    taken = _take_all(config, sittings, threads, device)
    with Progress("collecting", plan.num_missing, "images") as progress:
        for written in map_in_threads(folder.write_person, taken, workers=threads):
            progress.advance(written)
    if all(folder.has_person(number) for number in range(folder.num_people)):
        folder.finish()
    return plan.num_missing


def _sittings(
    config: CollectionConfig,
    plan: CollectionPlan,
    threads: int | None,
    processes: int | None,
    device: torch.device,
) -> Iterator[_Sitting]:
    """Make the missing people ahead of the cameras, in order."""
    if processes is None:
        processes = 0 if device.type == "cpu" else max(num_threads() - 1, 1)
    tasks = [(number, len(plan.folder.pictures_of(number))) for number in plan.missing]
    processes = min(processes, len(tasks))
    if processes == 0:
        return map_in_threads(partial(_prepare, config), tasks, workers=threads)
    return map_in_processes(partial(_prepare, config), tasks, workers=processes)


def _prepare(config: CollectionConfig, task: tuple[int, int]) -> _Sitting:
    """Make a person for the first pictures of his or hers."""
    number, num_pictures = task
    person = draw_person(config, number)
    subject = person.subject
    pose, shots = draw_shots(config, number, subject.head)
    # All are posed even if few are wanted: a product of another size may round differently.
    vertices = place_heads(subject, pose)[:num_pictures].contiguous()
    return _Sitting(
        number,
        subject.head.name,
        person.facts,
        subject.appearance,
        vertices,
        tuple(shots[:num_pictures]),
    )


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
        yield PersonPictures(number, sitting.facts, sitting.shots, pictures)


def _shoot(
    config: CollectionConfig,
    sittings: Iterator[_Sitting],
    threads: int | None,
    device: torch.device,
) -> Iterator[tuple[_Sitting, StudioFrame]]:
    renderers: dict[str, StudioRenderer] = {}
    for sitting in sittings:
        # One ray hierarchy serves all people of a head model: it is refitted, not built anew. It
        # is built for the model's rest shape, so that no picture depends on who came before.
        head = plain_head(config, sitting.head)
        renderer = renderers.get(sitting.head)
        if renderer is None:
            renderer = StudioRenderer(
                head.topology.faces, sitting.appearance, threads, device=device
            )
            renderers[sitting.head] = renderer
        renderer.dress(sitting.appearance)
        cameras = _cameras(config, sitting.shots)
        for index, shot in enumerate(sitting.shots):
            renderer.pose(sitting.vertices[index], head.neutral)
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

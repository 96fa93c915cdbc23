"""What a collection writes: the layout of SphereHead's and GSHeadRelight's training sets.

    img/00000/img00000000.png ...     pictures; RGBA where the backdrop is transparent
    img/dataset.json                  {"labels": [[name, 25 numbers], ...],
                                       "sh": [[name, 9 numbers], ...], "sh_frame": "camera"}
    img/dataset_rgb_sh_2.json         the same with 27 numbers: 9 coefficients of 3 channels each
    seg/00000/img00000000.png ...     the person's coverage, grey; seg/dataset.json: the labels
    parts/00000/img00000000.png ...   semantic maps in the classes of ``PARSING_CLASSES``
    people/00000/person00000000.json  all that is known about a person and his or her pictures
    collection.json                   settings, versions, conventions
    sheet.png                         some of the pictures

A person's record is written after the pictures that it lists, and the label files after all
records: what is there is complete, whenever the work was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.core.config import config_to_data
from vultus.core.environment import package_versions
from vultus.core.files import read_json, write_json, write_text
from vultus.core.image_io import read_rgba, to_bytes, write_image
from vultus.core.srgb import LUMINANCE
from vultus.data.camera_labels import labels_to_camera
from vultus.data.semantics import PARSING_CLASSES
from vultus.data.studio.collection.config import (
    COLLECTION_FORMAT,
    COLLECTION_NOTE,
    CollectionConfig,
)
from vultus.data.studio.collection.lights import camera_light_sh, world_light_sh
from vultus.data.studio.collection.shots import Shot
from vultus.data.studio.frames import StudioFrame
from vultus.data.studio.notes import check_folder_note
from vultus.heads.procedural.cache import source_hash

__all__ = ["CollectionFolder", "PersonPictures"]

_LABEL_FILES = ("img/dataset.json", "img/dataset_rgb_sh_2.json", "seg/dataset.json")
_FILES_A_FOLDER = 1000
_DIGITS = 8
_SHEET_TILES, _SHEET_COLUMNS, _SHEET_TILE = 96, 12, 128
_CONVENTIONS = {
    "labels": "camera_to_world by rows (16), then intrinsics over the picture's side (9); OpenCV "
    "camera axes; the world has +x to the subject's left, +y up, +z out of the face",
    "sh": "real spherical harmonics of degree 2, orthonormal, without Condon-Shortley phase, order "
    "1 Y Z X XY YZ 3ZZ-1 XZ XX-YY; radiance over pi; axes of the camera: X right, Y into the "
    "scene, Z up",
    "sh_world": "the same in axes of the world, before it is turned",
    "parts": list(PARSING_CLASSES),
}


@dataclass(frozen=True)
class PersonPictures:
    """A person as the cameras saw him or her."""

    number: int
    facts: Mapping[str, Any]
    shots: tuple[Shot, ...]
    frames: tuple[StudioFrame, ...]


@dataclass(frozen=True)
class CollectionFolder:
    """Knows where each file of a collection lies; every file is written atomically."""

    root: Path
    config: CollectionConfig
    count: int
    """Pictures; a collection that is complete can be continued to more."""

    @property
    def num_people(self) -> int:
        """People of whom there are pictures."""
        return -(-self.count // self.config.views)

    def check(self) -> None:
        """Raise unless the folder is new, empty or holds the same collection, or a part of it.

        Raises:
            ValueError: Naming the folder and the first difference.
        """
        check_folder_note(
            self.root, COLLECTION_NOTE, self._note(), "collection", ignored=("versions",)
        )
        if (self.root / "img" / _picture_name(self.count)).exists():
            raise ValueError(f"{self.root} holds more than {self.count} pictures")

    def begin(self) -> None:
        """Make the folders, write what the collection is, and take back its label files."""
        self.root.mkdir(parents=True, exist_ok=True)
        for name in _LABEL_FILES:
            (self.root / name).unlink(missing_ok=True)
        write_json(self.root / COLLECTION_NOTE, self._note())
        last_picture, last_person = (n // _FILES_A_FOLDER for n in (self.count, self.num_people))
        for kind, last in (
            *((k, last_picture) for k in ("img", "seg", "parts")),
            ("people", last_person),
        ):
            for index in range(last + 1):
                (self.root / kind / f"{index:05d}").mkdir(parents=True, exist_ok=True)

    def has_person(self, number: int) -> bool:
        """Whether all wanted pictures of a person are there."""
        path = self._record(number)
        if not path.is_file():
            return False
        listed = {picture["name"] for picture in read_json(path)["pictures"]}
        wanted = [_picture_name(picture) for picture in self.pictures_of(number)]
        kinds = ("img", "seg", "parts")
        return listed.issuperset(wanted) and all(
            (self.root / kind / name).is_file() for name in wanted for kind in kinds
        )

    def pictures_of(self, number: int) -> range:
        """Numbers of a person's wanted pictures."""
        first = number * self.config.views
        return range(first, min(first + self.config.views, self.count))

    def write_person(self, person: PersonPictures) -> int:
        """Write pictures, then the record; returns how many pictures there are."""
        records = []
        wanted = self.pictures_of(person.number)
        for picture, shot, frame in zip(wanted, person.shots, person.frames, strict=False):
            name = _picture_name(picture)
            write_image(self.root / "img" / name, self._composed(shot, frame))
            write_image(self.root / "seg" / name, frame.alpha)
            write_image(self.root / "parts" / name, frame.labels[None])
            records.append({"name": name, **_shot_facts(shot)})
        record = {"person": person.number, **person.facts, "pictures": records}
        write_json(self._record(person.number), record)
        return len(wanted)

    def is_finished(self) -> bool:
        """Whether the label files are there, which are written last."""
        return all((self.root / name).is_file() for name in _LABEL_FILES)

    def finish(self) -> None:
        """Write the label files and the sheet; all people must be there."""
        names, labels, lights = [], [], []
        for picture in self._pictures():
            names.append(picture["name"])
            labels.append(picture["label"])
            lights.append(torch.tensor(picture["sh"]))
        write_image(self.root / "sheet.png", self._sheet())
        luminance = torch.tensor(LUMINANCE)
        mono = _table(names, [_rounded(sh @ luminance) for sh in lights])
        colored = _table(names, [_rounded(sh.flatten()) for sh in lights])
        cameras = {"labels": _table(names, labels)}
        contents = (
            {**cameras, "sh": mono, "sh_frame": "camera"},
            {**cameras, "sh": colored, "sh_frame": "camera"},
            cameras,
        )
        for name, content in zip(_LABEL_FILES, contents, strict=True):
            write_text(self.root / name, json.dumps(content))

    def _note(self) -> dict[str, Any]:
        return {
            "format": COLLECTION_FORMAT,
            "config": config_to_data(self.config),
            "people": source_hash(),
            "conventions": _CONVENTIONS,
            "versions": package_versions(),
        }

    def _pictures(self) -> Iterator[dict[str, Any]]:
        for number in range(self.num_people):
            wanted = len(self.pictures_of(number))
            yield from read_json(self._record(number))["pictures"][:wanted]

    def _composed(
        self, shot: Shot, frame: StudioFrame
    ) -> Float[Tensor, "3 s s"] | Float[Tensor, "4 s s"]:
        backdrop = self.config.backdrop
        if backdrop == "transparent":
            return torch.cat([frame.rgb, frame.alpha])
        if backdrop == "painted":
            behind = shot.backdrop_picture(self.config.size)
        else:
            behind = torch.full_like(frame.rgb, 1.0 if backdrop == "white" else 0.0)
        return frame.alpha * frame.rgb + (1.0 - frame.alpha) * behind

    def _sheet(self) -> UInt8[Tensor, "3 h w"]:
        """As many people as there is room for, then more pictures of each."""
        each = max(1, _SHEET_TILES // self.num_people)
        pictures = [p for n in range(self.num_people) for p in self.pictures_of(n)[:each]]
        tiles = []
        for picture in pictures[:_SHEET_TILES]:
            rgba = read_rgba(self.root / "img" / _picture_name(picture))
            tile = rgba[3:] * rgba[:3] + (1 - rgba[3:])
            factor = max(1, self.config.size // _SHEET_TILE)
            tiles.append(torch.nn.functional.avg_pool2d(tile, factor))
        columns = min(_SHEET_COLUMNS, len(tiles))
        blank = [torch.ones_like(tiles[0])] * (-len(tiles) % columns)
        grid = torch.stack(tiles + blank).unflatten(0, (-1, columns))
        return to_bytes(grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2))

    def _record(self, number: int) -> Path:
        folder = f"{number // _FILES_A_FOLDER:05d}"
        return self.root / "people" / folder / f"person{number:08d}.json"


def _picture_name(picture: int) -> str:
    return f"{picture // _FILES_A_FOLDER:05d}/img{picture:08d}.png"


def _shot_facts(shot: Shot) -> dict[str, Any]:
    world = world_light_sh(shot.light)
    to_world = labels_to_camera(shot.label[None], 1).camera_to_world[0]
    return {
        "label": _rounded(shot.label),
        "sh": [_rounded(row) for row in camera_light_sh(world, to_world)],
        "sh_world": [_rounded(row) for row in world],
    }


def _table(names: list[str], rows: list[list[float]]) -> list[list[Any]]:
    return [[name, row] for name, row in zip(names, rows, strict=True)]


def _rounded(values: Float[Tensor, " k"]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]

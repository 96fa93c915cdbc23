"""``vultus generate``: pictures of people who do not exist, from any side."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.console import console
from vultus.cli.generator_options import (
    OptionsT,
    PeopleOptions,
    check_output_folder,
    count_people,
    parse_options,
)
from vultus.core.files import write_bytes
from vultus.core.image_io import write_image
from vultus.core.progress import Progress
from vultus.data.camera_labels import LABEL_DIM, check_label
from vultus.data.image_set import LABEL_FILE
from vultus.data.label_files import label_table, parse_label, read_label_file
from vultus.export.generator_pictures import save_outputs, view_column, view_sheet
from vultus.export.pictures import contact_sheet
from vultus.methods.generated_heads import GeneratorOutput, HeadView, PeopleSampler
from vultus.methods.head_views import face_labels, ring_labels, strip_labels

__all__ = ["GenerateOptions", "check_outputs", "main", "read_cameras"]


Layout = Literal["sheets", "contact", "images"]

_CONTACT = "contact.png"


@dataclass(frozen=True)
class GenerateOptions(Generic[OptionsT]):
    """Write pictures of generated people."""

    generator: Annotated[OptionsT, tyro.conf.arg(name="")]
    out: Path = Path("people")
    """Folder; made if missing, pictures of the same names are replaced."""
    people: Annotated[PeopleOptions, tyro.conf.arg(name="")] = field(default_factory=PeopleOptions)
    views: Literal["front", "face", "strip", "orbit"] | None = None
    """front: one view; face: five from 40 degrees on one side to 40 on the other; strip: five from
    the front to the back, as published; orbit: --count views around the head. Default: strip where
    heads have a back, else face."""
    count: int = 8
    """Views of --views orbit."""
    yaws: tuple[float, ...] | None = None
    """Views in degrees, at the height of the eyes, instead of --views: 0 is frontal, 90 sees the
    subject's left side, 180 the back."""
    cameras: Path | None = None
    """Label file (dataset.json) with the cameras to see everyone from, instead of --views."""
    outputs: tuple[GeneratorOutput, ...] = ("rgb",)
    """Rows of a sheet: rgb, depth, mask, normals of the depth; with SphereHead raw before
    super-resolution, and parts where it has learned semantic maps; with GSHeadRelight albedo and
    shading."""
    layout: Layout = "sheets"
    """sheets: a picture for each person with all views and outputs. contact: one of all people,
    contact.png, with a column for each and views in rows. images: OUTPUT/NAME.png for each view,
    depth and normals as .npy too, and rgb/dataset.json with the cameras."""
    dry_run: bool = False
    """Check everything, write nothing."""


def main(arguments: list[str]) -> None:
    """Check, generate, write."""
    options: GenerateOptions[Any] = parse_options(GenerateOptions, "generate", arguments, __doc__)
    check_output_folder(options.out)
    sampler = options.generator.open_sampler()
    check_outputs(options.outputs, sampler)
    people = options.people.named(sampler)
    labels = _cameras(options, sampler)
    total = len(people) * len(labels)
    if options.dry_run:
        console.print(
            f"would write {total} views of {count_people(len(people))} with a "
            f"{sampler.description} into {options.out}"
        )
        return
    options.out.mkdir(exist_ok=True)
    names: list[str] = []
    columns: list[Float[Tensor, "3 h w"]] = []
    with Progress("generating", total, "images") as progress:
        for name, person in people:
            head, views = sampler.head(person), []
            for label in labels.split(1):
                views.append(sampler.look(head, label))
                progress.advance()
            if options.layout == "contact":
                columns.append(view_column(views, options.outputs))
            else:
                names += _write(options, name, views)
    if options.layout == "images":
        _write_labels(options, names, labels.repeat(len(people), 1))
    elif options.layout == "contact":
        write_image(options.out / _CONTACT, contact_sheet([columns]))
    console.print(f"pictures: {options.out} ({total} views of {count_people(len(people))})")


def check_outputs(outputs: tuple[GeneratorOutput, ...], sampler: PeopleSampler[Any]) -> None:
    """Refuse outputs that a generator does not make.

    Raises:
        ValueError: Naming the first one, or saying that there is none.
    """
    if not outputs:
        raise ValueError("--outputs must name at least one")
    for output in outputs:
        if output not in sampler.outputs:
            known = ", ".join(sampler.outputs)
            raise ValueError(f"--outputs must be some of {known} with this method, got {output!r}")


def read_cameras(path: Path) -> Float[Tensor, "b 25"]:
    """Read the cameras of a label file, in the order of their images' names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no label file, or a label is no camera; names file and image.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--cameras: {path} does not exist")
    table = label_table(read_label_file(path.read_bytes(), str(path)), "labels", str(path))
    if not table:
        raise ValueError(f"{path} must hold at least one label")
    labels = []
    for name in sorted(table):
        where = f"{path}: {name}"
        label = parse_label(table[name], LABEL_DIM, where)
        check_label(label, where)
        labels.append(label)
    return torch.stack(labels)


def _cameras(
    options: GenerateOptions[OptionsT], sampler: PeopleSampler[Any]
) -> Float[Tensor, "b 25"]:
    given = {"views": options.views, "yaws": options.yaws, "cameras": options.cameras}
    chosen = [f"--{name}" for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} must not be given together")
    if options.cameras is not None:
        return read_cameras(options.cameras)
    if options.yaws is not None:
        return _yaw_labels(options.yaws, sampler)
    views = options.views or ("strip" if sampler.shows_all_sides else "face")
    if views == "strip":
        return strip_labels(sampler.rig)
    if views == "face":
        return face_labels(sampler.rig)
    count = 1 if views == "front" else options.count
    if count < 1:
        raise ValueError(f"--count must be positive, got {count}")
    return ring_labels(sampler.rig, count)


def _yaw_labels(yaws: tuple[float, ...], sampler: PeopleSampler[Any]) -> Float[Tensor, "b 25"]:
    if not yaws:
        raise ValueError("--yaws must name at least one")
    if not all(math.isfinite(yaw) for yaw in yaws):
        raise ValueError(f"--yaws must be finite, got {yaws}")
    yaw = torch.deg2rad(torch.tensor(yaws))
    return sampler.rig.labels(yaw, torch.zeros_like(yaw))


def _write(options: GenerateOptions[OptionsT], name: str, views: list[HeadView]) -> list[str]:
    """Write the views of one person; returns the names of single images."""
    if options.layout == "sheets":
        write_image(options.out / f"{name}.png", view_sheet(views, options.outputs))
        return []
    names = [f"{name}_{index:03d}" for index in range(len(views))]
    for view, view_name in zip(views, names, strict=True):
        save_outputs(view, options.out, view_name, options.outputs)
    return names


def _write_labels(
    options: GenerateOptions[OptionsT], names: list[str], labels: Float[Tensor, "b 25"]
) -> None:
    entries = [[f"{name}.png", label] for name, label in zip(names, labels.tolist(), strict=True)]
    for output in options.outputs:
        if output == "rgb":
            text = json.dumps({"labels": entries})
            write_bytes(options.out / output / LABEL_FILE, text.encode())

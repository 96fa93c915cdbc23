"""``vultus edit-materials``: change what hair, skin or lips of a trained avatar are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from jaxtyping import Float
from torch import Tensor

from vultus.cli.avatar_run import (
    OpenRun,
    check_new_run,
    create_run,
    open_run,
    run_settings,
)
from vultus.cli.console import console, print_table
from vultus.cli.option_parser import parse_arguments
from vultus.core.config import config_to_data
from vultus.core.image_io import write_image
from vultus.data.semantics import SemanticGroup
from vultus.engine.checkpoint import take_checkpoint
from vultus.export.pictures import contact_sheet
from vultus.geometry.cameras import Camera
from vultus.heads.base import HeadPose
from vultus.methods.relightable_blendshapes.material_editing import (
    MaterialEdit,
    count_labels,
    edit_materials,
)
from vultus.methods.relightable_blendshapes.material_relighting import (
    Relighter,
    material_appearance,
)
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes

__all__ = ["EditMaterialsOptions", "main"]

_BEFORE_AFTER = "before_after.png"
_WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class EditMaterialsOptions:
    """Write a run whose avatar has other materials, for all commands that take a run.

    Edits add up: edit the new run again for other labels.
    """

    run: Path
    """Folder that train wrote, of relightable_blendshapes with model.appearance pbr."""
    out: Path
    """Folder of the new run; OUT/media/before_after.png shows picture and albedo of both."""
    label: tuple[SemanticGroup, ...]
    """What changes: Gaussians whose nearest point of the mesh is of one of these."""
    edit: Annotated[MaterialEdit, tyro.conf.arg(name="")] = field(default_factory=MaterialEdit)
    timestep: int = 0
    """Moment of the picture, in the trained light."""
    camera: int | None = None
    """Camera of the picture; default: the first training camera."""
    data: Path | None = None
    """Where the capture lies now, if it was moved."""
    step: int | None = None
    """Checkpoint to load, by its step; default: the last one."""
    device: str = "cpu"
    """What renders: cpu, cuda, cuda:N, or auto, which takes a GPU if there is one."""
    dry_run: bool = False
    """Check everything, count the Gaussians of all labels, write nothing."""


def main(arguments: list[str]) -> None:
    """Edit, save, show."""
    prog = "vultus edit-materials"
    options = parse_arguments(EditMaterialsOptions, arguments, prog=prog, description=__doc__)
    if not options.label:
        raise ValueError("--label must name at least one label")
    if options.edit.is_nothing:
        raise ValueError("nothing to edit: give --color, --hue, --roughness or another")
    opened = open_run(options.run, options.data, options.device, options.step)
    avatar = opened.avatar
    material_appearance(avatar)
    assert isinstance(avatar, RelightableBlendshapes)
    pose, camera = opened.pose(options.timestep), opened.camera(options.camera)
    settings = run_settings(opened.method_name, opened.seed, opened.data, opened.config)
    check_new_run(options.out, settings)
    counts = count_labels(avatar)
    if options.dry_run:
        count = edit_materials(avatar, options.label, options.edit)
        print_table("Gaussians by label", ["label", "Gaussians"], list(counts.items()))
        console.print(f"would change {count} Gaussians: {options.out}")
        return
    before = _pictures(avatar, pose, camera)
    count = edit_materials(avatar, options.label, options.edit)
    sheet = contact_sheet(list(zip(before, _pictures(avatar, pose, camera), strict=True)))
    _save(opened, avatar, options, settings, sheet)
    console.print(f"run: {options.out} ({count} Gaussians changed)")


def _pictures(
    avatar: RelightableBlendshapes, pose: HeadPose, camera: Camera
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w"]]:
    """The avatar in the trained light, and its albedo."""
    made = Relighter(avatar).picture(pose, camera, background=_WHITE, layers=("albedo",))
    return made.image, made.shown("albedo")


def _save(
    opened: OpenRun,
    avatar: RelightableBlendshapes,
    options: EditMaterialsOptions,
    settings: Any,
    sheet: Float[Tensor, "3 h w"],
) -> None:
    run = create_run(options.out, settings)
    facts = {"labels": list(options.label), **config_to_data(options.edit)}
    run.update_card(edited_from=str(options.run.resolve()), edit=facts, **avatar.summary())
    write_image(run.media_path / _BEFORE_AFTER, sheet)
    # Last: a run with a checkpoint is whole.
    run.save_checkpoint(take_checkpoint(avatar, opened.step))

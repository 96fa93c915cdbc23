"""``vultus data convert``: tracked captures as videos of one head with expression vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.data.adnerf import AdNerfPlan, plan_adnerf
from vultus.data.readers import read_sequence
from vultus.data.rig_video import RigVideoPlan, plan_rig_video

__all__ = ["ConvertOptions", "convert"]


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert."""

    data: Positional[Path]
    """Folder that AD-NeRF's preprocessing filled, or a capture with a rig."""
    source: Annotated[Literal["adnerf", "rig"], tyro.conf.arg(name="from")]
    """adnerf: ori_imgs, mask or parsing, track_params.pt and manifests without expressions. rig:
    one camera of any capture that a reader opens with its rig (FLAME, ICT, the studio's); what
    moves the face becomes the expression vector, what moves the skull the camera's motion."""
    out: Path
    """New folder in the layout nerf_blendshape."""
    masks_from_parsing: bool = False
    """adnerf: hard mattes of head, neck and torso from parsing, in place of mask."""
    camera: int | None = None
    """rig: which camera; may be left out where there is but one."""
    format: str = "auto"
    """rig: reader; auto looks into the folder's manifest files."""
    options: dict[str, str] = field(default_factory=dict)
    """rig: reader options, for example ``--options head_file ict_face_model.npz``."""
    dry_run: bool = False
    """Check everything, write nothing."""


def convert(arguments: list[str]) -> None:
    """Convert a tracked capture for methods that know no rig."""
    options = parse_arguments(
        ConvertOptions,
        arguments,
        prog="vultus data convert",
        description="Write a video of one head with an expression vector per frame, the layout of "
        "NeRFBlendShape and GaussianHead.",
    )
    plan = _plan(options)
    frames, size = plan.track.expressions.shape
    facts = f"{options.out}: {frames} frames, {size} expression coefficients"
    if options.dry_run:
        console.print(f"would write {facts}")
        return
    plan.write()
    console.print(facts)
    console.print(f"look at it: vultus data check {options.out}")


def _plan(options: ConvertOptions) -> AdNerfPlan | RigVideoPlan:
    if options.source == "rig":
        if options.masks_from_parsing:
            raise ValueError("--masks-from-parsing is for --from adnerf")
        sequence = read_sequence(options.data, options.format, **options.options)
        return plan_rig_video(sequence, options.out, options.camera)
    if options.camera is not None or options.options or options.format != "auto":
        raise ValueError("--camera, --format and --options are for --from rig")
    return plan_adnerf(options.data, options.out, masks_from_parsing=options.masks_from_parsing)

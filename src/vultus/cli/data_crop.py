"""``vultus data crop``: photographs of heads from any side as an image set for generators."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from vultus.cli.console import console
from vultus.cli.option_parser import parse_arguments
from vultus.data.cropping.detectors import (
    Detectors,
    boxes_from_file,
    landmarks_from_file,
    mattes_from_folder,
    poses_from_file,
)
from vultus.data.cropping.onnx_detectors import (
    head_boxes,
    head_poses,
    open_network,
    person_mattes,
)
from vultus.data.cropping.pipeline import CropConfig, plan_crops

__all__ = ["CropOptions", "crop"]


@dataclass(frozen=True)
class CropOptions:
    """What to crop, and what is known about it."""

    source: Positional[Path]
    """Folder of photographs, PNG or JPEG."""
    out: Path
    """New folder for the set."""
    landmarks: Path | None = None
    """Faces: {"name.png": [[x, y], ...]}, pixels: 68 points, to which a pose is fitted, or 106."""
    boxes: Path | None = None
    """Heads without landmarks: {"name.png": [left, top, right, bottom]}."""
    poses: Path | None = None
    """Their poses: {"name.png": [yaw, roll, pitch]} in degrees, as WHENet counts them."""
    mattes: Path | None = None
    """Folder of grey mattes under the names of the photographs (.png)."""
    box_model: Path | None = None
    """ONNX model in place of boxes: YOLOv4, 480 x 640 (see docs/data.md)."""
    pose_model: Path | None = None
    """ONNX model in place of poses: yaw, roll and pitch of a picture of 224 x 224."""
    matte_model: Path | None = None
    """ONNX model in place of mattes: coverage, or classes of which 15 is the person, 512 x 512."""
    config: Annotated[CropConfig, tyro.conf.arg(name="")] = field(default_factory=CropConfig)
    """Limits, and what the crops are like."""
    dry_run: bool = False
    """Check the inputs, crop and write nothing."""


def crop(arguments: list[str]) -> None:
    """Crop photographs."""
    options = parse_arguments(
        CropOptions,
        arguments,
        prog="vultus data crop",
        description="Crop photographs of heads from all sides and label them with cameras, as "
        "SphereHead's toolbox does. Faces are cropped by landmarks, other heads by box and pose; "
        "detectors are files of other tools, or ONNX models that you have.",
    )
    plan = plan_crops(options.source, options.out, _detectors(options), options.config)
    if options.dry_run:
        console.print(f"would crop {len(plan.names)} photographs into {options.out}")
        return
    crops, refused = plan.write()
    console.print(f"{options.out}: {crops} crops; {refused} photographs refused (refused.json)")


def _detectors(options: CropOptions) -> Detectors:
    for file, model in (("boxes", "box_model"), ("poses", "pose_model"), ("mattes", "matte_model")):
        if getattr(options, file) is not None and getattr(options, model) is not None:
            names = file, model.replace("_", "-")
            raise ValueError(f"--{names[0]} and --{names[1]} exclude each other")
    landmarks = None if options.landmarks is None else landmarks_from_file(options.landmarks)
    box = None if options.boxes is None else boxes_from_file(options.boxes)
    pose = None if options.poses is None else poses_from_file(options.poses)
    matte = None if options.mattes is None else mattes_from_folder(options.mattes)
    if options.box_model is not None:
        box = head_boxes(open_network(options.box_model))
    if options.pose_model is not None:
        pose = head_poses(open_network(options.pose_model))
    if options.matte_model is not None:
        matte = person_mattes(open_network(options.matte_model))
    return Detectors(landmarks, box, pose, matte, sees_pixels=options.pose_model is not None)

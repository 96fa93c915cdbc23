"""A still head under several lights: ``train`` and ``test`` folders of one static capture.

Each folder has ``transforms.json`` with ``lights`` and file paths that hold ``{light}``, and masks,
albedo, world normals and ray distances under the frame's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vultus.data.head_files import open_head
from vultus.data.readers.manifest import Manifest, read_manifest, resize
from vultus.data.readers.options import ReaderOptions
from vultus.data.rig_files import read_rig_row
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.blendshapes import check_pose

__all__ = ["Options", "read"]


@dataclass(frozen=True)
class Options(ReaderOptions):
    """Options of ``lps_multiview``."""

    light: str = "kloppenheim_06"
    """Which of the manifest's lights."""
    fit: Path | None = None
    """Pose of the head in this capture, as ``vultus data fit`` writes it; by default the head's
    neutral."""
    pose: HeadPose | None = None
    """The same, for callers in Python; one row."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        super().__post_init__()
        if self.pose is not None and (self.head is None or len(self.pose) != 1):
            raise ValueError("pose must have one row and come with the head that it fits")
        if self.pose is not None and self.fit is not None:
            raise ValueError("pose and fit must not both be given")


def read(root: Path, options: Options) -> HeadSequence:
    """Read the capture under one light; the cameras of ``test`` become the split ``val``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong or the light is not in the manifest.
    """
    train = read_manifest(root / "train" / "transforms.json")
    test = read_manifest(root / "test" / "transforms.json")
    records = [_record(train, i, i, options) for i in range(len(train.frames))]
    num_train = len(records)
    records += [_record(test, i, num_train + i, options) for i in range(len(test.frames))]
    if num_train == 0:
        raise ValueError(f"{train.path}: split 'train' is empty")
    head = options.head or open_head("ict", options.head_file)
    return HeadSequence(
        root,
        tuple(records),
        {
            "train": torch.arange(num_train),
            "val": torch.arange(num_train, len(records)),
            "test": torch.empty(0, dtype=torch.int64),
        },
        head,
        _pose(head, options),
        background=options.background_color,
        image_background=(0.0, 0.0, 0.0),
        depth_kind="ray",
        cut_height=options.cut_height,
        expression_names=tuple(head.expression_names),
        info={"format": "lps_multiview", "light": train.shared["lights"][options.light]},
    )


def _pose(head: HeadModel, options: Options) -> HeadPose:
    if options.fit is None:
        return options.pose or HeadPose(translation=torch.zeros(1, 3))
    pose = read_rig_row(options.fit)
    check_pose(pose, head.parameters_spec, str(options.fit))
    return pose


def _record(manifest: Manifest, index: int, camera_index: int, options: Options) -> FrameRecord:
    folder = manifest.path.parent
    lights = manifest.shared.get("lights")
    if not isinstance(lights, dict) or options.light not in lights:
        known = ", ".join(lights) if isinstance(lights, dict) else "none"
        raise ValueError(f"{manifest.path}: lights has no {options.light!r}; it has {known}")
    pattern = manifest.frames[index].get("file_path")
    where = manifest.where(index, "file_path")
    if not isinstance(pattern, str) or "{light}" not in pattern:
        raise ValueError(f"{where} must be a path with {{light}}, got {pattern!r}")
    image = folder / pattern.replace("{light}", options.light)
    truth = {
        kind: folder / pattern.replace("{light}", kind) for kind in ("mask", "normal", "albedo")
    }
    for path in (image, *truth.values(), folder / "depth.npz"):
        if not path.is_file():
            raise FileNotFoundError(f"{where}: {path} does not exist")
    camera, file_size = resize(manifest.camera(index, image), options)
    return FrameRecord(
        timestep=0,
        camera_index=camera_index,
        camera=camera,
        image_path=image,
        mask_path=truth["mask"],
        normal_path=truth["normal"],
        depth_path=folder / "depth.npz",
        albedo_path=truth["albedo"],
        depth_index=index,
        file_size=file_size,
    )

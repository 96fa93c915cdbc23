"""Monocular video with ICT-FaceKit coefficients in its manifest.

``transforms.json`` has ``identity`` and ``expression_names``, and per frame ``expression``,
``file_path``, ``mask_path`` and a camera-to-head matrix, so the head stands still and the camera
moves. Tracked normals lie beside the images as ``normal/<name>.jpg``, in camera space and OpenGL
axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.data.head_files import open_head
from vultus.data.readers.manifest import Manifest, read_manifest, resize
from vultus.data.readers.options import ReaderOptions
from vultus.data.sequence import FrameRecord, HeadSequence
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.blendshapes import map_expressions

__all__ = ["Options", "read"]


@dataclass(frozen=True)
class Options(ReaderOptions):
    """Options of ``obama_vhap``."""

    hold_out_every: int = 8
    """Every n-th frame is held out for the split ``test``; 0 holds none out."""

    def __post_init__(self) -> None:
        """Reject contradictions."""
        super().__post_init__()
        if self.hold_out_every == 1 or self.hold_out_every < 0:
            raise ValueError(f"hold_out_every must be 0 or above 1, got {self.hold_out_every}")


def read(root: Path, options: Options) -> HeadSequence:
    """Read the sequence; the frame number is the timestep.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a field is wrong or the head has other expressions or fewer identity modes.
    """
    manifest = read_manifest(root / "transforms.json")
    if not manifest.frames:
        raise ValueError(f"{manifest.path}: split 'train' is empty")
    records = tuple(_record(root, manifest, i, options) for i in range(len(manifest.frames)))
    head = options.head or open_head("ict", options.head_file)
    every = options.hold_out_every
    is_test = torch.tensor([every > 0 and i % every == every - 1 for i in range(len(records))])
    return HeadSequence(
        root,
        records,
        {
            "train": (~is_test).nonzero()[:, 0],
            "val": torch.empty(0, dtype=torch.int64),
            "test": is_test.nonzero()[:, 0],
        },
        head,
        _pose(manifest, head),
        background=options.background_color,
        image_background=(1.0, 1.0, 1.0),
        normal_space="camera_opengl",
        light_space="camera_opengl",
        cut_height=options.cut_height,
        expression_names=tuple(head.expression_names),
        info={"format": "obama_vhap"},
    )


def _record(root: Path, manifest: Manifest, index: int, options: Options) -> FrameRecord:
    image = manifest.required_file(index, "file_path")
    camera, file_size = resize(manifest.camera(index, image), options)
    normal = root / "normal" / f"{image.stem}.jpg"
    return FrameRecord(
        timestep=index,
        camera_index=0,
        camera=camera,
        image_path=image,
        mask_path=manifest.file(index, "mask_path"),
        normal_path=normal if normal.is_file() else None,
        file_size=file_size,
    )


def _pose(manifest: Manifest, head: HeadModel) -> HeadPose:
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    identity = _numbers(f"{manifest.path}: identity", manifest.shared.get("identity"))
    num_modes = sizes.get("identity_coeffs", 0)
    if len(identity) > num_modes:
        raise ValueError(
            f"{manifest.path}: identity has {len(identity)} weights, head {head.name!r} "
            f"({head.version}) takes {num_modes}; use the full model"
        )
    # Modes that were not fitted stay at the mean.
    identity = torch.cat([identity, torch.zeros(num_modes - len(identity))])
    names = manifest.shared.get("expression_names")
    if not isinstance(names, list):
        raise ValueError(f"{manifest.path}: expression_names must be a list, got {names!r}")
    rows = [
        _numbers(manifest.where(i, "expression"), frame.get("expression"), len(names))
        for i, frame in enumerate(manifest.frames)
    ]
    expression, unmapped = map_expressions(names, torch.stack(rows), head.expression_names)
    if unmapped:
        raise ValueError(
            f"{manifest.path}: expression_names has {unmapped[0]!r}, head {head.name!r} does not"
        )
    return HeadPose(identity_coeffs=identity[None], expression_coeffs=expression)


def _numbers(where: str, value: object, length: int | None = None) -> Float[Tensor, " n"]:
    try:
        numbers = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.empty(0, 0)
    if numbers.ndim != 1 or (length is not None and len(numbers) != length):
        wanted = "numbers" if length is None else f"{length} numbers"
        raise ValueError(f"{where} must be a list of {wanted}")
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"{where} must be finite, it holds NaN or infinity")
    return numbers

"""Models of the published Gaussian Blendshapes: files in, files out (spec section 8.1).

    fix_chkpnt<K>.pth      face: (tuple of 19, iteration)
    mouth0_chkpnt<K>.pth   upper teeth: (tuple of 12, iteration); mouth1_... lower teeth
    acc<K>.npy             what Gaussians of the face hang on, a pickled dictionary of arrays

Pickles are read without being run. Which entry of a tuple means what is a table that the caller may
change, for programs that build on the published one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vultus.core.files import atomic_path
from vultus.core.safe_pickle import load_object_array
from vultus.core.torch_pickle import load_torch_file
from vultus.methods.relightable_blendshapes.posing import Anchors

__all__ = [
    "FACE_ENTRIES",
    "TEETH_ENTRIES",
    "OfficialModel",
    "TupleLayout",
    "read_official",
    "write_official",
]

_NEUTRAL = MappingProxyType(
    {
        "means": 1,
        "sh_dc": 2,
        "sh_rest": 3,
        "log_scales": 4,
        "quats": 5,
        "opacity_logits": 6,
    }
)
FACE_ENTRIES: Mapping[str, int] = MappingProxyType(
    {
        **_NEUTRAL,
        "means_deltas": 10,
        "sh_deltas": 11,
        "log_scales_deltas": 12,
        "quats_deltas": 13,
        "opacity_logits_deltas": 14,
    }
)
"""Entries of the face's tuple by our names; the deltas of all colours are one tensor there."""
TEETH_ENTRIES: Mapping[str, int] = _NEUTRAL

_FACE_LENGTH, _TEETH_LENGTH = 19, 12
_CAMERA_EXTENT = 1.0
_DEGREE = 3
_ANCHORS = {
    "skinning_weights": "W",
    "expression_mask": "expr_mask_tensor",
    "mean_deltas": "init_xyz",
    "quat_deltas": "init_rot",
    "pose_shapes": "pose_blendshape",
    "eyelid_shapes": "eye_blendshape",
}
_COLOR_DELTAS = "init_sh"
_LARGEST_COLOR_DELTA = 1e-4
"""Colours start without view dependence, so that nothing but rounding is in there."""


@dataclass(frozen=True)
class TupleLayout:
    """Where a checkpoint's tuples hold what."""

    face: Mapping[str, int] = field(default_factory=lambda: FACE_ENTRIES)
    teeth: Mapping[str, int] = field(default_factory=lambda: TEETH_ENTRIES)


@dataclass(frozen=True)
class OfficialModel:
    """A published model: attributes and deltas by our names, of each part."""

    face: Mapping[str, Tensor]
    """Neutral attributes, and deltas as ``<name>_deltas``."""
    teeth: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
    """Neutral attributes of the upper and the lower strip."""
    anchors: Anchors
    """Of the face."""
    iteration: int

    @property
    def num_expressions(self) -> int:
        """How many blendshapes there are."""
        return self.anchors.expression_mask.shape[1]


def read_official(
    folder: Path, iteration: int | None = None, layout: TupleLayout | None = None
) -> OfficialModel:
    """Read a model folder; no code in it is run.

    Args:
        folder: What the published program calls ``model_path``.
        iteration: Which one; by default the last.
        layout: Where tuples hold what; by default as published.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the parts do not belong together; names the file.
    """
    layout = layout or TupleLayout()
    iteration = _find_iteration(folder, iteration)
    face_path, *teeth_paths = _paths(folder, iteration)[:3]
    face = _attributes(face_path, layout.face)
    teeth = tuple(_attributes(path, layout.teeth) for path in teeth_paths)
    num = face["means"].shape[0]
    anchors = _read_anchors(_paths(folder, iteration)[3], num)
    num_expressions = anchors.expression_mask.shape[1]
    colors = face.pop("sh_deltas")
    face["sh_dc_deltas"], face["sh_rest_deltas"] = colors[:, :1], colors[:, 1:]
    for name in _NEUTRAL:
        expected = (*face[name].shape, num_expressions)
        deltas = face[f"{name}_deltas"] = face[f"{name}_deltas"].reshape(-1, *expected[1:])
        if deltas.shape != expected:
            raise ValueError(
                f"{face_path}: deltas of {name} must have shape {expected}, got "
                f"{tuple(deltas.shape)}"
            )
    return OfficialModel(face, (teeth[0], teeth[1]), anchors, iteration)


def write_official(folder: Path, model: OfficialModel) -> None:
    """Write a model that the published program and ``read_official`` understand.

    Finite values come back bit for bit. Optimiser and statistics of densification start anew; the
    samples that Gaussians were made of, which nothing reads, are empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    face_path, *teeth_paths, anchor_path = _paths(folder, model.iteration)
    face = dict(model.face)
    face["sh_deltas"] = torch.cat([face["sh_dc_deltas"], face["sh_rest_deltas"]], dim=1)
    torch.save((_tuple(face, FACE_ENTRIES, _FACE_LENGTH), model.iteration), face_path)
    for path, strip in zip(teeth_paths, model.teeth, strict=True):
        torch.save((_tuple(strip, TEETH_ENTRIES, _TEETH_LENGTH), model.iteration), path)
    arrays = {
        theirs: getattr(model.anchors, ours).cpu().numpy() for ours, theirs in _ANCHORS.items()
    }
    arrays["pose_blendshape"] = np.ascontiguousarray(arrays["pose_blendshape"].transpose(2, 0, 1))
    num = face["means"].shape[0]
    terms = (_DEGREE + 1) ** 2
    arrays[_COLOR_DELTAS] = np.zeros((num, terms, 3, model.num_expressions), np.float32)
    holder = np.empty((), dtype=object)
    holder[()] = arrays
    with atomic_path(anchor_path) as temporary, temporary.open("wb") as file:
        np.save(file, holder, allow_pickle=True)


def _paths(folder: Path, iteration: int) -> tuple[Path, Path, Path, Path]:
    """Face, upper teeth, lower teeth, anchors."""
    return (
        folder / f"fix_chkpnt{iteration}.pth",
        folder / f"mouth0_chkpnt{iteration}.pth",
        folder / f"mouth1_chkpnt{iteration}.pth",
        folder / f"acc{iteration}.npy",
    )


def _find_iteration(folder: Path, iteration: int | None) -> int:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; it holds fix_chkpnt<iteration>.pth")
    names = (re.fullmatch(r"fix_chkpnt(\d{1,12})\.pth", path.name) for path in folder.iterdir())
    known = sorted(int(match[1]) for match in names if match)
    if not known or (iteration is not None and iteration not in known):
        listed = ", ".join(map(str, known)) or "none"
        wanted = "fix_chkpnt<iteration>.pth" if iteration is None else f"iteration {iteration}"
        raise FileNotFoundError(f"{folder}: has no {wanted} (there is {listed})")
    return known[-1] if iteration is None else iteration


def _attributes(path: Path, entries: Mapping[str, int]) -> dict[str, Tensor]:
    """Named tensors of a checkpoint, float32, with a row per Gaussian."""
    content = load_torch_file(path)
    values = content[0] if isinstance(content, tuple) and len(content) == 2 else None
    if not isinstance(values, tuple) or len(values) <= max(entries.values()):
        raise ValueError(
            f"{path}: must hold a tuple of more than {max(entries.values())} entries and an "
            "iteration"
        )
    found = {name: _tensor(path, name, values[entry]) for name, entry in entries.items()}
    num = found["means"].shape[0]
    for name, tensor in found.items():
        if tensor.shape[0] != num:
            raise ValueError(f"{path}: {name} must have {num} rows, got {tensor.shape[0]}")
    if found["means"].shape[1:] != (3,) or found["quats"].shape[1:] != (4,):
        raise ValueError(f"{path}: entries for positions and rotations must be [n 3] and [n 4]")
    found["opacity_logits"] = found["opacity_logits"].reshape(num)
    return found


def _tensor(path: Path, name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim == 0 or not value.is_floating_point():
        raise ValueError(f"{path}: {name} must be a tensor of numbers, got {type(value).__name__}")
    tensor = value.detach().float()
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{path}: {name} must be finite, it holds NaN or infinity")
    return tensor


def _read_anchors(path: Path, num: int) -> Anchors:
    content = load_object_array(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a dictionary, got {type(content).__name__}")
    arrays = {}
    for name in (*_ANCHORS.values(), _COLOR_DELTAS):
        value = content.get(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise ValueError(f"{path}: {name!r} must be an array, got {type(value).__name__}")
        arrays[name] = _tensor(path, name, torch.from_numpy(np.ascontiguousarray(value)))
    arrays["pose_blendshape"] = arrays["pose_blendshape"].permute(1, 2, 0).contiguous()
    num_expressions = arrays["expr_mask_tensor"].shape[-1]
    shapes = {
        "W": (num, 5),
        "expr_mask_tensor": (num, num_expressions),
        "init_xyz": (num, 3, num_expressions),
        "init_rot": (num, 4, num_expressions),
        "pose_blendshape": (num, 3, 36),
        "eye_blendshape": (num, 3, 2),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{path}: {name!r} must fit {num} Gaussians with shape {shape}, got "
                f"{tuple(arrays[name].shape)}"
            )
    largest = float(arrays[_COLOR_DELTAS].abs().amax()) if num else 0.0
    if largest > _LARGEST_COLOR_DELTA:
        raise ValueError(
            f"{path}: {_COLOR_DELTAS!r} must be zero, as of colours that start without view "
            f"dependence, got up to {largest:.2g}"
        )
    return Anchors(**{ours: arrays[theirs] for ours, theirs in _ANCHORS.items()})


def _tuple(values: Mapping[str, Tensor], entries: Mapping[str, int], length: int) -> tuple:
    """The tuple of a part; what is no attribute is as at the start of a training."""
    num = values["means"].shape[0]
    filled: list[Any] = [None] * length
    filled[0] = _DEGREE
    filled[7:10] = [torch.zeros(num), torch.zeros(num, 1), torch.zeros(num, 1)]
    for name, entry in entries.items():
        value = values[name].detach().cpu().contiguous()
        # The published program keeps opacities as columns.
        filled[entry] = value[:, None] if name.startswith("opacity_logits") else value
    if length == _FACE_LENGTH:
        filled[15:17] = [torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3)]
    filled[-2:] = [{"state": {}, "param_groups": []}, _CAMERA_EXTENT]
    return tuple(filled)

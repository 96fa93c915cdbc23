"""Turn the user's FLAME download into one safetensors file, without running pickled code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.bundles import save_bundle
from vultus.core.safe_pickle import load_pickle
from vultus.heads.flame import FLAME_FORMAT, MASK_PREFIX, FlameVersion
from vultus.heads.regions import flame_regions
from vultus.heads.skinning import HEAD_JOINT_PARENTS

__all__ = ["convert_flame", "read_obj_uv"]

_NUM_VERTICES = 5023
_NUM_FACES = 9976
_NUM_IDENTITY = 300
_NUM_EXPRESSION = 100
_NUM_JOINTS = len(HEAD_JOINT_PARENTS)
_NUM_POSE = 9 * (_NUM_JOINTS - 1)
_WEIGHT_TOLERANCE = 1e-4

_SHAPES: dict[str, tuple[int, ...]] = {
    "v_template": (_NUM_VERTICES, 3),
    "shapedirs": (_NUM_VERTICES, 3, _NUM_IDENTITY + _NUM_EXPRESSION),
    "posedirs": (_NUM_VERTICES, 3, _NUM_POSE),
    "J_regressor": (_NUM_JOINTS, _NUM_VERTICES),
    "kintree_table": (2, _NUM_JOINTS),
    "weights": (_NUM_VERTICES, _NUM_JOINTS),
    "f": (_NUM_FACES, 3),
}
"""Arrays of the published pickle."""

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_TEXTURE_COORDINATES = re.compile(rf"\s*vt\s+{_NUMBER}\s+{_NUMBER}(?:\s|$)")
_CORNER = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,8})(?:/[1-9]\d{0,8})?")
"""Lines and corners of faces in a Wavefront OBJ."""


def convert_flame(
    model_path: Path, masks_path: Path, template_obj_path: Path, output: Path, version: FlameVersion
) -> None:
    """Read the published files, check them and write what ``FlameHead.from_file`` reads.

    Args:
        model_path: ``generic_model.pkl`` (2020) or ``flame2023.pkl``.
        masks_path: ``FLAME_masks.pkl``.
        template_obj_path: ``head_template.obj`` or ``head_template_mesh.obj``, for the texture
            coordinates.
        output: File to write.
        version: Release that the model belongs to.

    Raises:
        FileNotFoundError: If an input is missing.
        ValueError: If a file is not what its name says; the message is one line with file,
            field, expected and got. Also for a pickle that holds anything but arrays.
    """
    for path in (model_path, masks_path, template_obj_path):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    arrays = _model_arrays(model_path)
    faces = torch.from_numpy(arrays["f"].astype(np.int64))
    uv, obj_faces, uv_faces = read_obj_uv(template_obj_path)
    if not torch.equal(obj_faces, faces):
        raise ValueError(
            f"{template_obj_path}: faces must equal those of {model_path.name} "
            f"{tuple(faces.shape)}, got {tuple(obj_faces.shape)} that differ"
        )
    shapes = _float(arrays["shapedirs"]).permute(2, 0, 1)
    tensors = {
        "template": _float(arrays["v_template"]),
        "identity_basis": shapes[:_NUM_IDENTITY],
        "expression_basis": shapes[_NUM_IDENTITY:],
        "pose_basis": _float(arrays["posedirs"]).permute(2, 0, 1),
        "joint_regressor": _float(arrays["J_regressor"]),
        "skinning_weights": _float(arrays["weights"]),
        "faces": faces,
        "uv": uv,
        "uv_faces": uv_faces,
    }
    masks = _masks(masks_path)
    tensors |= {MASK_PREFIX + name: ids for name, ids in masks.items()}
    save_bundle(output, tensors, {"format": FLAME_FORMAT, "version": version})


def read_obj_uv(
    path: Path,
) -> tuple[Float[Tensor, "t 2"], Int[Tensor, "f 3"], Int[Tensor, "f 3"]]:
    """Read texture coordinates and triangles of a Wavefront OBJ.

    Returns:
        Texture coordinates, vertex ids per face, texture ids per face.

    Raises:
        ValueError: If a face is not a triangle with texture coordinates that are there.
    """
    uv: list[list[float]] = []
    corners: list[list[list[int]]] = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        words = line.split()
        if words[:1] == ["vt"]:
            match = _TEXTURE_COORDINATES.match(line)
            if match is None:
                raise ValueError(f"{path}:{number}: vt must be two numbers, got {line!r:.80}")
            uv.append([float(match[1]), float(match[2])])
        elif words[:1] == ["f"]:
            matches = [_CORNER.fullmatch(word) for word in words[1:]]
            face = [[int(match[1]) - 1, int(match[2]) - 1] for match in matches if match]
            if len(matches) != 3 or len(face) != 3:
                raise ValueError(f"{path}:{number}: faces must be triangles v/vt, got {line!r:.80}")
            corners.append(face)
    ids = torch.tensor(corners, dtype=torch.int64).reshape(-1, 3, 2)
    if len(ids) and int(ids[..., 1].max()) >= len(uv):
        raise ValueError(f"{path}: faces need {int(ids[..., 1].max()) + 1} vt, got {len(uv)}")
    return torch.tensor(uv).reshape(-1, 2), ids[..., 0], ids[..., 1]


def _model_arrays(path: Path) -> dict[str, np.ndarray]:
    content = load_pickle(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must hold a dictionary, got {type(content).__name__}")
    arrays = {}
    for name, expected in _SHAPES.items():
        if name not in content:
            raise ValueError(f"{path}: field {name!r} is missing")
        array = _array(content[name], f"{path}: {name}")
        if array.shape != expected:
            raise ValueError(f"{path}: {name} must have shape {expected}, got {array.shape}")
        arrays[name] = array
    parents = [int(parent) for parent in arrays["kintree_table"][0][1:]]
    if tuple(parents) != HEAD_JOINT_PARENTS[1:]:
        raise ValueError(f"{path}: parents must be {HEAD_JOINT_PARENTS[1:]}, got {tuple(parents)}")
    lowest, highest = int(arrays["f"].min()), int(arrays["f"].max())
    if lowest < 0 or highest >= _NUM_VERTICES:
        raise ValueError(f"{path}: f must lie in [0, {_NUM_VERTICES}), got {lowest} to {highest}")
    gap = float(np.abs(arrays["weights"].sum(axis=1) - 1.0).max())
    if gap > _WEIGHT_TOLERANCE:
        raise ValueError(f"{path}: rows of weights must sum to 1, off by {gap:.2g}")
    return arrays


def _masks(path: Path) -> dict[str, Tensor]:
    content = load_pickle(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: must hold a dictionary, got {type(content).__name__}")
    masks = {
        str(name): torch.from_numpy(_array(ids, f"{path}: {name}").astype(np.int64))
        for name, ids in content.items()
    }
    try:
        flame_regions(masks, _NUM_VERTICES)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return masks


def _array(value: Any, name: str) -> np.ndarray:
    array = value.toarray() if scipy.sparse.issparse(value) else np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__}")
    return array


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

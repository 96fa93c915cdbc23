"""Reading of the packed ICT-FaceKit morphable head (Li et al. 2020, MIT licence)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.asset_registry import import_command
from vultus.core.npz_io import read_npz

__all__ = ["ICT_MATERIALS", "IctData", "read_ict"]

ICT_MATERIALS = (
    "M_Face",
    "M_BackHead",
    "M_GumsTongue",
    "M_Teeth",
    "M_ScleraLeft",
    "M_IrisLeft",
    "M_ScleraRight",
    "M_IrisRight",
)
"""The opaque materials, in the order of ``IctData.face_material``."""

_METRES_PER_UNIT = 0.01
# Tear film, eye shadow cards and lashes follow behind these vertices in the full file. They are
# transparent in the original and would be opaque shells here.
_NUM_OPAQUE_VERTICES = 24591
_NUM_OPAQUE_FACES = 48836
_NUM_IDENTITY = {"light": 20, "full": 100}


@dataclass(frozen=True)
class IctData:
    """Arrays of the opaque part of the model, in metres. Light and full share this mesh."""

    neutral: Float[Tensor, "v 3"]
    identity_basis: Float[Tensor, "s v 3"]
    """Per standard deviation."""
    expression_basis: Float[Tensor, "e v 3"]
    expression_names: tuple[str, ...]
    faces: Int[Tensor, "f 3"]
    uv: Float[Tensor, "t 2"]
    """UDIM: the integer part of u is the tile."""
    uv_faces: Int[Tensor, "f 3"]
    face_material: Int[Tensor, " f"]
    landmarks68: Int[Tensor, 68]
    eye_spheres: Float[Tensor, "2 4"]
    """Centre and radius of the left and the right sclera."""
    vertex_parts: Mapping[str, slice]
    """Vertex ranges of parts (``face``, ``teeth``, ...) and sub-parts (``iris_left``, ...)."""
    version: str
    """``"light"`` (20 identity modes) or ``"full"`` (100)."""
    source: str


def read_ict(path: Path) -> IctData:
    """Read ``ict_face_light.npz`` or ``ict_face_model.npz``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not one of the two.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no packed ICT head there; import one with '{import_command('ict_full')}' "
            f"or '{import_command('ict_light')}' and leave the path out"
        )
    arrays = read_npz(path)
    is_full = "identity_q" in arrays
    version = "full" if is_full else "light"
    try:
        return _assemble(arrays, version, str(path))
    except KeyError as error:
        raise ValueError(f"{path}: incomplete ICT head, array {error} is missing") from error


def _assemble(arrays: Mapping[str, np.ndarray], version: str, source: str) -> IctData:
    count = _NUM_OPAQUE_VERTICES
    neutral, faces = arrays["neutral"][:count], arrays["faces"][:_NUM_OPAQUE_FACES]
    identity = _basis(arrays, "identity", version)
    expression = _basis(arrays, "expression", version)
    names = tuple(str(name) for name in arrays["expression_names"])
    _check(source, "neutral", neutral.shape, (count, 3))
    _check(source, "faces", faces.shape, (_NUM_OPAQUE_FACES, 3))
    _check(source, "identity", identity.shape, (_NUM_IDENTITY[version], count, 3))
    _check(source, "expression", expression.shape, (len(names), count, 3))
    if int(faces.min()) < 0 or int(faces.max()) >= count:
        raise ValueError(f"{source}: faces must address {count} vertices, got {faces.max()}")
    known = [str(name) for name in arrays["material_names"]]
    materials = np.array([ICT_MATERIALS.index(n) if n in ICT_MATERIALS else -1 for n in known])
    ranges = {}
    for prefix in ("part", "subpart"):
        for name, (start, stop) in zip(
            arrays[f"{prefix}_names"], arrays[f"{prefix}_vertices"], strict=True
        ):
            if stop <= count:
                ranges[str(name)] = slice(int(start), int(stop))
    return IctData(
        neutral=_metres(neutral),
        identity_basis=_metres(identity),
        expression_basis=_metres(expression),
        expression_names=names,
        faces=torch.from_numpy(faces.astype(np.int64)),
        uv=torch.from_numpy(arrays["uv"].astype(np.float32)),
        uv_faces=torch.from_numpy(arrays["faces_uv"][:_NUM_OPAQUE_FACES].astype(np.int64)),
        face_material=torch.from_numpy(
            materials[arrays["face_material"][:_NUM_OPAQUE_FACES].astype(np.int64)]
        ),
        landmarks68=torch.from_numpy(arrays["landmarks68"].astype(np.int64)),
        eye_spheres=_metres(arrays["eye_spheres"]),
        vertex_parts=ranges,
        version=version,
        source=source,
    )


def _basis(arrays: Mapping[str, np.ndarray], name: str, version: str) -> np.ndarray:
    """Shapes as float32; the full file stores integers with one scale per shape."""
    count = _NUM_OPAQUE_VERTICES
    if version == "light":
        return arrays[name].astype(np.float32)
    scale = arrays[f"{name}_scale"][:, None, None]
    return arrays[f"{name}_q"][:, :count].astype(np.float32) * scale


def _metres(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32) * np.float32(_METRES_PER_UNIT))


def _check(source: str, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ValueError(f"{source}: {name} must have shape {expected}, got {shape}")

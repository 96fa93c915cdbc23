"""Whether a file that a user wants to import is what its name says."""

from __future__ import annotations

from collections.abc import Callable
from os import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vultus.core.npz_io import read_npz
from vultus.core.safe_pickle import load_pickle
from vultus.core.torch_pickle import load_state_dict_file

__all__ = [
    "check_arrays",
    "check_flame_masks",
    "check_flame_model",
    "check_onnx_model",
    "check_template_mesh",
    "check_weights",
]

_FLAME_VERTICES = 5023
_FLAME_FACES = 9976
_FLAME_MODEL_SHAPES = {
    "v_template": (_FLAME_VERTICES, 3),
    "shapedirs": (_FLAME_VERTICES, 3, 400),
    "posedirs": (_FLAME_VERTICES, 3, 36),
    "J_regressor": (5, _FLAME_VERTICES),
    "weights": (_FLAME_VERTICES, 5),
    "f": (_FLAME_FACES, 3),
}
_ONNX_FIELDS = {7: "graph", 8: "version of operators"}
"""Fields of a ModelProto that every model has."""
_MAX_VARINT = 10
"""Bytes of an integer of 64 bits."""
_FLAME_REGIONS = ("face", "neck", "scalp", "boundary", "left_eyeball", "right_eyeball")


def check_flame_model(path: Path) -> None:
    """Check the model pickle of FLAME 2020 or 2023.

    Raises:
        ValueError: Naming the file and the array that is missing or of another shape.
    """
    model = _load_dict(path)
    for name, shape in _FLAME_MODEL_SHAPES.items():
        if name not in model:
            raise ValueError(f"{path}: not a FLAME model: {name!r} is missing")
        got = tuple(getattr(model[name], "shape", ()))
        if got != shape:
            raise ValueError(
                f"{path}: not a FLAME model: {name!r} must have shape {shape}, got {got}"
            )


def check_flame_masks(path: Path) -> None:
    """Check the pickle of FLAME's vertex regions.

    Raises:
        ValueError: Naming the file and the region that is missing or holds no vertex indices.
    """
    masks = _load_dict(path)
    for name in _FLAME_REGIONS:
        if name not in masks:
            raise ValueError(f"{path}: not FLAME's masks: region {name!r} is missing")
        indices = np.asarray(masks[name])
        is_list = np.issubdtype(indices.dtype, np.integer) and indices.ndim == 1 and indices.size
        if not is_list or not 0 <= indices.min() <= indices.max() < _FLAME_VERTICES:
            raise ValueError(f"{path}: not FLAME's masks: region {name!r} must list vertices")


def check_template_mesh(path: Path) -> None:
    """Check the OBJ file with FLAME's texture coordinates.

    Raises:
        ValueError: Naming the file and the first count that is wrong.
    """
    counts = {"v": 0, "vt": 0, "f": 0}
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                word = line.partition(" ")[0]
                counts[word] = counts.get(word, 0) + 1
                if word == "f" and line.count("/") < 3:
                    raise ValueError(f"{path}: not FLAME's template: a face has no texture corner")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not an OBJ file: {error.reason} at byte {error.start}"
        ) from error
    for word, count in (("v", _FLAME_VERTICES), ("f", _FLAME_FACES)):
        if counts[word] != count:
            problem = f"must have {count} lines {word!r}, got {counts[word]}"
            raise ValueError(f"{path}: not FLAME's template: {problem}")
    if counts["vt"] == 0:
        raise ValueError(f"{path}: not FLAME's template: it has no texture coordinates")


def check_arrays(*names: str) -> Callable[[Path], None]:
    """Make a check that an ``.npz`` file holds arrays of these names, all readable.

    The check raises ValueError, naming the file and the array.
    """

    def check(path: Path) -> None:
        arrays = read_npz(path)
        for name in names:
            if name not in arrays:
                raise ValueError(f"{path}: array {name!r} is missing")

    return check


def check_weights(*names: str) -> Callable[[Path], None]:
    """Make a check that a file of ``torch.save`` is a state dict with tensors of these names.

    The check raises ValueError, naming the file and the tensor.
    """

    def check(path: Path) -> None:
        weights = load_state_dict_file(path)
        for name in names:
            if name not in weights:
                raise ValueError(f"{path}: tensor {name!r} is missing")

    return check


def check_onnx_model(path: Path) -> None:
    """Check that a file is an ONNX model, and whole; what is in its graph is not looked at.

    Raises:
        ValueError: Naming the file.
    """
    with path.open("rb") as file:
        try:
            fields = _protobuf_fields(file, path.stat().st_size)
        except ValueError as error:
            raise ValueError(f"{path}: not an ONNX model, or a part of one: {error}") from error
    if missing := [what for field, what in _ONNX_FIELDS.items() if field not in fields]:
        raise ValueError(f"{path}: not an ONNX model: it has no {missing[0]}")


def _load_dict(path: Path) -> dict[str, Any]:
    loaded = load_pickle(path)
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: must hold a dictionary, got {type(loaded).__name__}")
    return loaded


def _protobuf_fields(file: BinaryIO, size: int) -> set[int]:
    """Numbers of the fields of a message, whose lengths must add up to the file's size."""
    fields: set[int] = set()
    while file.tell() < size:
        key = _varint(file)
        number, kind = key >> 3, key & 7
        if number == 0 or kind not in (0, 1, 2, 5):
            raise ValueError(f"no field begins at byte {file.tell()}")
        if kind == 0:
            _varint(file)
        else:
            length = {1: 8, 5: 4}.get(kind) or _varint(file)
            if length > size - file.tell():
                raise ValueError(f"{length} bytes must follow byte {file.tell()} of {size}")
            file.seek(length, SEEK_CUR)
        fields.add(number)
    return fields


def _varint(file: BinaryIO) -> int:
    value = 0
    for place in range(_MAX_VARINT):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends within a number")
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise ValueError(f"no number ends at byte {file.tell()}")

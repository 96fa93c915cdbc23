"""Whether a file that a user wants to import is what its name says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vultus.core.npz_io import read_npz
from vultus.core.safe_pickle import load_pickle
from vultus.core.torch_pickle import load_state_dict_file

__all__ = [
    "check_arrays",
    "check_flame_masks",
    "check_flame_model",
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


def _load_dict(path: Path) -> dict[str, Any]:
    loaded = load_pickle(path)
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: must hold a dictionary, got {type(loaded).__name__}")
    return loaded

"""Files of lights of generated heads, in axes of the head; see ``lights``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_path, read_json, write_bytes
from vultus.core.npz_io import finite_floats, read_npz_array
from vultus.data.light_labels import LIGHT_TERMS
from vultus.data.light_texts import parse_light_text
from vultus.methods.gsheadrelight.lights import (
    labels_to_light,
    light_to_labels,
    world_to_head_light,
)

__all__ = ["LIGHT_SUFFIXES", "read_light", "write_light"]

LIGHT_SUFFIXES = (".json", ".txt", ".npz")

_KEY = "light"
_SHAPES = ((LIGHT_TERMS,), (3 * LIGHT_TERMS,), (LIGHT_TERMS, 1), (LIGHT_TERMS, 3))


def read_light(path: Path) -> Float[Tensor, "9 c"]:
    """Read a light: 9 numbers, or 27, term by term; or a table of terms and colours, either way.

    ``.txt`` holds numbers and nothing else, in axes of the head as DPR publishes its lights.
    ``.npz`` holds an array ``light``. ``.json`` holds a list, or
    ``{"light": [...], "axes": "head" or "world"}``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no light; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    suffix, is_world = path.suffix.lower(), False
    if suffix == ".json":
        data = read_json(path)
        if isinstance(data, dict):
            axes = data.get("axes", "head")
            if axes not in ("head", "world"):
                raise ValueError(f"{path}: axes must be head or world, got {axes!r}")
            data, is_world = data.get(_KEY), axes == "world"
        numbers = _numbers(data, path)
    elif suffix == ".npz":
        numbers = _numbers(read_npz_array(path, _KEY), path)
    elif suffix == ".txt":
        numbers = parse_light_text(path.read_text(errors="replace"), str(path))
    else:
        raise ValueError(f"a light must end in {', '.join(LIGHT_SUFFIXES)}, got {path}")
    light = _light_of_numbers(numbers, path)
    return world_to_head_light(light) if is_world else light


def write_light(path: Path, light: Float[Tensor, "9 c"]) -> None:
    """Write a light in axes of the head, in the format of the suffix; see ``read_light``.

    Raises:
        ValueError: If the suffix is none of ``LIGHT_SUFFIXES``.
    """
    light = light.detach().cpu()
    numbers = light_to_labels(light[None])[0].tolist()
    suffix = path.suffix.lower()
    if suffix == ".json":
        text = json.dumps({_KEY: light.tolist(), "axes": "head"}, indent=1)
        write_bytes(path, text.encode())
    elif suffix == ".txt":
        write_bytes(path, "".join(f"{number!r}\n" for number in numbers).encode())
    elif suffix == ".npz":
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, light=light.numpy())
    else:
        raise ValueError(f"a light must end in {', '.join(LIGHT_SUFFIXES)}, got {path}")


def _light_of_numbers(numbers: Float[Tensor, ...], path: Path) -> Float[Tensor, "9 c"]:
    """Terms in rows; colours may also be."""
    shape = tuple(numbers.shape)
    if shape == (3, LIGHT_TERMS):
        return numbers.T
    if shape not in _SHAPES:
        raise ValueError(
            f"{path}: a light must have 9 or 27 numbers, or 9 for each of 3 colours, got shape "
            f"{shape}"
        )
    return labels_to_light(numbers.reshape(1, -1))[0]


def _numbers(data: object, path: Path) -> Float[Tensor, ...]:
    """Numbers, or lists of them."""
    try:
        array = data if isinstance(data, np.ndarray) else np.array(data, dtype=np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold the numbers of a light") from error
    return torch.from_numpy(finite_floats(array, f"{path}: the light"))

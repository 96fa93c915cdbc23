"""Where lights of generated heads come from: files, maps of surroundings, a few by name.

All are given in axes of the head; see ``lights``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal, get_args
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.core.files import atomic_path, read_json, write_bytes
from vultus.core.image_io import read_radiance
from vultus.geometry.spherical_harmonics import light_sh_basis
from vultus.methods.gsheadrelight.config import LIGHT_TERMS
from vultus.methods.gsheadrelight.lights import (
    COSINE_LOBE,
    environment_light,
    labels_to_light,
    light_to_labels,
    world_to_head_light,
)
from vultus.render.lighting.envmap import EnvironmentMap, from_front_centered

__all__ = [
    "LIGHT_SUFFIXES",
    "MAP_SUFFIXES",
    "MapLayout",
    "NamedLight",
    "exposed_environment_light",
    "named_light",
    "read_environment",
    "read_light",
    "write_light",
]

NamedLight = Literal["front", "left", "right", "above", "below", "even"]
"""A large lamp on one side of the picture with some light from everywhere, or only the latter."""
MapLayout = Literal["world", "front_centered", "release"]
"""Where a map has its directions: as ``render.lighting.envmap`` says, so that what is before the
face stands at a quarter of the width; that in the centre; or mirrored as in GSHeadRelight's
release, with what is to the right of the picture in the first column and what is behind the head at
a quarter."""
LIGHT_SUFFIXES = (".json", ".txt", ".npz")
MAP_SUFFIXES = (".exr", ".hdr")

_LAMPS: dict[str, tuple[float, float, float]] = {
    "front": (0.0, -1.0, 0.0),
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "above": (0.0, 0.0, 1.0),
    "below": (0.0, 0.0, -1.0),
}
"""Directions towards the lamp: to the right of the picture, into the scene, up."""
_LAMP_BRIGHTNESS, _FILL_BRIGHTNESS = 0.75, 0.25
"""Of a white matte surface that faces the lamp, and of one in the even light alone."""
_LARGEST_TERM = 0.7
"""Published: what the largest coefficient of a map's light is scaled to."""
_KEY = "light"


def named_light(name: NamedLight) -> Float[Tensor, "9 1"]:
    """One of a few lights; white surfaces that face its lamp have brightness 1.

    A lamp is a hemisphere that is brightest in its middle, by the cosine.
    """
    even = torch.zeros(LIGHT_TERMS)
    even[0] = _FILL_BRIGHTNESS * math.sqrt(4.0 * math.pi) / math.pi
    if name == "even":
        return (even / _FILL_BRIGHTNESS)[:, None]
    basis = light_sh_basis(torch.tensor(_LAMPS[name]), 2)
    # The integral of the squared cosine over a hemisphere is 2 pi / 3.
    lamp = (1.5 * _LAMP_BRIGHTNESS / math.pi) * torch.tensor(COSINE_LOBE) * basis
    return (lamp + even)[:, None]


def read_light(path: Path) -> Float[Tensor, "9 c"]:
    """Read a light: 9 numbers, or 27, term by term.

    ``.txt`` holds numbers and nothing else, of which the first 9 are used unless they are 27, in
    axes of the head as DPR publishes its lights. ``.npz`` holds an array ``light``. ``.json`` holds
    a list, or ``{"light": [...], "axes": "head" or "world"}``.

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
        numbers = _numbers(_array(path), path)
    elif suffix == ".txt":
        numbers = _numbers(path.read_text(errors="replace").split(), path)
        if len(numbers) != 3 * LIGHT_TERMS:
            numbers = numbers[:LIGHT_TERMS]
    else:
        raise ValueError(f"a light must end in {', '.join(LIGHT_SUFFIXES)}, got {path}")
    if len(numbers) not in (LIGHT_TERMS, 3 * LIGHT_TERMS):
        raise ValueError(f"{path}: a light must have 9 or 27 numbers, got {len(numbers)}")
    light = labels_to_light(numbers[None])[0]
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


def read_environment(path: Path, layout: MapLayout = "world") -> EnvironmentMap:
    """Read a map of surroundings (``.hdr``, ``.exr``).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such map; names the file.
    """
    if layout not in get_args(MapLayout):
        raise ValueError(f"layout must be one of {', '.join(get_args(MapLayout))}, got {layout!r}")
    radiance = read_radiance(path)
    height, width = radiance.shape[1:]
    if width != 2 * height:
        raise ValueError(f"{path}: a map must be twice as wide as high, got {width} x {height}")
    if not bool((radiance >= 0.0).all() & radiance.isfinite().all()):
        raise ValueError(f"{path}: radiance must be finite and not negative")
    if layout == "front_centered":
        radiance = from_front_centered(radiance[None])[0]
    elif layout == "release":
        radiance = radiance.flip(2)
    return EnvironmentMap(radiance)


def exposed_environment_light(
    environment: EnvironmentMap, exposure: float | None = None
) -> Float[Tensor, "9 3"]:
    """Light of a map at a useful brightness.

    The light is integrated over all of the sphere, so nothing is blurred before and no border of
    the map plays a part.

    Args:
        environment: Where the light comes from.
        exposure: Factor of the radiance; None scales the light so that its largest coefficient is
            0.7 (the release only ever scales down, and does so before the division by pi).

    Raises:
        ValueError: If the map is black and no exposure is given.
    """
    light = environment_light(environment, 1.0 if exposure is None else exposure)
    if exposure is not None:
        return light
    largest = float(light.max())
    if largest <= 0.0:
        raise ValueError("exposure must be given for a map that is black")
    return light * (_LARGEST_TERM / largest)


def _array(path: Path) -> object:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[_KEY].reshape(-1).tolist()
    except (BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path} must be an .npz file with an array {_KEY}: {error}") from error


def _numbers(data: object, path: Path) -> Float[Tensor, " n"]:
    """A list of numbers, or of lists of them, as one row."""
    try:
        numbers = torch.from_numpy(np.array(data, dtype=np.float32).reshape(-1))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold the numbers of a light") from error
    if not bool(numbers.isfinite().all()):
        raise ValueError(f"{path} must hold finite numbers")
    return numbers

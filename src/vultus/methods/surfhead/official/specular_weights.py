"""Official ``specular.pth`` files: the specular network under its published names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vultus.core.files import atomic_path
from vultus.core.torch_pickle import load_state_dict_file
from vultus.methods.surfhead.specular import LobeType, SpecularNetwork

__all__ = ["read_specular", "specular_from_official", "specular_to_official", "write_specular"]

_PREFIXES = {"lobe_layer.": "gaussian_feature.", "mlp.": "render_module.mlp."}
"""Our prefixes and the published ones."""
_LAST_BIAS = "render_module.mlp.4.bias"
_FIRST_WEIGHT = "gaussian_feature.weight"
_TYPE_BY_CHANNELS: dict[int, LobeType] = {3: "asg", 1: "lasg"}

ValueT = TypeVar("ValueT")


def read_specular(path: Path, lobe_type: LobeType | None = None) -> SpecularNetwork:
    """Read an official file; its pickle is not run.

    Args:
        path: The file.
        lobe_type: Kind of lobes; by default told by the shapes, which cannot tell ``sg`` from
            ``asg`` (no published code could train ``sg``).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or holds another network; one line that names the file.
    """
    state = load_state_dict_file(path)
    try:
        return specular_from_official(state, lobe_type)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_specular(path: Path, network: SpecularNetwork) -> None:
    """Write an official file, atomically."""
    state = specular_to_official(network.state_dict())
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        torch.save(plain, temporary)


def specular_from_official(
    state: Mapping[str, Tensor], lobe_type: LobeType | None = None
) -> SpecularNetwork:
    """Build the network from an official state dict.

    Raises:
        ValueError: If an entry is missing, unknown, not finite or of another shape.
    """
    for name in (_FIRST_WEIGHT, _LAST_BIAS):
        if name not in state:
            raise ValueError(f"{name!r} is missing")
    if state[_FIRST_WEIGHT].ndim != 2 or state[_LAST_BIAS].ndim != 1:
        raise ValueError(f"{_FIRST_WEIGHT} must be a matrix and {_LAST_BIAS} a vector")
    channels = state[_LAST_BIAS].shape[0]
    if channels not in _TYPE_BY_CHANNELS:
        raise ValueError(f"{_LAST_BIAS} must have 3 (asg) or 1 (lasg) numbers, got {channels}")
    network = SpecularNetwork(
        _TYPE_BY_CHANNELS[channels] if lobe_type is None else lobe_type,
        state[_FIRST_WEIGHT].shape[1],
    )
    wanted = specular_to_official(network.state_dict())
    for name in wanted.keys() ^ state.keys():
        raise ValueError(f"{name!r} is {'missing' if name in wanted else 'not known'}")
    for name, like in wanted.items():
        value = state[name]
        if value.shape != like.shape:
            raise ValueError(
                f"{name} must have shape {tuple(like.shape)} for {network.lobe_type}, "
                f"got {tuple(value.shape)}"
            )
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, it holds NaN or infinity")
    network.load_state_dict({ours: state[name] for ours, name in _names(network.state_dict())})
    return network


def specular_to_official(values: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """Rename entries of our state dict (or anything by the same names) to the published ones."""
    return {name: values[ours] for ours, name in _names(values)}


def _names(ours: Mapping[str, object]) -> list[tuple[str, str]]:
    """Our name and the published one of each entry."""
    pairs = []
    for name in ours:
        prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
        pairs.append((name, _PREFIXES[prefix] + name.removeprefix(prefix)))
    return pairs

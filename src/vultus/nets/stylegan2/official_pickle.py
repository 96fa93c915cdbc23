"""Published checkpoints of the StyleGAN2 family, read without running them.

Such a file pickles whole modules together with their source code. Only tensors, numbers, texts and
containers are taken from it; the code is never looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vultus.core.safe_pickle import PickledObject
from vultus.core.torch_pickle import load_torch_file

__all__ = ["OfficialNetwork", "read_official_pickle"]

_MODULE = "torch_utils.persistence._reconstruct_persistent_obj"
_DICTIONARY = "dnnlib.util.EasyDict"
_INERT = (
    _MODULE,
    _DICTIONARY,
    "torch.nn.modules.activation.GELU",
    "torch.nn.modules.activation.Softplus",
    "torch.nn.modules.container.ModuleDict",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.linear.Linear",
    "training.gaussian3d_splatting.renderer.Renderer",
    "training.volumetric_rendering.ray_sampler.RaySampler",
)
"""What modules hold beside modules of the release: EG3D and its successors, GSHeadRelight."""
_NETWORKS = ("G", "D", "G_ema")
_PORT = ("state_dict", "init_kwargs")
"""What a file of a port to another framework holds instead: weights, and the arguments."""


@dataclass(frozen=True)
class OfficialNetwork:
    """One network of a published checkpoint."""

    class_name: str
    weights: dict[str, Tensor]
    """Parameters and buffers under their published names."""
    attributes: dict[str, Any]
    """Plain attributes of the module, such as ``rendering_kwargs``."""
    arguments: dict[str, Any]
    """Keyword arguments of its constructor."""

    @property
    def rendering(self) -> dict[str, Any]:
        """Options of the rendering, wherever the module keeps them."""
        found = self.attributes.get("rendering_kwargs")
        return found if found else self.arguments.get("rendering_kwargs", {})


def read_official_pickle(path: Path) -> dict[str, OfficialNetwork]:
    """Read the networks ``G``, ``D`` and ``G_ema``, as far as the file has them.

    A file with ``state_dict`` and ``init_kwargs``, as that of GSHeadRelight's port to Jittor, holds
    a ``G_ema``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, asks for any code to be run, or holds no network.
    """
    loaded = load_torch_file(path, inert=_INERT)
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: must hold a dictionary, got {type(loaded).__name__}")
    networks = {
        name: _network(loaded[name], f"{path}: {name}")
        for name in _NETWORKS
        if loaded.get(name) is not None
    }
    if not networks and all(name in loaded for name in _PORT):
        networks = {"G_ema": _network_of_port(loaded, str(path))}
    if not networks:
        raise ValueError(f"{path}: must hold one of {', '.join(_NETWORKS)}, got none")
    return networks


def _network(value: Any, source: str) -> OfficialNetwork:
    record = _record(value, source)
    state = record["state"]
    return OfficialNetwork(
        str(record.get("class_name", "")),
        dict(_tensors(value, source, "")),
        {name: _plain(v) for name, v in state.items() if not name.startswith("_")},
        _plain(state.get("_init_kwargs", {})),
    )


def _network_of_port(loaded: dict[str, Any], source: str) -> OfficialNetwork:
    weights, arguments = (_plain(loaded[name]) for name in _PORT)
    if not isinstance(weights, dict) or not isinstance(arguments, dict):
        raise ValueError(f"{source}: {' and '.join(_PORT)} must be dictionaries")
    tensors = {}
    for name, value in weights.items():
        is_numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        tensor = torch.from_numpy(np.array(value)) if is_numbers else value
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{source}: {name} must be an array, got {type(value).__name__}")
        tensors[str(name)] = tensor
    return OfficialNetwork("the network", tensors, {}, arguments)


def _record(value: Any, source: str) -> dict[str, Any]:
    """What a pickled module says about itself."""
    if not isinstance(value, PickledObject) or value.name != _MODULE or len(value.arguments) != 1:
        raise ValueError(f"{source} must be a pickled network, got {type(value).__name__}")
    record = _plain(value.arguments[0])
    if not isinstance(record, dict) or not isinstance(record.get("state"), dict):
        raise ValueError(f"{source} must be a pickled network, got no state")
    return record


def _tensors(value: Any, source: str, prefix: str) -> list[tuple[str, Tensor]]:
    """Parameters and buffers of a module and of those in it."""
    is_module = isinstance(value, PickledObject) and value.name == _MODULE
    state = _record(value, source)["state"] if is_module else getattr(value, "state", None)
    if not isinstance(state, dict):
        return []
    found = [
        (prefix + name, tensor)
        for group in ("_parameters", "_buffers")
        for name, tensor in state.get(group, {}).items()
        if isinstance(tensor, Tensor)
    ]
    for name, child in state.get("_modules", {}).items():
        found += _tensors(child, source, f"{prefix}{name}.")
    return found


def _plain(value: Any) -> Any:
    """Turn the release's dictionaries into ours, at every depth but inside modules."""
    if isinstance(value, PickledObject) and value.name == _DICTIONARY:
        value = {**(value.state or {}), **dict(value.items)}
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return value

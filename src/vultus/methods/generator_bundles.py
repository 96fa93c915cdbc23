"""What files of generators have in common, whatever the method: format, method, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from vultus.core.bundles import Bundle, load_bundle, save_bundle

__all__ = ["load_generator_bundle", "save_generator_bundle"]

_FORMAT = "vultus generator 1"


def save_generator_bundle(
    path: Path,
    method: str,
    network: nn.Module,
    facts: Mapping[str, Any],
    *,
    is_half: bool = False,
) -> None:
    """Write a generator atomically.

    Args:
        path: ``.safetensors``.
        method: Name of the method, which the reader asks for.
        network: Its weights are written.
        facts: JSON data that describe it.
        is_half: Round weights to float16, for a file of half the size.

    Raises:
        ValueError: If a weight is too large for float16.
    """
    weights = network.state_dict()
    if is_half:
        weights = {name: tensor.half() for name, tensor in weights.items()}
        for name, tensor in weights.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{path}: {name} has values that are too large for float16")
    save_bundle(path, weights, {"format": _FORMAT, "method": method, **facts})


def load_generator_bundle(path: Path, method: str) -> Bundle:
    """Read what ``save_generator_bundle`` wrote, with weights as float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or of another method; names the file.
    """
    bundle = load_bundle(path)
    found, made_by = bundle.metadata.get("format"), bundle.metadata.get("method")
    if found != _FORMAT:
        raise ValueError(f"{path}: must be a file of the format {_FORMAT!r}, got {found!r}")
    if made_by != method:
        raise ValueError(f"{path}: must be a generator of {method}, got one of {made_by!r}")
    weights = {name: tensor.float() for name, tensor in bundle.tensors.items()}
    return replace(bundle, tensors=weights)

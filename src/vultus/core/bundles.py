"""Tensors with JSON metadata in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vultus.core.files import atomic_path, parse_json

__all__ = ["Bundle", "load_bundle", "save_bundle"]

_METADATA_KEY = "vultus"


@dataclass(frozen=True)
class Bundle:
    """What a file holds, and where it came from for error messages."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def tensor(self, key: str, shape: tuple[int | None, ...] | None = None) -> Tensor:
        """Return one tensor, checked.

        Args:
            key: Its name.
            shape: The sizes it must have; ``None`` accepts any size in that place.

        Raises:
            ValueError: If the key is missing or the shape differs; names file and key.
        """
        if key not in self.tensors:
            raise ValueError(f"{self.path}: tensor {key!r} is missing")
        tensor = self.tensors[key]
        if shape is None:
            return tensor
        has_shape = len(shape) == tensor.dim() and all(
            wanted in (None, size) for wanted, size in zip(shape, tensor.shape, strict=True)
        )
        if not has_shape:
            raise ValueError(
                f"{self.path}: tensor {key!r} must have shape {shape}, got {tuple(tensor.shape)}"
            )
        return tensor


def save_bundle(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON metadata atomically.

    Raises:
        ValueError: If a value is not a dense tensor or the metadata are not JSON; names file and
            key.
    """
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: metadata are not expressible as JSON: {error}") from error
    prepared: dict[str, Tensor] = {}
    storages: set[int] = set()
    for key, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise ValueError(f"{path}: {key!r} must be a dense tensor, got {type(tensor).__name__}")
        dense = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory (tied weights, views of one buffer).
        storage = dense.untyped_storage().data_ptr()
        prepared[key] = dense.clone() if storage in storages else dense
        storages.add(storage)
    with atomic_path(path) as temporary:
        # safetensors makes files that nobody else may read; this one is like any other.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(prepared, temporary, {_METADATA_KEY: text})
        temporary.chmod(mode)


def load_bundle(path: Path, device: torch.device | str = "cpu") -> Bundle:
    """Read a safetensors file; the strings in the header of a foreign one become the metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    # Headers whose shapes are beyond 64 bits are refused by PyTorch, with errors of its own.
    except (SafetensorError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a complete safetensors file: {reason:.200}") from error
    if _METADATA_KEY not in header:
        return Bundle(path, tensors, dict(header))
    metadata = parse_json(header[_METADATA_KEY], f"{path}: the metadata")
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: the metadata must be an object, got {type(metadata).__name__}")
    return Bundle(path, tensors, metadata)

"""Generators in one file, whatever the method: weights with the settings that they belong to.

A safetensors file whose header holds format, method, the generator's config, ``ViewRig`` and what
is known of its origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from vultus.core.bundles import load_bundle, save_bundle
from vultus.core.config import add_new_fields, config_from_data, config_to_data
from vultus.methods.head_views import ViewRig
from vultus.nets.weights import load_weights

__all__ = ["GeneratorFile", "NetworkT", "SavedGenerator"]

_FORMAT = "vultus generator 1"

NetworkT = TypeVar("NetworkT", bound=nn.Module)
"""A generator's network; its settings are its attribute ``config``."""


@dataclass(frozen=True)
class SavedGenerator(Generic[NetworkT]):
    """A generator that is ready for use."""

    generator: NetworkT
    rig: ViewRig
    origin: Mapping[str, Any]
    """JSON facts on where it comes from."""


@dataclass(frozen=True)
class GeneratorFile(Generic[NetworkT]):
    """How files of one method are written and read."""

    method: str
    """Name of the method."""
    build: Callable[[Any], NetworkT]
    """Makes the network of a config."""
    default: Any
    """Config whose values stand for settings that older files lack."""
    default_rig: ViewRig
    """Cameras of files that say nothing about them."""

    def save(self, path: Path, saved: SavedGenerator[NetworkT], *, is_half: bool = False) -> None:
        """Write a generator atomically.

        Args:
            path: ``.safetensors``.
            saved: What is written.
            is_half: Round weights to float16, for a file of half the size.

        Raises:
            ValueError: If a weight is too large for float16.
        """
        weights = saved.generator.state_dict()
        if is_half:
            weights = {name: tensor.half() for name, tensor in weights.items()}
            for name, tensor in weights.items():
                if not tensor.isfinite().all():
                    raise ValueError(f"{path}: {name} has values that are too large for float16")
        facts = {
            "format": _FORMAT,
            "method": self.method,
            "config": config_to_data(saved.generator.config),
            "rig": config_to_data(saved.rig, "rig"),
            "origin": dict(saved.origin),
        }
        save_bundle(path, weights, facts)

    def load(self, path: Path, device: torch.device | str = "cpu") -> SavedGenerator[NetworkT]:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, of another method or configuration; names the file.
        """
        bundle = load_bundle(path)
        facts = bundle.metadata
        found, made_by = facts.get("format"), facts.get("method")
        if found != _FORMAT:
            raise ValueError(f"{path}: must be a file of the format {_FORMAT!r}, got {found!r}")
        if made_by != self.method:
            raise ValueError(
                f"{path}: must be a generator of {self.method}, got one of {made_by!r}"
            )
        stored = add_new_fields(facts.get("config"), self.default)
        generator = self.build(config_from_data(type(self.default), stored, f"{path}: config"))
        rig = self.default_rig
        if "rig" in facts:
            rig = config_from_data(ViewRig, facts["rig"], f"{path}: rig")
        weights = {name: tensor.float() for name, tensor in bundle.tensors.items()}
        load_weights(generator, weights, str(path))
        generator = generator.to(device).eval().requires_grad_(False)
        return SavedGenerator(generator, rig, facts.get("origin") or {})

"""Generators of heads that can be lit, in one file: weights with the settings they belong to.

A safetensors file whose header holds format, method, ``GeneratorConfig`` and what is known of its
origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vultus.core.config import add_new_fields, config_from_data, config_to_data
from vultus.methods.generator_bundles import load_generator_bundle, save_generator_bundle
from vultus.methods.gsheadrelight.config import GeneratorConfig
from vultus.methods.gsheadrelight.generator import Generator
from vultus.nets.weights import load_weights

__all__ = ["SavedGenerator", "load_generator", "save_generator"]

_METHOD = "gsheadrelight"


@dataclass(frozen=True)
class SavedGenerator:
    """A generator that is ready for use."""

    generator: Generator
    origin: Mapping[str, Any]
    """JSON facts on where it comes from."""


def save_generator(path: Path, saved: SavedGenerator, *, is_half: bool = False) -> None:
    """Write a generator atomically.

    Args:
        path: ``.safetensors``.
        saved: What is written.
        is_half: Round weights to float16, for a file of half the size.

    Raises:
        ValueError: If a weight is too large for float16.
    """
    config = config_to_data(saved.generator.config)
    facts = {"config": config, "origin": dict(saved.origin)}
    save_generator_bundle(path, _METHOD, saved.generator, facts, is_half=is_half)


def load_generator(path: Path, device: torch.device | str = "cpu") -> SavedGenerator:
    """Read what ``save_generator`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, of another method or configuration; names the file.
    """
    bundle = load_generator_bundle(path, _METHOD)
    stored = add_new_fields(bundle.metadata.get("config"), GeneratorConfig())
    generator = Generator(config_from_data(GeneratorConfig, stored, f"{path}: config"))
    load_weights(generator, bundle.tensors, str(path))
    generator = generator.to(device).eval().requires_grad_(False)
    return SavedGenerator(generator, bundle.metadata.get("origin") or {})

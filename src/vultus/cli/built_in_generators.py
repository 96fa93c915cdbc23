"""Generators that the package holds, for commands without ``--weights``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch

from vultus.cli.console import console
from vultus.core.run_folder import RunFolder
from vultus.methods.generator_bundles import GeneratorFile, NetworkT, SavedGenerator

__all__ = ["DEMO", "built_in_file", "is_built_in", "open_built_in"]

DEMO = Path("demo")
"""What ``--weights`` calls the built-in generator."""


def built_in_file(method: str) -> Traversable:
    """Where the package keeps the generator of a method, if it has one."""
    return files("vultus") / "assets" / f"{method}.safetensors"


def is_built_in(weights: Path | None) -> bool:
    """Whether ``--weights`` asks for the built-in generator.

    Raises:
        ValueError: If it says ``demo`` where there is also a run or a file of that name.
    """
    if weights is None:
        return True
    if weights != DEMO:
        return False
    if weights.is_file() or RunFolder(weights).config_path.is_file():
        raise ValueError(
            f"--weights: {DEMO} is the built-in generator, but also the name of what is here; "
            f"leave --weights out, or give {weights.resolve()}"
        )
    return True


def open_built_in(
    file: GeneratorFile[NetworkT], device: torch.device | str
) -> SavedGenerator[NetworkT]:
    """Read the built-in generator of a method, and say so.

    Raises:
        FileNotFoundError: If the package has none; says what to do.
    """
    resource = built_in_file(file.method)
    if not resource.is_file():
        raise FileNotFoundError(
            f"--weights: this version has no built-in generator of {file.method}; give a run "
            f"folder of vultus train {file.method} or a file of vultus convert-checkpoint"
        )
    with as_file(resource) as path:
        saved = file.load(path, device)
    console.print(f"generator: {_description(file.method, saved.origin)}")
    return saved


def _description(method: str, origin: Mapping[str, Any]) -> str:
    parts = [f"the built-in one of {method}"]
    if "images_seen" in origin:
        parts.append(f"which saw {origin['images_seen']} images")
    if "license" in origin:
        parts.append(str(origin["license"]))
    return ", ".join(parts)

"""The table of head models, and their descriptions in files."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vultus.heads.base import HeadModel

__all__ = [
    "HEADS",
    "HeadEntry",
    "describe_head",
    "head_from_description",
    "load_head",
]


@dataclass(frozen=True)
class HeadEntry:
    """Where a head model lives and what it needs."""

    module: str
    class_name: str
    description: str
    needs_file: bool
    """Whether it is read from a file: ``class.from_file(path)`` rather than ``class()``."""


HEADS: dict[str, HeadEntry] = {
    "procedural": HeadEntry(
        "vultus.heads.procedural", "ProceduralHead", "built in, made by code alone", False
    ),
    "ict": HeadEntry(
        "vultus.heads.ict", "IctHead", "ICT-FaceKit (MIT), 53 ARKit-like shapes", True
    ),
    "flame": HeadEntry(
        "vultus.heads.flame", "FlameHead", "FLAME 2020 or 2023, from the user's own copy", True
    ),
    "tracked": HeadEntry(
        "vultus.heads.tracked", "TrackedMesh", "any mesh of fixed topology, replay only", True
    ),
}


def load_head(
    name: str, path: Path | None = None, options: Mapping[str, Any] | None = None
) -> HeadModel:
    """Load a head model by name.

    Args:
        name: A key of ``HEADS``.
        path: The model's file, for the models that have one.
        options: Keyword arguments of the model's loader that are not its defaults
            (FLAME: ``num_identity``, ``num_expression``, ``teeth``).

    Raises:
        ValueError: If the name is unknown, a needed path is missing or a path is given in vain.
        FileNotFoundError: If the file does not exist.
    """
    entry = HEADS.get(name)
    if entry is None:
        raise ValueError(f"head must be one of {', '.join(HEADS)}, got {name!r}")
    if entry.needs_file and path is None:
        raise ValueError(f"head {name!r} needs the path of its file ({entry.description})")
    if not entry.needs_file and path is not None:
        raise ValueError(f"head {name!r} is {entry.description} and takes no file, got {path}")
    head_class = getattr(importlib.import_module(entry.module), entry.class_name)
    build = head_class.from_file if entry.needs_file else head_class
    arguments = [path] if entry.needs_file else []
    return build(*arguments, **dict(options or {}))


def describe_head(head: HeadModel) -> dict[str, Any]:
    """Write down, as JSON values, which head a track or checkpoint belongs to."""
    topology = head.topology
    return {
        "name": head.name,
        "version": head.version,
        "options": dict(getattr(head, "options", {})),
        "parameters": {spec.name: spec.size for spec in head.parameters_spec},
        "num_vertices": topology.num_vertices,
        "num_faces": int(topology.faces.shape[0]),
    }


def head_from_description(
    description: Mapping[str, Any], paths: Mapping[str, Path] | None = None
) -> HeadModel:
    """Load the head that ``describe_head`` described and check that it is the same.

    Args:
        description: As read from a file.
        paths: The file of each model that has one, by model name.

    Raises:
        ValueError: If the description is incomplete, or the loaded head differs from it.
    """
    missing = {"name", "version", "parameters", "num_vertices", "num_faces"} - description.keys()
    if missing:
        raise ValueError(f"head description must have {sorted(missing)[0]!r}, got {description}")
    name = str(description["name"])
    head = load_head(name, (paths or {}).get(name), description.get("options"))
    loaded = describe_head(head)
    for field in ("version", "parameters", "num_vertices", "num_faces"):
        if loaded[field] != description[field]:
            raise ValueError(
                f"head {name!r}: {field} must be {description[field]}, got {loaded[field]}"
            )
    return head

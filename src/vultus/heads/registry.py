"""The table of head models, where their files are found, and their descriptions in files."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vultus.core.asset_registry import find_asset, has_asset
from vultus.heads.base import HeadModel
from vultus.heads.flame import FlameVersion
from vultus.heads.flame_convert import convert_flame

__all__ = [
    "HEADS",
    "HeadEntry",
    "describe_head",
    "find_head_file",
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
    assets: Mapping[str, str] = field(default_factory=dict)
    """Version -> asset that holds it, the preferred version first; empty: there are none."""


HEADS: dict[str, HeadEntry] = {
    "procedural": HeadEntry(
        "vultus.heads.procedural", "ProceduralHead", "built in, made by code alone", False
    ),
    "ict": HeadEntry(
        "vultus.heads.ict",
        "IctHead",
        "ICT-FaceKit (MIT), 53 ARKit-like shapes",
        True,
        {"full": "ict_full", "light": "ict_light"},
    ),
    "flame": HeadEntry(
        "vultus.heads.flame",
        "FlameHead",
        "FLAME 2020 or 2023, from the user's own copy",
        True,
        {"2023": "flame2023", "2020": "flame2020"},
    ),
    "tracked": HeadEntry(
        "vultus.heads.tracked", "TrackedMesh", "any mesh of fixed topology, replay only", True
    ),
}


def load_head(
    name: str,
    path: Path | None = None,
    options: Mapping[str, Any] | None = None,
    version: str | None = None,
) -> HeadModel:
    """Load a head model by name.

    Args:
        name: A key of ``HEADS``.
        path: The model's file, for the models that have one; by default the imported asset.
        options: Keyword arguments of the model's loader that are not its defaults
            (FLAME: ``num_identity``, ``num_expression``, ``teeth``).
        version: Which asset, where ``path`` is left out; see ``find_head_file``.

    Raises:
        ValueError: If the name or version is unknown, a needed path is missing or a path is given
            in vain.
        FileNotFoundError: If the file does not exist or was not imported; says how to import it.
    """
    entry = _entry(name)
    if not entry.needs_file and path is not None:
        raise ValueError(f"head {name!r} is {entry.description} and takes no file, got {path}")
    if entry.needs_file and path is None:
        path = find_head_file(name, version)
    head_class = getattr(importlib.import_module(entry.module), entry.class_name)
    build = head_class.from_file if entry.needs_file else head_class
    arguments = [path] if entry.needs_file else []
    return build(*arguments, **dict(options or {}))


def find_head_file(name: str, version: str | None = None) -> Path:
    """Find the imported file of a head model.

    FLAME is converted on its first use, and again when a newer file was imported; the result lies
    beside the imported model.

    Args:
        name: A key of ``HEADS``.
        version: ICT: ``full`` or ``light``. FLAME: ``2023`` or ``2020``. By default the first of
            these that was imported.

    Raises:
        ValueError: If the model or the version is unknown, or no asset holds the model.
        FileNotFoundError: If it was not imported; says how to import it.
    """
    entry = _entry(name)
    if not entry.needs_file:
        raise ValueError(f"head {name!r} is {entry.description} and has no file")
    if not entry.assets:
        raise ValueError(f"head {name!r} needs the path of its file ({entry.description})")
    if version is None:
        preferred = next(iter(entry.assets))
        version = next((v for v, asset in entry.assets.items() if has_asset(asset)), preferred)
    if version not in entry.assets:
        raise ValueError(
            f"version of head {name!r} must be one of {', '.join(entry.assets)}, got {version!r}"
        )
    source = find_asset(entry.assets[version])
    return _converted_flame(source, cast(FlameVersion, version)) if name == "flame" else source


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
        paths: The file of each model that has one, by model name; by default the imported asset.

    Raises:
        ValueError: If the description is incomplete, or the loaded head differs from it.
        FileNotFoundError: If the model's file was not imported.
    """
    missing = {"name", "version", "parameters", "num_vertices", "num_faces"} - description.keys()
    if missing:
        raise ValueError(f"head description must have {sorted(missing)[0]!r}, got {description}")
    name = str(description["name"])
    path, version = (paths or {}).get(name), str(description["version"])
    head = load_head(name, path, description.get("options"), version)
    loaded = describe_head(head)
    for key in ("version", "parameters", "num_vertices", "num_faces"):
        if loaded[key] != description[key]:
            raise ValueError(f"head {name!r}: {key} must be {description[key]}, got {loaded[key]}")
    return head


def _entry(name: str) -> HeadEntry:
    if name not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}, got {name!r}")
    return HEADS[name]


def _converted_flame(source: Path, version: FlameVersion) -> Path:
    """Convert an imported model unless that was done after the last import."""
    converted = source.with_name(f"flame{version}.safetensors")
    masks, uv = find_asset("flame_masks"), find_asset("flame_uv")
    newest = max(path.stat().st_mtime_ns for path in (source, masks, uv))
    if not converted.is_file() or converted.stat().st_mtime_ns < newest:
        convert_flame(source, masks, uv, converted, version)
    return converted

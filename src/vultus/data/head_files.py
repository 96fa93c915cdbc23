"""Opening of head models whose files the user has imported as assets, or names himself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vultus.core.asset_registry import find_asset, has_asset
from vultus.heads.base import HeadModel
from vultus.heads.flame import FlameVersion
from vultus.heads.flame_convert import convert_flame
from vultus.heads.registry import head_from_description, load_head

__all__ = ["find_head_file", "open_described_head", "open_head"]


def open_head(model: str, head_file: Path | None = None, version: str | None = None) -> HeadModel:
    """Open a head model.

    Args:
        model: ``procedural``, ``ict`` or ``flame``.
        head_file: The model's file; by default the imported asset.
        version: Which asset; see ``find_head_file``.

    Raises:
        FileNotFoundError: If the model needs a file that is neither given nor imported.
        ValueError: If the model is unknown, takes no file, or the file is wrong.
    """
    return load_head(model, head_file or find_head_file(model, version))


def open_described_head(description: Mapping[str, Any], head_file: Path | None = None) -> HeadModel:
    """Open the head that ``describe_head`` described, from a file or the imported asset.

    Raises:
        FileNotFoundError: If the model needs a file that is neither given nor imported.
        ValueError: If the head differs from its description.
    """
    name = str(description.get("name"))
    path = head_file or find_head_file(name, str(description.get("version")))
    return head_from_description(description, {} if path is None else {name: path})


def find_head_file(model: str, version: str | None = None) -> Path | None:
    """Find the imported file of a head model.

    FLAME is converted on its first use; the result lies beside the imported model.

    Args:
        model: Name of a head model.
        version: ICT: ``full`` or ``light``, by default full if it is there. FLAME: ``2020`` or
            ``2023``, by default 2023.

    Returns:
        The file, or ``None`` for models that need none.

    Raises:
        FileNotFoundError: If it was not imported; says how to import it.
    """
    if model == "ict":
        is_light = version == "light" or (version is None and not has_asset("ict_full"))
        return find_asset("ict_light" if is_light and has_asset("ict_light") else "ict_full")
    if model == "flame":
        release = version or "2023"
        source = find_asset(f"flame{release}")
        converted = source.with_name(f"flame{release}.safetensors")
        if not converted.is_file():
            masks, uv = find_asset("flame_masks"), find_asset("flame_uv")
            convert_flame(source, masks, uv, converted, cast(FlameVersion, release))
        return converted
    return None

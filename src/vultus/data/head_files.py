"""Opening of head models whose files the user has imported as assets, or names himself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vultus.heads.base import HeadModel
from vultus.heads.registry import head_from_description, load_head

__all__ = ["open_described_head", "open_head"]


def open_head(model: str, head_file: Path | None = None, version: str | None = None) -> HeadModel:
    """Open a head model.

    Args:
        model: ``procedural``, ``ict`` or ``flame``.
        head_file: The model's file; by default the imported asset.
        version: Which asset; see ``heads.registry.find_head_file``.

    Raises:
        FileNotFoundError: If the model needs a file that is neither given nor imported.
        ValueError: If the model is unknown, takes no file, or the file is wrong.
    """
    return load_head(model, head_file, version=version)


def open_described_head(description: Mapping[str, Any], head_file: Path | None = None) -> HeadModel:
    """Open the head that ``describe_head`` described, from a file or the imported asset.

    Raises:
        FileNotFoundError: If the model needs a file that is neither given nor imported.
        ValueError: If the head differs from its description.
    """
    paths = {} if head_file is None else {str(description.get("name")): head_file}
    return head_from_description(description, paths)

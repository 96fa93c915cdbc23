"""The note in a folder that says what is being made there, so that work can be continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vultus.core.files import read_json

__all__ = ["check_folder_note"]


def check_folder_note(
    out: Path, name: str, note: Mapping[str, Any], kind: str, ignored: Sequence[str] = ()
) -> None:
    """Raise unless a folder is new, empty, or holds the note of the same work.

    Args:
        out: The folder.
        name: File name of the note (JSON).
        note: What would be written there now.
        kind: Of the work, for the message.
        ignored: Keys at the top that may differ.

    Raises:
        ValueError: Naming the folder and the first difference.
    """
    path = out / name
    if path.is_file():
        there = read_json(path)
        if not isinstance(there, dict):
            raise ValueError(f"{path}: must hold an object, got {type(there).__name__}")
        before, now = (
            {key: value for key, value in content.items() if key not in ignored}
            for content in (there, dict(note))
        )
        difference = _first_difference(before, now)
        if difference is not None:
            raise ValueError(f"{out} holds another {kind}: {difference}")
    elif out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} must be an empty or new folder, or one that the studio wrote")
    elif out.exists() and not out.is_dir():
        raise ValueError(f"{out} must be a folder")


def _first_difference(there: Any, here: Any, name: str = "") -> str | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in (*here, *(key for key in there if key not in here)):
            below = f"{name}.{key}" if name else str(key)
            found = _first_difference(there.get(key), here.get(key), below)
            if found is not None:
                return found
        return None
    return None if there == here else f"{name} is {there!r} there, {here!r} here"

"""Folders of pictures whose names are numbers."""

from __future__ import annotations

from pathlib import Path

__all__ = ["numbered_files"]

_SUFFIXES = (".jpg", ".jpeg", ".png")


def numbered_files(folder: Path, prefix: str = "") -> dict[int, Path]:
    """Find the pictures of a folder by the number that is their name; zeros before it are fine.

    Args:
        folder: Other files in it are passed over.
        prefix: Stands before the number.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If two pictures have one number.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        number = path.stem.removeprefix(prefix)
        is_named = path.stem.startswith(prefix) and number.isdecimal()
        if path.suffix.lower() not in _SUFFIXES or not is_named:
            continue
        other = found.setdefault(int(number), path)
        if other != path:
            raise ValueError(f"{folder}: {other.name} and {path.name} have one number")
    return found

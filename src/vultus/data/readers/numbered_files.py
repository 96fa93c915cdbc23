"""Folders of pictures whose names are numbers."""

from __future__ import annotations

from pathlib import Path

__all__ = ["numbered_files"]

_SUFFIXES = (".jpg", ".jpeg", ".png")


def numbered_files(folder: Path) -> dict[int, Path]:
    """Find the pictures of a folder by the number that is their name; zeros before it are fine.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If two pictures have one number.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or not path.stem.isdecimal():
            continue
        other = found.setdefault(int(path.stem), path)
        if other != path:
            raise ValueError(f"{folder}: {other.name} and {path.name} have one number")
    return found

"""Files that lie beside a capture's pictures under their names: relit pictures, ground truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["find_companions"]


def find_companions(
    root: Path, pictures: Iterable[Path], below: Path, suffix: str | None = None
) -> dict[Path, Path]:
    """Find the file of each picture that has one.

    It lies beside the folder of the picture or, second, in the capture; never in a folder that
    holds the capture, which pictures that lie in ``root`` itself would lead to.

    Args:
        root: Of the capture.
        pictures: May repeat.
        below: Folder of the files, from there.
        suffix: Of the files; by default that of the picture.

    Raises:
        ValueError: If two pictures have the name of one file; names all three.
    """
    owners: dict[Path, Path] = {}
    folders: dict[Path, list[Path]] = {}
    for picture in dict.fromkeys(pictures):
        if picture.parent not in folders:
            folders[picture.parent] = _folders(root, picture.parent.parent, below)
        name = picture.name if suffix is None else picture.with_suffix(suffix).name
        files = (folder / name for folder in folders[picture.parent])
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            continue
        owner = owners.setdefault(file, picture)
        if owner != picture:
            raise ValueError(
                f"{file}: pictures must have names of their own, {owner} and {picture} share it"
            )
    return {picture: file for file, picture in owners.items()}


def _folders(root: Path, beside: Path, below: Path) -> list[Path]:
    """Those that exist, nearest first."""
    is_above = beside.resolve() in root.resolve().parents
    bases = [root] if is_above or beside == root else [beside, root]
    return [base / below for base in bases if (base / below).is_dir()]

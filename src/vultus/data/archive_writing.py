"""Write named files into a folder or a zip archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["ArchiveWriter", "FolderWriter", "ZipWriter"]

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The same files give the same archive."""


@runtime_checkable
class ArchiveWriter(Protocol):
    """A place for named files; names have forward slashes."""

    def add(self, name: str, data: bytes) -> None:
        """Write a file."""
        ...

    def close(self) -> None:
        """Complete the archive."""
        ...


class FolderWriter:
    """A new folder."""

    def __init__(self, path: Path) -> None:
        """Make the folder."""
        self._path = path
        path.mkdir()

    def add(self, name: str, data: bytes) -> None:
        """See ``ArchiveWriter``."""
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def close(self) -> None:
        """See ``ArchiveWriter``; nothing is open."""


class ZipWriter:
    """A new archive. Files are stored: images are compressed already, and are read faster so."""

    def __init__(self, path: Path) -> None:
        """Open the archive."""
        self._file = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def add(self, name: str, data: bytes) -> None:
        """See ``ArchiveWriter``."""
        self._file.writestr(zipfile.ZipInfo(name, _ZIP_DATE), data)

    def close(self) -> None:
        """See ``ArchiveWriter``."""
        self._file.close()

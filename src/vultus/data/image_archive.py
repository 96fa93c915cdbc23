"""Files of an image set by name: in a folder, or in a zip archive that is not unpacked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from vultus.core.files import is_temporary
from vultus.core.zip_limits import check_expansion

__all__ = ["ImageArchive", "open_archive"]

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


@runtime_checkable
class ImageArchive(Protocol):
    """Named files; names have forward slashes. Threads may read at the same time."""

    @property
    def path(self) -> Path:
        """The folder or the archive."""
        ...

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ValueError: If it is damaged; names archive and file.
        """
        ...


def open_archive(path: Path) -> ImageArchive:
    """Open a folder or a ``.zip``.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If a file is no complete zip archive.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return _Zip(path)


def _whole(names: Iterable[str]) -> list[str]:
    """Names without what interrupted writes have left, in order."""

    def is_left_over(name: str) -> bool:
        path = PurePosixPath(name)
        return any(is_temporary(part) for part in (path, *path.parents))

    return sorted(name for name in names if not is_left_over(name))


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        files = (file for file in self.path.rglob("*") if file.is_file())
        return _whole(file.relative_to(self.path).as_posix() for file in files)

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


class _Zip:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = zipfile.ZipFile(path)
        except (*_DAMAGE, ValueError) as error:
            raise ValueError(f"{path}: not a complete zip archive: {error}") from error

    def names(self) -> list[str]:
        return _whole(name for name in self._file.namelist() if not name.endswith("/"))

    def size(self, name: str) -> int:
        return self._file.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        try:
            check_expansion(self._file.getinfo(name))
            return self._file.read(name)
        except (*_DAMAGE, ValueError) as error:
            # Bytes of the file are part of some reasons.
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.path}: {name} is damaged: {reason:.200}") from error

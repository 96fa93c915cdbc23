"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

__all__ = [
    "atomic_directory",
    "atomic_path",
    "file_digest",
    "is_temporary",
    "parse_json",
    "read_json",
    "sync_directory",
    "write_bytes",
    "write_json",
    "write_text",
]

_TEMPORARY_PREFIX = ".vultus-tmp-"
_INTEGER_LIMIT = 2**63
_INTEGER_DIGITS = 20
"""With the sign. More are not even parsed: Python needs quadratic time for them."""


def is_temporary(path: PurePath) -> bool:
    """Say whether a name is one that an interrupted write may have left behind."""
    return path.name.startswith(_TEMPORARY_PREFIX)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(path: Path) -> None:
    """Make renames inside a folder survive a power cut (POSIX; elsewhere the rename suffices)."""
    if os.name != "posix":
        return
    _sync(path)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what was written there is renamed on success.

    The temporary name keeps the suffix, so that libraries which look at it work. Readers of
    ``path`` see the old file or the new one, never a part; on any error the old one stays.

    Raises:
        FileNotFoundError: If the folder does not exist, or nothing was written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")
    temporary = _temporary_name(path)
    try:
        yield temporary
        if not temporary.is_file():
            raise FileNotFoundError(f"{path}: nothing was written")
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder beside ``path``; it is renamed to ``path`` on success.

    Args:
        path: The folder to publish.
        replace: Accept that ``path`` exists. The old folder is then moved aside just before the
            rename and removed after it, since no portable call exchanges two folders.

    Raises:
        FileExistsError: If ``path`` exists and ``replace`` is false.
        FileNotFoundError: If the parent folder does not exist.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already")
    temporary, aside = _temporary_name(path), _temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _sync(Path(folder) / name)
            sync_directory(Path(folder))
        if path.exists():
            path.rename(aside)
        temporary.rename(path)
        sync_directory(path.parent)
    finally:
        if aside.exists() and not path.exists():
            aside.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file atomically; line ends stay as given on every platform."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, indented, keys in the order given.

    Raises:
        ValueError: If the data hold something that JSON cannot express (also NaN, infinity).
    """
    try:
        text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not expressible as JSON: {error}") from error
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As ``parse_json``.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    return parse_json(path.read_bytes(), str(path))


def parse_json(data: bytes | str, name: str, line: int | None = None) -> Any:
    """Parse the content of a JSON file. NaN and infinity pass, whole numbers of 64 bits at most.

    Args:
        data: The content.
        name: Of the file, for messages.
        line: Of the file, if the content is no more than that line.

    Raises:
        ValueError: If it is not JSON, or a whole number is too large; names file and line.
    """
    where = name if line is None else f"{name}:{line}"
    try:
        return json.loads(data, parse_int=_parse_integer)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}:{line or error.lineno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: not JSON: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _parse_integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS or not -_INTEGER_LIMIT <= int(text) < _INTEGER_LIMIT:
        start = text[:_INTEGER_DIGITS]
        raise ValueError(f"whole numbers must fit 64 bits, got {start} ({len(text)} characters)")
    return int(text)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY_PREFIX}{secrets.token_hex(6)}-{path.name}")


def _sync(path: Path) -> None:
    # Windows flushes only through handles that may write.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A disk cache of arrays that code alone determines."""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vultus.core.files import atomic_path

__all__ = ["cache_directory", "cached_arrays", "source_hash"]

_log = logging.getLogger(__name__)


def cache_directory() -> Path:
    """``$VULTUS_CACHE``, or ``vultus`` in the user's cache directory."""
    if explicit := os.environ.get("VULTUS_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vultus"


def source_hash() -> str:
    """Hash of this package's sources and of the versions of what computes with them."""
    digest = hashlib.sha256(f"{np.__version__} {scipy.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def cached_arrays(
    kind: str, build: Callable[[], dict[str, np.ndarray]], *details: object
) -> dict[str, np.ndarray]:
    """Load arrays from the cache, or build and store them.

    Files are written beside their place and renamed, so concurrent processes see all or nothing. A
    damaged file is rebuilt; if the directory cannot be written, that is logged and nothing stored.

    Args:
        kind: Start of the file's name.
        build: Makes the arrays from nothing but ``details`` and the code.
        details: What ``build`` depends on besides the code; compared by ``repr``.
    """
    key = hashlib.sha256(f"{source_hash()} {details!r}".encode()).hexdigest()[:16]
    path = cache_directory() / "procedural_head" / f"{kind}-{key}.safetensors"
    if path.exists():
        try:
            return _load(path)
        except (OSError, SafetensorError, ValueError) as error:
            _log.warning("rebuilding %s: %s", path, error)
    arrays = {name: np.ascontiguousarray(value) for name, value in build().items()}
    try:
        _store(path, arrays)
    except OSError as error:
        _log.warning("cannot cache the procedural head: %s", error)
    return arrays


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].tobytes(), total)
    return str(total)


def _load(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        expected = (file.metadata() or {}).get("checksum")
    if expected != _checksum(arrays):
        raise ValueError("the checksum does not match")
    return arrays


def _store(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"checksum": _checksum(arrays)})

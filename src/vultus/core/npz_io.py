"""Arrays in ``.npz`` files of others."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from vultus.core.zip_limits import check_expansion

__all__ = ["finite_floats", "read_npz", "read_npz_array"]

Array = np.ndarray[Any, np.dtype[Any]]
_NPY = b"\x93NUMPY"
"""What a file of a single array begins with."""


def read_npz(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Read arrays by name; nothing that is pickled.

    Args:
        path: The file.
        names: Which arrays to read, of those that the file has; by default all.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or no ``.npz`` file; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        # Opened here: NumPy leaves a file open that turns out to be damaged.
        with path.open("rb") as stream:
            # NumPy takes whatever it does not know for a pickle, and says how to run one.
            if stream.read(len(_NPY)) != _NPY and not zipfile.is_zipfile(stream):
                raise ValueError("it is no archive")
            stream.seek(0)
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("it holds a single array")
            wanted = [n for n in archive.files if names is None or n in names]
            for member in archive.zip.infolist() if archive.zip else ():
                if member.filename.removesuffix(".npy") in wanted:
                    check_expansion(member)
            arrays = {name: archive[name] for name in wanted}
            foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
            if foreign:
                raise ValueError(f"{foreign[0]!r} is no array")
            return arrays
    # Archives, compressed streams and headers have errors of a dozen types between them.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable .npz file: {reason:.200}") from error


def read_npz_array(path: Path, name: str) -> Array:
    """Read one array; nothing that is pickled.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no ``.npz`` file, or has no such array; names the file.
    """
    arrays = read_npz(path, (name,))
    if name not in arrays:
        raise ValueError(f"{path}: array {name!r} is missing")
    return arrays[name]


def finite_floats(array: Array, where: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Turn numbers of any type into float32.

    Args:
        array: Of a file.
        where: File and name, for messages.

    Raises:
        ValueError: If they are no real numbers, or not finite as float32.
    """
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{where} must be numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    if not np.isfinite(values).all():
        raise ValueError(f"{where} must be finite, it holds NaN or infinity")
    return values

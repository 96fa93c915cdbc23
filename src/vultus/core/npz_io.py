"""Arrays in ``.npz`` files of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

__all__ = ["read_npz_array"]


def read_npz_array(path: Path, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Read one array; nothing that is pickled.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no ``.npz`` file, or has no such array; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    rule = f"{path} must be an .npz file with an array {name}"
    try:
        # Opened here: numpy leaves a file open that turns out to be damaged.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise ValueError("it holds a single array")
            return np.asarray(archive[name])
    except (BadZipFile, EOFError, KeyError, NotImplementedError, OSError, ValueError) as error:
        raise ValueError(f"{rule}: {error}") from error

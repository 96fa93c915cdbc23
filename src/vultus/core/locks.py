"""Files that one process at a time may hold, until it ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Not on Windows, where nothing is held.
    fcntl = None

__all__ = ["held"]


@contextmanager
def held(path: Path, refusal: str) -> Iterator[None]:
    """Hold a file that exists; on file systems without locks nothing is held.

    Raises:
        FileExistsError: With the ``refusal`` as message, if another one holds it.
    """
    with path.open("rb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileExistsError(refusal) from None
            except OSError:
                pass
        yield

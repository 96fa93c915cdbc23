"""Compilation of Numba kernels: made faster, and where its results are kept."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

from numba.core import config, event
from numba.core.caching import FunctionCache

__all__ = ["cache_folder", "pause_collector_while_compiling"]


class _PausedCollector(event.Listener):
    """Switches the garbage collector off while anything is compiled.

    The compiler makes millions of objects that live until it is done; looking through them again
    and again takes up to a tenth of its time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._was_enabled = False

    def on_start(self, event: event.Event) -> None:
        """Enter a compilation, maybe inside another one or beside one in another thread."""
        with self._lock:
            if self._depth == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._depth += 1

    def on_end(self, event: event.Event) -> None:
        """Leave it."""
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._was_enabled:
                gc.enable()


_listener: _PausedCollector | None = None


def pause_collector_while_compiling() -> None:
    """Ask for it once per process; further calls do nothing."""
    global _listener
    if _listener is None:
        _listener = _PausedCollector()
        event.register("numba:compile", _listener)


def cache_folder() -> Path:
    """Where Numba keeps the kernels of a module: beside it, in the home, or where it is told.

    Raises:
        OSError: If it can write to none of them, and kernels cannot be loaded.
    """
    config.reload_config()
    try:
        # A lambda, since the shape checks of the tests wrap named functions.
        return Path(FunctionCache(lambda: None).cache_path)
    except RuntimeError as error:
        raise OSError(
            "neither the package nor the home can be written, so kernels cannot be loaded; set "
            "NUMBA_CACHE_DIR"
        ) from error

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from numba import njit
from numba.core import event

from vultus.core import compiling
from vultus.core.compiling import cache_folder, pause_collector_while_compiling


@pytest.fixture
def states() -> list[bool]:
    """Whether the collector is on at the end of each compilation."""
    return []


class Watch(event.Listener):
    def __init__(self, states: list[bool]) -> None:
        self.states = states

    def on_start(self, event: event.Event) -> None:
        pass

    def on_end(self, event: event.Event) -> None:
        self.states.append(gc.isenabled())


def test_the_collector_rests_while_kernels_compile_and_comes_back(states: list[bool]) -> None:
    pause_collector_while_compiling()
    pause_collector_while_compiling()
    inner = njit(lambda x: x + 1)
    with event.install_listener("numba:compile", Watch(states)):
        assert njit(lambda x: inner(x) + 1)(1) == 3
    # The inner function is compiled inside the outer one, whose end wakes the collector.
    assert states == [False, True]


def test_a_collector_that_was_off_stays_off() -> None:
    pause_collector_while_compiling()
    gc.disable()
    try:
        assert njit(lambda x: x + 2)(1) == 3
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_kernels_are_kept_where_numba_is_told_or_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    assert tmp_path / "kernels" in cache_folder().parents
    monkeypatch.delenv("NUMBA_CACHE_DIR")

    def refuse(*_: object) -> None:
        raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")

    monkeypatch.setattr(compiling, "FunctionCache", refuse)
    with pytest.raises(OSError, match="kernels cannot be loaded; set NUMBA_CACHE_DIR"):
        cache_folder()

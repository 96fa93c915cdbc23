from __future__ import annotations

import gc

import pytest
from numba import njit
from numba.core import event

from vultus.core.compiling import pause_collector_while_compiling


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

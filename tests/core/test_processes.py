"""The ordered map over processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vultus.core.processes import map_in_processes


def _shifted(offset: int, item: int) -> tuple[int, Tensor, int]:
    if item == 5:
        raise ValueError("five is refused")
    return os.getpid(), torch.full((3,), float(item + offset)), torch.get_num_threads()


def test_results_come_in_order_from_other_processes() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(4):
            drawn.append(item)
            yield item

    results = map_in_processes(partial(_shifted, 10), items(), workers=2, lookahead=2)
    pid, first, threads = next(results)
    assert pid != os.getpid()
    assert threads == 1
    assert len(drawn) <= 3
    rest = [tensor for _, tensor, _ in results]
    assert torch.equal(torch.stack([first, *rest])[:, 0], torch.arange(10.0, 14.0))


def test_errors_arrive_at_their_turn() -> None:
    results = map_in_processes(partial(_shifted, 0), [4, 5, 6], workers=1)
    assert float(next(results)[1][0]) == 4.0
    with pytest.raises(ValueError, match="five is refused"):
        next(results)
    with pytest.raises(ValueError, match="workers and lookahead must be positive, got 0 and 1"):
        map_in_processes(partial(_shifted, 0), [], workers=0, lookahead=1)


_PARENT = """
import sys, time
from vultus.core.processes import map_in_processes
import tests_child
if __name__ == "__main__":
    for pid in map_in_processes(tests_child.pid_then_sleep, range(3), workers=1, lookahead=3):
        print(pid, flush=True)
"""
_CHILD = """
import os, time
def pid_then_sleep(item):
    time.sleep(30.0 * (item > 0))
    return os.getpid()
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "tests_child.py").write_text(_CHILD)
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _is_alive(child):
        time.sleep(0.05)
    assert not _is_alive(child)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False

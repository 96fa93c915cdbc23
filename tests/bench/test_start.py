"""First passes are timed in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vultus.bench import start


def test_rows_tell_empty_from_filled_caches(monkeypatch: pytest.MonkeyPatch):
    runs: Iterator[tuple[float, float]] = iter([(9.0, 8.0), (2.0, 1.0), (11.0, 10.0), (4.0, 3.0)])
    folders: list[str] = []

    def run(primitive: str, folder: str) -> tuple[float, float]:
        folders.append(folder)
        return next(runs)

    monkeypatch.setattr(start, "_run", run)
    cold, warm = start.bench_start("surfels", 2)
    assert [cold.mode, warm.mode] == ["empty cache", "filled cache"]
    assert [timing.median for timing in cold.seconds.values()] == [10.0, 9.0]
    assert [timing.median for timing in warm.seconds.values()] == [3.0, 2.0]
    assert folders[0] == folders[1] != folders[2] == folders[3]


def test_the_first_pass_takes_time_in_this_process():
    assert 0 < start.first_pass("gaussians") < 60


@pytest.mark.slow
def test_a_filled_cache_saves_compilation():
    cold, warm = start.bench_start("gaussians", 1)
    assert warm.total.median < 0.5 * cold.total.median

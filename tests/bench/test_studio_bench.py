"""The benchmark of the studio."""

from __future__ import annotations

import time

from vultus.bench import studio
from vultus.bench.studio import bench_studio


def test_rows_tell_the_time_of_one_picture(monkeypatch):
    taken = []

    def slow_round(shooting: object, frames: int) -> float:
        taken.append(frames)
        return 2.0 * len(taken)

    monkeypatch.setattr(studio, "_time_round", slow_round)
    baked, traced = bench_studio(16, 1, 4)
    assert taken == [4] * 8
    # The first round of each, which compiles, does not count.
    assert (baked.total.median, baked.total.minimum) == (6.0 / 4, 4.0 / 4)
    assert (traced.total.median, traced.total.minimum) == (14.0 / 4, 12.0 / 4)
    assert traced.facts["shadows"] == "traced"
    assert "16 x 16, 1 rays a pixel, shadows traced" in traced.scene


def test_all_pictures_are_taken_and_timed():
    start = time.perf_counter()
    rows = bench_studio(12, 1, 2)
    elapsed = time.perf_counter() - start
    assert all(0 < row.total.minimum < elapsed for row in rows)

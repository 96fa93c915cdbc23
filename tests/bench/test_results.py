"""Rows are compared within a mode, and kept with what is known about the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vultus.bench.published import MODE, published_rows, published_steps
from vultus.bench.results import BOTH, FORWARD, Row, ratio_to, threads_mode, write_rows
from vultus.bench.scenes import RasterScene
from vultus.bench.timing import Timing


def row(implementation: str, mode: str, median: float) -> Row:
    parts = {FORWARD: Timing(99.0, 99.0), BOTH: Timing(median, 0.5 * median)}
    return Row("a scene", implementation, mode, parts, 3, {"num": 7})


def test_ratios_compare_the_last_part_of_rows_in_the_same_mode():
    rows = [
        row("ours", "eager", 3.0), row("theirs", "eager", 2.0),
        row("ours", "graph", 1.0), row("theirs", "graph", 4.0),
    ]  # fmt: skip
    assert [ratio_to(each, rows, "theirs") for each in rows] == [1.5, 1.0, 0.25, 1.0]


def test_an_implementation_with_one_row_is_compared_with_all_modes():
    rows = [row("ours", "eager", 3.0), row("ours", "graph", 1.0), row("peer", "eager", 6.0)]
    assert [ratio_to(each, rows, "peer") for each in rows] == [0.5, 1 / 6, 1.0]


def test_without_a_row_to_compare_with_there_is_no_ratio():
    rows = [row("ours", "graph", 1.0), row("two", "eager", 1.0), row("two", "slow", 1.0)]
    assert ratio_to(rows[0], rows, "nothing") is None
    assert ratio_to(rows[0], rows, "two") is None


def test_files_hold_milliseconds_facts_and_the_machine(tmp_path: Path):
    write_rows(tmp_path / "rows.json", [row("ours", "eager", 0.003)])
    data = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    (written,) = data["rows"]
    assert written["num"] == 7
    assert written["peak_bytes"] == 3
    assert written["milliseconds"][BOTH] == {
        "median": pytest.approx(3.0), "minimum": pytest.approx(1.5),
    }  # fmt: skip
    assert data["machine"]["versions"]["torch"]
    assert data["machine"]["torch_threads"] == torch.get_num_threads()
    assert {"cpu", "gpus", "driver", "code_revision"} <= data["machine"].keys()


def test_one_thread_is_singular():
    assert [threads_mode(1), threads_mode(2)] == ["1 thread", "2 threads"]


def test_published_figures_belong_to_exactly_one_scene_and_say_where_they_come_from():
    rows = published_rows(RasterScene("gaussians", 100_000, 512))
    assert {r.implementation: round(1e3 * r.total.median, 3) for r in rows} == {
        "faster-gs": 0.95, "gsplat": 2.0,
    }  # fmt: skip
    assert {r.mode for r in rows} == {MODE}
    assert not published_rows(RasterScene("gaussians", 100_000, 512, batch=8))
    assert set(published_steps(100_000, 512)) == {"faster-gs", "gsplat"}
    assert not published_steps(300_000, 512)

"""Timing on a GPU: rows of eager calls and graphs, memory, and the clock itself."""

from __future__ import annotations

import pytest
import torch

from vultus.bench.gpu_timing import allocated_memory, captured, peak_memory, time_on_gpu
from vultus.bench.raster import bench_reference
from vultus.bench.raster_gpu import bench_on_gpu
from vultus.bench.scenes import Primitive, RasterScene
from vultus.kernels import capacity

pytestmark = pytest.mark.gpu


def test_the_clock_runs_while_the_gpu_works():
    x = torch.randn(4096, 4096, device="cuda")
    times = time_on_gpu({"one": lambda: x @ x, "four": lambda: [x @ x for _ in range(4)]}, 10)
    assert 2 < times["four"].median / times["one"].median < 8


def test_memory_counts_what_a_call_needs_at_once():
    before = allocated_memory()
    kept = torch.zeros(1 << 20, device="cuda")
    need = peak_memory(lambda: (kept + 1) + 1) - before
    assert 3 * kept.nbytes <= need <= 3 * kept.nbytes + (1 << 16)


@pytest.mark.parametrize("primitive", ["gaussians", "surfels"])
def test_every_implementation_has_an_eager_and_a_graph_row(primitive: Primitive):
    rows = bench_on_gpu(RasterScene(primitive, 200, 64, channels=7, batch=2), 3)
    assert [(row.implementation, row.mode) for row in rows] == [
        ("gpu", "eager"), ("gpu, all outputs", "eager"),
        ("gpu", "eager, one thread"), ("gpu, all outputs", "eager, one thread"),
        ("gpu", "graph"), ("gpu, all outputs", "graph"),
    ]  # fmt: skip
    for row in rows:
        forward, both = row.seconds.values()
        assert 0 < forward.minimum <= forward.median
        assert forward.minimum < both.minimum
        assert row.peak_bytes is not None
        assert row.peak_bytes > 0


def test_buffers_that_are_too_small_grow_before_anything_is_timed(monkeypatch):
    monkeypatch.setattr(capacity, "_INITIAL", 2)
    monkeypatch.setattr(capacity, "_shared", {})
    assert bench_on_gpu(RasterScene("gaussians", 3000, 64), 3)
    assert all(each.per_list > 2 for each in capacity._shared.values())


def test_the_reference_is_timed_on_the_gpu_too():
    rows = bench_reference(RasterScene("gaussians", 50, 16), 3, device="cuda")
    assert [(row.implementation, row.mode) for row in rows] == [("gpu", "eager"), ("ref", "eager")]


def test_a_replay_works_on_what_is_there_now():
    x = torch.zeros(3, device="cuda")
    replay = captured(lambda: x.add_(1))
    before = x.clone()
    replay()
    assert torch.equal(x, before + 1)

"""Timing on a GPU: rows of eager calls and graphs, and the clock itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vultus.bench.raster_gpu import (
    bench_gaussians_on_gpu,
    bench_surfels_on_gpu,
    load_gpu_prototype,
    time_on_gpu,
)


def test_a_gpu_prototype_may_import_its_neighbours(tmp_path: Path):
    (tmp_path / "neighbour_of_the_gpu_prototype.py").write_text("answer = 42\n")
    path = tmp_path / "gpu_prototype_for_the_bench_test.py"
    path.write_text(
        "from neighbour_of_the_gpu_prototype import answer\n"
        "class Raster2D: pass\n"
        "def pack_cam(view, intrinsics): return answer\n"
        "def planar(scene): return scene\n"
    )
    assert load_gpu_prototype(path).pack_cam(None, None) == 42
    path.write_text("class Raster2D: pass\n")
    with pytest.raises(ValueError, match="must define Raster2D and pack_cam and planar"):
        load_gpu_prototype(path)


@pytest.mark.gpu
def test_the_clock_runs_while_the_gpu_works():
    x = torch.randn(4096, 4096, device="cuda")
    times = time_on_gpu({"one": lambda: x @ x, "four": lambda: [x @ x for _ in range(4)]}, 10)
    assert 2 < times["four"].median / times["one"].median < 8


@pytest.mark.gpu
@pytest.mark.parametrize("bench", [bench_gaussians_on_gpu, bench_surfels_on_gpu])
def test_every_implementation_has_an_eager_and_a_graph_row(bench):
    results = bench(200, 64, 3, batch=2, num_features=4)
    assert [result.implementation for result in results] == [
        "gpu, eager", "gpu, all outputs, eager", "gpu, graph", "gpu, all outputs, graph",
    ]  # fmt: skip
    assert all(0 < result.forward.minimum <= result.timing.median for result in results)

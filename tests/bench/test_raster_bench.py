"""Every implementation of a rasterizer gets a row, and all rows render the same."""

from __future__ import annotations

import pytest
import torch

from vultus.bench.raster import (
    ALL_OUTPUTS,
    bench_on_cpu,
    bench_reference,
    kernel_calls,
    make_calls,
)
from vultus.bench.results import BOTH, FORWARD
from vultus.bench.scenes import Primitive, RasterScene


@pytest.mark.parametrize("primitive", ["gaussians", "surfels"])
def test_every_implementation_gets_a_row_per_number_of_threads(primitive: Primitive):
    before = torch.get_num_threads()
    rows = bench_on_cpu(RasterScene(primitive, 20, 8, channels=4), 1, threads=(1, 2))
    assert torch.get_num_threads() == before
    assert [(row.implementation, row.mode) for row in rows] == [
        ("cpu", "1 thread"), ("cpu, all outputs", "1 thread"),
        ("cpu", "2 threads"), ("cpu, all outputs", "2 threads"),
    ]  # fmt: skip
    assert all(0 < row.seconds[FORWARD].minimum for row in rows)
    assert all(0 < row.seconds[BOTH].minimum for row in rows)
    assert rows[0].facts == {
        "primitive": primitive, "num": 20, "size": 8, "channels": 4, "batch": 1,
    }  # fmt: skip


def test_rows_with_all_outputs_can_be_left_out():
    rows = bench_on_cpu(RasterScene("gaussians", 20, 8), 1, threads=(1,), all_outputs=False)
    assert [row.implementation for row in rows] == ["cpu"]


def test_functions_run_with_the_threads_that_their_row_names():
    rows = bench_reference(RasterScene("gaussians", 20, 8), 1)
    name = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    assert [(row.implementation, row.mode) for row in rows] == [("cpu", name), ("ref", name)]


@pytest.mark.parametrize("primitive", ["gaussians", "surfels"])
def test_calls_render_all_maps_and_reach_every_parameter(primitive: Primitive):
    scene = RasterScene(primitive, 40, 8, channels=5, batch=2)
    inputs = scene.build()
    forward, _ = kernel_calls(scene, inputs, ALL_OUTPUTS[primitive])
    maps = forward()
    assert isinstance(maps, list)
    shapes = [tuple(map_.shape[:2]) for map_ in maps]
    assert shapes[:2] == [(2, 5), (2, 1)]
    assert len(maps) == 2 + len(ALL_OUTPUTS[primitive])


def test_both_passes_start_from_empty_gradients():
    leaf = torch.ones(3, requires_grad=True)
    _, both = make_calls(lambda: [2 * leaf], [leaf])
    both()
    first = leaf.grad
    both()
    assert first is not None
    assert leaf.grad is not None
    assert torch.equal(first, leaf.grad)

"""What is timed as a training step does train, and every part has its rows."""

from __future__ import annotations

import pytest
import torch

from vultus.bench.scenes import RasterScene
from vultus.bench.training import SHAPES, bench_adam, bench_ssim
from vultus.bench.training_step import FreeGaussians, bench_training_step


@pytest.mark.parametrize("has_activations", [False, True])
def test_the_step_trains_all_59_floats(has_activations: bool):
    inputs = RasterScene("gaussians", 300, 32).build()
    trained = FreeGaussians(inputs, rate=2e-3, has_activations=has_activations)
    assert sum(value[0, 0].numel() for value in trained.parameters.values()) == 59
    before = {name: value.detach().clone() for name, value in trained.parameters.items()}
    losses = []
    for _ in range(20):
        difference, similarity = trained.step()
        losses.append(float(0.8 * difference - 0.2 * similarity))
    assert losses[-1] < losses[0] - 0.01
    assert all(not torch.equal(value, before[name]) for name, value in trained.parameters.items())


def test_the_timed_step_leaves_the_scene_as_it_is():
    inputs = RasterScene("gaussians", 100, 16).build()
    trained = FreeGaussians(inputs)
    first = trained.step()
    for _ in range(20):
        last = trained.step()
    torch.testing.assert_close(last, first, atol=1e-5, rtol=0)


def test_activated_and_stored_values_give_the_same_loss():
    inputs = RasterScene("gaussians", 100, 16).build()
    losses = [FreeGaussians(inputs, has_activations=flag).step() for flag in (False, True)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=0)


def test_every_part_of_a_step_has_rows():
    rows = bench_training_step(50, 16, 1)
    assert [row.implementation for row in rows] == ["cpu", "cpu, activations"]
    rows = bench_ssim(2, 9, 1)
    assert [row.implementation for row in rows] == ["cpu", "ref", "cpu, SSIM alone"]
    (row,) = bench_adam(20, 1)
    assert row.implementation == "torch"
    assert row.total.minimum > 0


def test_adam_is_timed_on_59_floats():
    assert sum(torch.zeros(shape).numel() for shape in SHAPES.values()) == 59


@pytest.mark.gpu
def test_a_captured_step_has_a_row_and_memory():
    rows = bench_training_step(200, 64, 3, device="cuda")
    assert [(row.implementation, row.mode) for row in rows] == [
        ("gpu", "eager"), ("gpu, activations", "eager"),
        ("gpu", "graph"), ("gpu, activations", "graph"),
    ]  # fmt: skip
    assert all(row.peak_bytes is not None and row.peak_bytes > 200 * 59 * 16 for row in rows)
    assert {row.mode for row in bench_ssim(1, 64, 3, device="cuda")} == {"eager", "graph"}

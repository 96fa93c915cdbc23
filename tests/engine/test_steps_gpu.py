"""Training on a GPU: captured against launched steps, streamed against resident images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_captures import film_procedural_head, tiny_surfhead
from training_checks import assert_equal_tensors
from vultus.core.run_folder import RunFolder
from vultus.data.frame_feed import ResidentFeed
from vultus.data.frame_store import Batch, FrameStore
from vultus.data.sequence import HeadSequence
from vultus.engine.fit import fit
from vultus.engine.steps import CapturedSteps, make_steps
from vultus.kernels import capacity
from vultus.methods.surfhead.model import SurfHead
from vultus.methods.surfhead.specular import SpecularConfig
from waits import refusing_to_wait

pytestmark = pytest.mark.gpu

RIGS = ("similarity", "jacobian", "jbs")


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def frames(sequence: HeadSequence) -> FrameStore:
    return FrameStore(sequence, "train")


def train(
    sequence: HeadSequence, frames: FrameStore, path: Path, rig: str = "jbs", **options: Any
) -> dict[str, torch.Tensor]:
    """Twenty steps with growing and pruning; weights at the end."""
    config = tiny_surfhead(rig)
    config = replace(
        config, optim=replace(config.optim, finetune_rig=options.pop("finetune", True))
    )
    avatar = SurfHead(config, sequence, 0, "cuda")
    fit(avatar, frames, config, RunFolder.create(path, config, seed=0), 0, **options)
    return {name: tensor.cpu() for name, tensor in avatar.tensors().items()}


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("finetune", [True, False])
@pytest.mark.parametrize("rig", RIGS)
def test_captured_steps_give_the_bits_of_launched_ones(sequence, frames, tmp_path, rig, finetune):
    results = [
        train(sequence, frames, tmp_path / str(graph), rig, finetune=finetune, graph=graph)
        for graph in (True, False)
    ]
    assert_equal_tensors(*results)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("lobes", ["asg", "lasg"])
def test_captured_steps_with_specular_eyes_give_the_bits_of_launched_ones(tmp_path, lobes):
    capture = film_procedural_head(tmp_path / "capture")
    config = tiny_surfhead("jbs", steps=10)
    config = replace(config, specular=SpecularConfig(lobes=lobes, start_step=3))
    model = replace(config.model, rotate_sh_directions=lobes == "asg")
    config, results = replace(config, model=model), []
    for graph in (True, False):
        avatar = SurfHead(config, capture, 0, "cuda")
        path = tmp_path / str(graph)
        run = RunFolder.create(path, config, seed=0)
        fit(avatar, FrameStore(capture, "train"), config, run, 0, graph=graph)
        results.append({name: tensor.cpu() for name, tensor in avatar.tensors().items()})
    assert_equal_tensors(*results)


@pytest.mark.usefixtures("deterministic")
def test_streamed_images_give_the_bits_of_resident_ones(sequence, frames, tmp_path):
    results = [
        train(sequence, frames, tmp_path / f"{images}{graph}", images=images, graph=graph)
        for images, graph in (("resident", True), ("streamed", True), ("streamed", False))
    ]
    assert_equal_tensors(results[1], results[0])
    assert_equal_tensors(results[2], results[0])


def test_a_capture_bears_threads_that_wait_for_streams_of_their_own(sequence, frames):
    """As that of streamed images does at any moment."""
    stream = torch.cuda.Stream()

    class WaitingFeed(ResidentFeed):
        def batch(self) -> Batch:
            thread.submit(stream.synchronize).result()
            return super().batch()

    avatar = SurfHead(replace(tiny_surfhead("jbs"), steps=100), sequence, 0, "cuda")
    with ThreadPoolExecutor(1) as thread:
        steps = CapturedSteps(avatar, WaitingFeed(frames, [0]))
        with steps.context():
            # Phases change until step 12; the second step of a phase is captured.
            for step in (20, 21, 22):
                steps.run(step)
            assert steps.settle() == 22


@pytest.mark.usefixtures("deterministic")
def test_a_run_that_was_stopped_goes_on_bit_by_bit(sequence, frames, tmp_path):
    whole = train(sequence, frames, tmp_path / "whole")
    config = tiny_surfhead("jbs")
    run = RunFolder.create(tmp_path / "parts", config, seed=0)
    fit(SurfHead(config, sequence, 0, "cuda"), frames, replace(config, steps=11), run, 0)
    avatar = SurfHead(config, sequence, 0, "cuda")
    assert fit(avatar, frames, config, run, 0).first_step == 11
    assert_equal_tensors({name: tensor.cpu() for name, tensor in avatar.tensors().items()}, whole)


def test_captured_steps_stay_close_to_launched_ones_without_determinism(sequence, frames, tmp_path):
    """The stated tolerance: sums of floats in another order, amplified by ten steps of Adam."""
    results = []
    for graph in (True, False):
        config = replace(tiny_surfhead("jbs"), steps=10)
        config = replace(config, densify=replace(config.densify, start_step=0, stop_step=0))
        avatar = SurfHead(config, sequence, 0, "cuda")
        path = tmp_path / str(graph)
        fit(avatar, frames, config, RunFolder.create(path, config, seed=0), 0, graph=graph)
        results.append(avatar.tensors())
    for name in ("local_means", "sh_dc", "opacity_logits", "log_scales"):
        difference = (results[0][name] - results[1][name]).abs().mean()
        assert difference < 1e-4, name


def settle_all(steps: Any, last: int, first: int = 0) -> list[int]:
    """Run up to a step as ``fit`` does, looking after buffers every fourth step."""
    settled, step = [], first
    while step < last:
        step += 1
        steps.run(step)
        if step % 4 == 0 or step == last:
            step = steps.settle()
            settled.append(step)
    return settled


@pytest.mark.usefixtures("deterministic")
def test_lists_that_outgrow_their_buffers_in_a_graph_cost_steps_but_change_nothing(
    sequence, frames, monkeypatch
):
    """Surfels grow tenfold behind the graph's back; with room enough nothing is repeated."""
    results = {}
    for room, headroom in ((1, 1.0), (4096, 30.0)):
        monkeypatch.setattr(capacity, "_shared", {})
        monkeypatch.setattr(capacity, "_INITIAL", room)
        monkeypatch.setattr(capacity, "_HEADROOM", headroom)
        config = tiny_surfhead("jbs")
        config = replace(config, model=replace(config.model, sh_degree=0))
        config = replace(config, losses=replace(config.losses, distortion_from=0))
        avatar = SurfHead(config, sequence, 0, "cuda")
        steps = make_steps(avatar, frames, list(range(len(frames))))
        assert isinstance(steps, CapturedSteps)
        with steps.context():
            settled = settle_all(steps, 4)
            with torch.no_grad():
                avatar.surfels["log_scales"].add_(2.3)
            settled += settle_all(steps, 12, first=4)
        results[room] = settled, {n: t.cpu() for n, t in avatar.tensors().items()}
    assert results[4096][0] == [4, 8, 12]
    assert len(results[1][0]) > 3, "no list ever outgrew its buffer"
    assert_equal_tensors(results[1][1], results[4096][1])


def test_a_captured_step_does_not_wait_for_the_gpu(sequence, frames):
    config = replace(tiny_surfhead("jbs"), steps=100)
    avatar = SurfHead(config, sequence, 0, "cuda")
    steps = make_steps(avatar, frames, list(range(len(frames))))
    with steps.context():
        # Phases change until step 12, and each begins with a step that may wait.
        for step in range(20, 23):
            steps.run(step)
        with refusing_to_wait(torch.device("cuda")):
            for step in range(23, 30):
                steps.run(step)
        assert steps.settle() == 29


def test_images_that_do_not_fit_are_refused_or_streamed(sequence, frames, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 1000))
    avatar = SurfHead(tiny_surfhead("jbs"), sequence, 0, "cuda")
    with pytest.raises(ValueError, match=r"half of the free GPU memory.*use streamed"):
        make_steps(avatar, frames, [0], images="resident")
    make_steps(avatar, frames, [0], images="auto")

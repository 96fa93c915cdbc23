"""What is asked of the trainings of generators, whatever the method."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vultus.core.run_folder import RunFolder
from vultus.data.image_feed import ImageFeed
from vultus.engine.adversarial import train_adversarial
from vultus.engine.adversarial_checkpoint import restore_average
from vultus.engine.generator_metrics import random_feature_distances
from vultus.methods.adversarial import AdversarialConfig, AdversarialMethod

__all__ = [
    "as_older_versions_wrote_it",
    "assert_captured_passes_equal_launched_ones",
    "assert_goes_on_and_is_read_on_the_cpu",
]

MakeMethod = Callable[[ImageFeed], AdversarialMethod]
"""Networks with their first weights, on the device of the images."""


def as_older_versions_wrote_it(folder: Path) -> set[str]:
    """Take what older versions did not write from a run's last checkpoint.

    These are the counts of steps of weights that never had a gradient; returns their names.
    """
    run = RunFolder(folder)
    checkpoint = run.load_checkpoint()
    names = {path.rpartition("/")[0] for path in checkpoint.optimizer}
    trained = {name for name in names if f"{name}/exp_avg" in checkpoint.optimizer}
    kept = {k: v for k, v in checkpoint.optimizer.items() if k.rpartition("/")[0] in trained}
    run.save_checkpoint(replace(checkpoint, optimizer=kept))
    return names - trained


def assert_captured_passes_equal_launched_ones(
    make: MakeMethod,
    feed: ImageFeed,
    config: AdversarialConfig,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU, a training of replayed graphs logs the losses of one that is launched op by op.

    Args:
        make: Makes the method.
        feed: Images, on any device.
        config: Settings of the method; a batch has 4 images, and fades end before the training.
        path: Folder for both runs.
        monkeypatch: Counts replays.
    """
    replay, replayed = torch.cuda.CUDAGraph.replay, []
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: replayed.append(graph) or replay(graph)
    )
    moved = ImageFeed(feed.images, feed.entries, 0, device="cuda")
    settings = replace(config.training, images=60, schedule_every=3)
    logs = []
    for graph in (False, True):
        run = RunFolder.create(path / str(graph), config, seed=0)
        train_adversarial(make(moved), moved, settings, run, 0, graph=graph)
        logs.append(run.read_metrics())
        assert bool(replayed) == graph
    for launched, captured in zip(*logs, strict=True):
        for name, value in launched.items():
            if name.startswith(("loss.", "logit.")):
                assert captured[name] == pytest.approx(value, rel=0.05, abs=0.02), name


def assert_goes_on_and_is_read_on_the_cpu(
    make: MakeMethod, feed: ImageFeed, config: AdversarialConfig, path: Path, device: str
) -> None:
    """A training on a device continues where it stopped, and its average is loaded on the CPU.

    Args:
        make: Makes the method.
        feed: Images, on any device.
        config: Settings of the method; a batch has 4 images, and every step is logged.
        path: Folder for the run.
        device: What trains.
    """
    moved = ImageFeed(feed.images, feed.entries, 0, device=device)
    run = RunFolder.create(path / "run", config, seed=0)
    for images in (4, 12):
        method = make(moved)
        settings = replace(config.training, images=images)
        measure = random_feature_distances(method, moved, 4, 0)
        train_adversarial(method, moved, settings, run, 0, evaluate=measure)
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == [1, 1, 2, 3, 3]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    on_cpu = ImageFeed(feed.images, feed.entries, 1)
    loaded = make(on_cpu).average
    assert restore_average(run, loaded) == 3
    trained = method.average.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, trained[name].cpu()), name

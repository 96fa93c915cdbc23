"""Blendshapes on a GPU: captured steps against launched ones, pictures against the CPU's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tiny_blendshapes import tiny_blendshapes
from tiny_captures import film_procedural_head
from training_checks import assert_equal_tensors, trained
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import DensifyConfig
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes

pytestmark = pytest.mark.gpu

STILL = DensifyConfig(start_step=0, stop_step=0)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_procedural_head(tmp_path_factory.mktemp("blendshapes") / "capture")


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
def test_deterministic_steps_give_the_same_bits_launched_or_captured(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    """Growth included: opacity has a picture of its own until it ends."""
    config = tiny_blendshapes(steps=20)
    ways = [
        trained(
            RelightableBlendshapes,
            sequence,
            config,
            tmp_path / str(i),
            device="cuda",
            graph=graph,
        ).tensors()
        for i, graph in enumerate((True, True, False))
    ]
    for other in ways[1:]:
        assert_equal_tensors(ways[0], other)


def test_all_ways_to_train_end_at_the_same_picture(sequence: HeadSequence, tmp_path: Path) -> None:
    config = tiny_blendshapes(steps=12, densify=STILL)
    ways = [("cuda", True), ("cuda", False), ("cpu", False)]
    avatars = [
        trained(
            RelightableBlendshapes,
            sequence,
            config,
            tmp_path / str(i),
            device=device,
            graph=graph,
        )
        for i, (device, graph) in enumerate(ways)
    ]
    record = sequence.split("val")[0]
    pictures = [a.render(a.track[record.timestep], record.camera).image for a in avatars]
    start = RelightableBlendshapes(config, sequence, 0)
    moved = (start.render(start.track[record.timestep], record.camera).image - pictures[2]).abs()
    for picture in pictures[:2]:
        assert (picture - pictures[2]).abs().mean() < 0.02 * moved.mean()


def test_a_rendering_is_that_of_the_cpu(sequence: HeadSequence) -> None:
    avatars = [
        RelightableBlendshapes(tiny_blendshapes(), sequence, 0, device)
        for device in ("cuda", "cpu")
    ]
    record = sequence.split("val")[0]
    left, right = (a.render(a.track[record.timestep], record.camera) for a in avatars)
    torch.testing.assert_close(left.image, right.image, atol=2e-3, rtol=0)
    torch.testing.assert_close(left.alpha, right.alpha, atol=2e-3, rtol=0)

"""GaussianHead on a GPU: captured steps against launched ones, pictures against the CPU's.

The gradient of the planes is summed in any order there, unless torch is told to be deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_gaussianhead import MODES, tiny_gaussianhead
from training_checks import assert_equal_tensors, trained
from vultus.core.run_folder import RunFolder
from vultus.data.sequence import HeadSequence
from vultus.gaussians.densify import DensifyConfig
from vultus.methods.gaussianhead.config import GaussianHeadConfig
from vultus.methods.gaussianhead.derivation import DerivationMode
from vultus.methods.gaussianhead.model import GaussianHead

pytestmark = pytest.mark.gpu


def still(mode: DerivationMode) -> GaussianHeadConfig:
    """Twelve steps through the warm-up and all degrees of the colour, without edits."""
    return tiny_gaussianhead(mode, steps=12, densify=DensifyConfig(start_step=0, stop_step=0))


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("mode", MODES)
def test_deterministic_steps_give_the_same_bits_launched_or_captured(
    sequence: HeadSequence, mode: DerivationMode, tmp_path: Path
) -> None:
    ways = [
        trained(
            GaussianHead, sequence, still(mode), tmp_path / str(i), device="cuda", graph=graph
        ).tensors()
        for i, graph in enumerate((True, True, False))
    ]
    for other in ways[1:]:
        assert_equal_tensors(ways[0], other)


@pytest.mark.parametrize("mode", MODES)
def test_all_ways_to_train_end_at_the_same_picture(
    sequence: HeadSequence, mode: DerivationMode, tmp_path: Path
) -> None:
    ways = [("cuda", True), ("cuda", False), ("cpu", False)]
    avatars = [
        trained(GaussianHead, sequence, still(mode), tmp_path / str(i), device=device, graph=graph)
        for i, (device, graph) in enumerate(ways)
    ]
    record = sequence.split("val")[0]
    pictures = [a.render(a.track[record.timestep], record.camera).image for a in avatars]
    start = GaussianHead(avatars[0].config, sequence, 0)
    moved = (start.render(start.track[record.timestep], record.camera).image - pictures[2]).abs()
    for picture in pictures[:2]:
        assert (picture - pictures[2]).abs().mean() < 0.02 * moved.mean()


def test_growth_resets_and_captured_steps_go_together(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_gaussianhead(steps=30)
    # A few steps after a reset to 0.01 most opacities are still between these.
    config = replace(config, densify=replace(config.densify, prune_opacity=0.001))
    avatar = trained(GaussianHead, sequence, config, tmp_path, device="cuda")
    assert len({line["gaussians"] for line in RunFolder(tmp_path).read_metrics()}) > 1
    lengths = avatar.gaussians["derivation"].detach().norm(dim=-1)
    assert (lengths - 1).abs().max() < 1e-5
    assert all(value.isfinite().all() for value in avatar.tensors().values())


def test_a_rendering_is_that_of_the_cpu(sequence: HeadSequence) -> None:
    avatars = [GaussianHead(tiny_gaussianhead(), sequence, 0, device) for device in ("cuda", "cpu")]
    record = sequence.split("val")[0]
    left, right = (a.render(a.track[record.timestep], record.camera) for a in avatars)
    torch.testing.assert_close(left.image, right.image, atol=2e-3, rtol=0)
    torch.testing.assert_close(left.alpha, right.alpha, atol=2e-3, rtol=0)

"""Every rig learns: the picture improves, nothing is left out, seeds decide, state comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny_captures import film_procedural_head, tiny_surfhead
from vultus.core.run_folder import RunFolder
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.engine.checkpoint import restore_weights, take_checkpoint
from vultus.engine.fit import fit
from vultus.gaussians.densify import DensifyConfig
from vultus.methods.surfhead.config import SurfHeadConfig
from vultus.methods.surfhead.model import SurfHead

RIGS = ("similarity", "jacobian", "jbs")


@pytest.fixture(scope="module")
def procedural(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    """The built-in head, which has eyeballs, teeth and a jaw."""
    return film_procedural_head(tmp_path_factory.mktemp("procedural") / "capture")


def run_of(config: SurfHeadConfig, path: Path) -> RunFolder:
    return RunFolder.create(path, config, seed=0)


def trained(sequence: HeadSequence, config: SurfHeadConfig, path: Path, seed: int = 0) -> SurfHead:
    avatar = SurfHead(config, sequence, seed)
    fit(avatar, FrameStore(sequence, "train"), config, run_of(config, path), seed)
    return avatar


def picture_error(avatar: SurfHead, frames: FrameStore) -> float:
    batch = frames.batch(range(len(frames)))
    output = avatar.render(avatar.track[batch.timesteps], batch.camera)
    return float((output.image - batch.rgb).abs().mean())


def assert_equal_tensors(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.mark.parametrize("rig", RIGS)
def test_twenty_steps_bring_the_pictures_closer(
    sequence: HeadSequence, rig: str, tmp_path: Path
) -> None:
    # Without growth, whose resets of the opacity make a short training worse for a while.
    config = tiny_surfhead(rig, densify=DensifyConfig(start_step=0, stop_step=0))
    frames = FrameStore(sequence, "train")
    before = picture_error(SurfHead(config, sequence, 0), frames)
    after = picture_error(trained(sequence, config, tmp_path), frames)
    assert after < 0.7 * before


@pytest.mark.parametrize("rig", RIGS)
def test_gradients_reach_every_trained_parameter(
    sequence: HeadSequence, rig: str, procedural: HeadSequence
) -> None:
    for capture in (sequence, procedural):
        avatar = SurfHead(tiny_surfhead(rig), capture, 0)
        batch = FrameStore(capture, "train").batch([0])
        _, terms = avatar.training_step(batch, step=10)
        torch.stack(list(terms.values())).sum().backward()
        names = {group["name"] for group in avatar.optimizer.param_groups}
        assert {"local_means", "log_scales", "quats", "opacity_logits", "sh_dc", "sh_rest"} < names
        assert ("blend_weight_logits" in names) == (rig == "jbs")
        assert {"rig.expression_coeffs", "rig.global_rotation", "rig.translation"} < names
        for group in avatar.optimizer.param_groups:
            (parameter,) = group["params"]
            assert parameter.grad is not None, group["name"]
            assert parameter.grad.isfinite().all(), group["name"]
            assert float(parameter.grad.abs().max()) > 0, group["name"]


@pytest.mark.parametrize("rig", RIGS)
def test_a_checkpoint_renders_exactly_the_same_picture(
    sequence: HeadSequence, rig: str, tmp_path: Path
) -> None:
    config = tiny_surfhead(rig, steps=6)
    avatar = trained(sequence, config, tmp_path)
    again = SurfHead(config, sequence, seed=99)
    assert restore_weights(RunFolder.open(tmp_path), again) == 6
    record = sequence.split("val")[0]
    for timestep in (0, 4):
        left, right = (a.render(a.track[timestep], record.camera).image for a in (avatar, again))
        assert torch.equal(left, right)


def test_a_seed_decides_every_bit_and_another_seed_gives_another_avatar(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_surfhead(steps=9)
    first, again, other = (
        trained(sequence, config, tmp_path / str(i), seed) for i, seed in enumerate((3, 3, 4))
    )
    assert_equal_tensors(first.tensors(), again.tensors())
    assert not torch.equal(
        first.surfels["sh_dc"][:100].detach(), other.surfels["sh_dc"][:100].detach()
    )


def test_a_resumed_training_gives_every_bit_of_an_uninterrupted_one(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_surfhead(steps=14, evaluate_every=7)
    whole = trained(sequence, config, tmp_path / "whole")
    run, frames = run_of(config, tmp_path / "parts"), FrameStore(sequence, "train")

    def stop(step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(SurfHead(config, sequence, 0), frames, config, run, 0, evaluate=stop)
    assert run.checkpoint_steps() == [5]
    resumed = SurfHead(config, sequence, 0)
    assert fit(resumed, frames, config, run, 0).first_step == 5
    left, right = take_checkpoint(whole, 14), take_checkpoint(resumed, 14)
    assert_equal_tensors(left.weights, right.weights)
    assert_equal_tensors(left.optimizer, right.optimizer)
    log = run.read_metrics()
    assert log == RunFolder(tmp_path / "whole").read_metrics()
    assert [line["step"] for line in log] == list(range(1, 15))
    assert len({line["surfels"] for line in log}) > 1, "no surfel was added or removed"


def test_a_checkpoint_of_another_rig_is_refused(sequence: HeadSequence) -> None:
    tensors = SurfHead(tiny_surfhead("jacobian"), sequence, 0).tensors()
    with pytest.raises(ValueError, match="checkpoint lacks 'blend_weight_logits'"):
        SurfHead(tiny_surfhead("jbs"), sequence, 0).load_tensors(tensors)

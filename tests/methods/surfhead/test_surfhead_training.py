"""Every rig learns: the picture improves, nothing is left out, seeds decide, state comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_captures import film_procedural_head, tiny_surfhead
from training_checks import (
    assert_equal_tensors,
    assert_gradients_reach_everything,
    assert_reloads_exactly,
    assert_resumes_exactly,
    picture_error,
    trained,
)
from vultus.core.run_folder import RunFolder
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence
from vultus.engine.checkpoint import restore, restore_weights, take_checkpoint
from vultus.gaussians.densify import DensifyConfig
from vultus.methods.surfhead.model import SurfHead

RIGS = ("similarity", "jacobian", "jbs")


@pytest.fixture(scope="module")
def procedural(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    """The built-in head, which has eyeballs, teeth and a jaw."""
    return film_procedural_head(tmp_path_factory.mktemp("procedural") / "capture")


@pytest.mark.parametrize("rig", RIGS)
def test_twenty_steps_bring_the_pictures_closer(
    sequence: HeadSequence, rig: str, tmp_path: Path
) -> None:
    # Without growth, whose resets of the opacity make a short training worse for a while.
    config = tiny_surfhead(rig, densify=DensifyConfig(start_step=0, stop_step=0))
    before = picture_error(SurfHead(config, sequence, 0), sequence)
    after = picture_error(trained(SurfHead, sequence, config, tmp_path), sequence)
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
        assert_gradients_reach_everything(avatar.optimizer)


@pytest.mark.parametrize("rig", RIGS)
def test_a_checkpoint_renders_exactly_the_same_picture(
    sequence: HeadSequence, rig: str, tmp_path: Path
) -> None:
    config = tiny_surfhead(rig, steps=6)
    assert_reloads_exactly(SurfHead, sequence, config, tmp_path)


def test_a_seed_decides_every_bit_and_another_seed_gives_another_avatar(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_surfhead(steps=9)
    first, again, other = (
        trained(SurfHead, sequence, config, tmp_path / str(i), seed)
        for i, seed in enumerate((3, 3, 4))
    )
    assert_equal_tensors(first.tensors(), again.tensors())
    assert not torch.equal(
        first.surfels["sh_dc"][:100].detach(), other.surfels["sh_dc"][:100].detach()
    )


def test_a_resumed_training_gives_every_bit_of_an_uninterrupted_one(
    sequence: HeadSequence, tmp_path: Path
) -> None:
    config = tiny_surfhead(steps=14, evaluate_every=7)
    log = assert_resumes_exactly(SurfHead, sequence, config, tmp_path)
    assert [line["step"] for line in log] == list(range(1, 15))
    assert len({line["surfels"] for line in log}) > 1, "no surfel was added or removed"


def test_a_checkpoint_of_another_rig_is_refused(sequence: HeadSequence) -> None:
    tensors = SurfHead(tiny_surfhead("jacobian"), sequence, 0).tensors()
    with pytest.raises(ValueError, match="checkpoint lacks 'blend_weight_logits'"):
        SurfHead(tiny_surfhead("jbs"), sequence, 0).load_tensors(tensors)


def test_a_checkpoint_that_does_not_fit_is_named(sequence: HeadSequence, tmp_path: Path) -> None:
    config = tiny_surfhead(steps=3)
    run_path = tmp_path / "run"
    good = take_checkpoint(trained(SurfHead, sequence, config, run_path), 3)
    run, avatar = RunFolder.open(run_path), SurfHead(config, sequence, 0)
    faces, step = good.weights["face_index"], good.optimizer["sh_dc/step"]
    for weights, optimizer, message in (
        ({"face_index": faces + 10_000}, {}, "must bind surfels to 720 faces, got 10000 to 10719"),
        ({"face_index": faces[:-1]}, {}, r"must have 'face_index' of shape \(720,\)"),
        ({"rig.translation": torch.zeros(9, 3)}, {}, r"must have 'rig\.translation' of shape"),
        ({}, {"sh_dc/step": step.long()}, "must have step of 'sh_dc' of shape"),
        ({}, {"sh_dc/exp_avg": torch.zeros(3)}, "must have exp_avg of 'sh_dc' of shape"),
    ):
        run.save_checkpoint(
            replace(good, weights=good.weights | weights, optimizer=good.optimizer | optimizer)
        )
        with pytest.raises(ValueError, match=rf"step_3: (checkpoint|optimiser) {message}"):
            restore(run, avatar)
    run.save_checkpoint(replace(good, weights=good.weights | {"sh_dc": torch.zeros(3)}))
    with pytest.raises(ValueError, match=r"step_3: checkpoint must have 'sh_dc' of shape"):
        restore_weights(run, avatar)

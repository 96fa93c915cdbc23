"""The training loop: what it saves, logs and calls, and what it does when a loss diverges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from tiny_captures import tiny_surfhead
from vultus.core.run_folder import RunFolder
from vultus.data.frame_store import Batch, FrameStore
from vultus.data.sequence import HeadSequence
from vultus.engine.checkpoint import restore_weights
from vultus.engine.fit import fit
from vultus.kernels.capacity import CapacityExceededError
from vultus.methods.surfhead.model import SurfHead
from vultus.render.output import RenderOutput


@dataclass(frozen=True)
class Settings:
    steps: int = 10
    checkpoint_every: int = 3
    keep_checkpoints: int = 2
    evaluate_every: int = 0
    log_every: int = 4


class Watched(SurfHead):
    """Notes which pictures it sees; its loss is not a number at ``bad_step``."""

    def __init__(self, sequence: HeadSequence, seed: int = 0, bad_step: int | None = None) -> None:
        super().__init__(tiny_surfhead("similarity"), sequence, seed)
        self.seen: list[tuple[int, float]] = []
        self.bad_step = bad_step

    def training_step(
        self, batch: Batch, step: int
    ) -> tuple[RenderOutput, dict[str, torch.Tensor]]:
        turn = float(batch.camera.world_to_camera[0, 0, 2])
        self.seen.append((int(batch.timesteps[0]), round(turn, 4)))
        output, terms = super().training_step(batch, step)
        if step == self.bad_step:
            terms["ssim"] = terms["ssim"] * float("nan")
        return output, terms


@pytest.fixture(scope="module")
def frames(sequence: HeadSequence) -> FrameStore:
    return FrameStore(sequence, "train")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", Settings(), seed=0)


def test_checkpoints_logs_and_evaluations_come_when_due(
    sequence: HeadSequence, frames: FrameStore, run: RunFolder
) -> None:
    evaluated: list[int] = []
    settings = Settings(evaluate_every=5)
    result = fit(Watched(sequence), frames, settings, run, 0, evaluated.append)
    assert (result.first_step, result.last_step) == (0, 10)
    # Every third step and the last one were saved; the last two are kept.
    assert run.checkpoint_steps() == [9, 10]
    lines = run.read_metrics()
    assert [line["step"] for line in lines] == [4, 8, 10]
    for line in lines:
        terms = set(line) - {"step", "loss", "surfels"}
        assert {"l1", "ssim"} < terms
        assert line["loss"] == pytest.approx(sum(line[name] for name in terms), rel=1e-5)
    # The last step is measured by the caller, with everything else that ends a training.
    assert evaluated == [5]


def test_an_epoch_shows_every_picture_once_in_an_order_of_the_seed(
    sequence: HeadSequence, frames: FrameStore, tmp_path: Path
) -> None:
    orders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        avatar = Watched(sequence, seed)
        run = RunFolder.create(tmp_path / name, Settings(), seed=seed)
        fit(avatar, frames, Settings(steps=16), run, seed)
        assert len(set(avatar.seen[:8])) == 8
        assert avatar.seen[8:] == avatar.seen[:8]
        orders.append(avatar.seen)
    assert orders[0] == orders[1] != orders[2]


def test_a_finished_run_is_not_trained_again(
    sequence: HeadSequence, frames: FrameStore, run: RunFolder
) -> None:
    fit(Watched(sequence), frames, Settings(), run, 0)
    before = {path: path.stat().st_mtime_ns for path in run.checkpoints_path.rglob("*")}
    avatar = Watched(sequence)
    assert fit(avatar, frames, Settings(), run, 0).first_step == 10
    assert avatar.seen == []
    assert {path: path.stat().st_mtime_ns for path in run.checkpoints_path.rglob("*")} == before


@pytest.mark.parametrize("bad_step", [6, 8])
def test_a_loss_that_diverges_stops_the_training_before_a_checkpoint(
    sequence: HeadSequence, frames: FrameStore, run: RunFolder, bad_step: int
) -> None:
    # Step 6 saves without logging, step 8 logs without saving.
    with pytest.raises(
        FloatingPointError, match=f"loss term ssim is not finite at step {bad_step}"
    ):
        fit(Watched(sequence, bad_step=bad_step), frames, Settings(), run, 0)
    assert run.checkpoint_steps()[-1] < bad_step
    avatar = Watched(sequence)
    restore_weights(run, avatar)
    assert all(tensor.isfinite().all() for tensor in avatar.surfels.values())


def test_a_checkpoint_of_a_given_step_can_be_asked_for(
    sequence: HeadSequence, frames: FrameStore, run: RunFolder
) -> None:
    fit(Watched(sequence), frames, Settings(), run, 0)
    assert restore_weights(run, Watched(sequence), step=9) == 9
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 4; complete steps: 9, 10"):
        restore_weights(run, Watched(sequence), step=4)


def test_a_checkpoint_that_lost_moments_is_refused(
    sequence: HeadSequence, frames: FrameStore, run: RunFolder
) -> None:
    fit(Watched(sequence), frames, Settings(steps=4), run, 0)
    saved = run.load_checkpoint()
    kept = {key: value for key, value in saved.optimizer.items() if "log_scales" not in key}
    assert len(kept) == len(saved.optimizer) - 3
    folder = run.save_checkpoint(replace(saved, optimizer=kept))
    with pytest.raises(ValueError, match=rf"^{folder}: optimiser must have .* of 'log_scales'"):
        fit(Watched(sequence), frames, Settings(), run, 0)


class Frozen(Watched):
    """Its colours have no gradient, as before a term starts."""

    def training_step(
        self, batch: Batch, step: int
    ) -> tuple[RenderOutput, dict[str, torch.Tensor]]:
        self.surfels["sh_dc"].requires_grad_(False)
        return super().training_step(batch, step)


def test_a_run_of_an_older_version_goes_on_with_the_same_bits(
    sequence: HeadSequence, frames: FrameStore, tmp_path: Path
) -> None:
    ends = []
    for is_older in (False, True):
        run = RunFolder.create(tmp_path / str(is_older), Settings(), seed=0)
        fit(Frozen(sequence), frames, Settings(steps=3), run, 0)
        saved = run.load_checkpoint()
        assert [key for key in saved.optimizer if key.startswith("sh_dc/")] == ["sh_dc/step"]
        if is_older:
            kept = {key: v for key, v in saved.optimizer.items() if key != "sh_dc/step"}
            run.save_checkpoint(replace(saved, optimizer=kept))
        avatar = Watched(sequence)
        fit(avatar, frames, Settings(), run, 0)
        ends.append(avatar.tensors())
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


class _Overflow(torch.autograd.Function):
    """Passes a loss on and reports in the backward pass that a buffer was too small."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise CapacityExceededError("lists did not fit")


class Overflowing(Watched):
    """Overflows at the first call of every third step, after gradients of another term."""

    def training_step(
        self, batch: Batch, step: int
    ) -> tuple[RenderOutput, dict[str, torch.Tensor]]:
        is_first = len(self.seen) == 0 or self.last != step
        self.last = step
        output, terms = super().training_step(batch, step)
        if step % 3 == 0 and is_first:
            terms["l1"] = _Overflow.apply(terms["l1"])
        return output, terms


def test_a_step_whose_buffers_were_too_small_is_repeated_without_a_trace(
    sequence: HeadSequence, frames: FrameStore, tmp_path: Path
) -> None:
    plain, disturbed = Watched(sequence), Overflowing(sequence)
    for avatar, name in ((plain, "plain"), (disturbed, "disturbed")):
        fit(avatar, frames, Settings(), RunFolder.create(tmp_path / name, Settings(), seed=0), 0)
    assert len(disturbed.seen) == len(plain.seen) + 3
    for name, tensor in plain.tensors().items():
        assert torch.equal(tensor, disturbed.tensors()[name]), name

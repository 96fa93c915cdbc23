"""Passes of adversarial training: gradients add up, and lists that do not fit change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tiny_adversarial import SETTINGS, ToyGan, toy_feed
from vultus.core.run_folder import RunFolder
from vultus.data.image_feed import ImageFeed
from vultus.engine.adversarial import train_adversarial
from vultus.engine.adversarial_passes import LaunchedPasses, make_passes
from vultus.kernels.capacity import CapacityExceededError
from vultus.methods.adversarial import Pass, Phase, PhaseResult

GENERATOR = Phase("generator", "generator")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> ImageFeed:
    return toy_feed(tmp_path_factory.mktemp("passes") / "images")


def work(feed: ImageFeed, seed: int) -> Pass:
    real = next(feed.batches([(0, 4)]))
    random, shared = (torch.Generator().manual_seed(seed + k) for k in range(2))
    return Pass(real, 0, feed.conditions_at(0, 4), 0, random, shared)


def gradients(toy: ToyGan) -> list[Tensor]:
    return [p.grad.clone() for p in toy.generator.parameters() if p.grad is not None]


def test_gradients_of_passes_add_up_with_their_weights(feed: ImageFeed) -> None:
    toy = ToyGan()
    passes = make_passes(toy, graph=True)
    assert isinstance(passes, LaunchedPasses)
    expected = []
    for seed in (0, 5):
        result = toy.losses(GENERATOR, work(feed, seed))
        loss = result.losses["adversarial"]
        expected.append(torch.autograd.grad(0.5 * loss, list(toy.generator.parameters())))
        run = passes.run(GENERATOR, work(feed, seed), 0.5)
        assert torch.equal(run.losses["adversarial"], loss.detach())
        assert not run.losses["adversarial"].requires_grad
    for found, *parts in zip(gradients(toy), *expected, strict=True):
        torch.testing.assert_close(found, sum(parts))
    assert all(p.grad is None for p in toy.discriminator.parameters())


def test_a_pass_whose_lists_do_not_fit_is_run_again_with_the_same_numbers(feed: ImageFeed) -> None:
    class Growing(ToyGan):
        tries = 0

        def losses(self, phase: Phase, work: Pass) -> PhaseResult:
            result = super().losses(phase, work)
            self.tries += 1
            if self.tries == 1:
                raise CapacityExceededError("too small")
            return result

    toys = ToyGan(), Growing()
    results = [LaunchedPasses(toy).run(GENERATOR, work(feed, 3), 1.0) for toy in toys]
    assert toys[1].tries == 2
    assert torch.equal(*(result.losses["adversarial"] for result in results))
    for mine, other in zip(*map(gradients, toys), strict=True):
        assert torch.equal(mine, other)


def test_fades_stand_still_for_so_many_steps() -> None:
    assert [SETTINGS.moment(step) for step in (1, 2, 3)] == [0, 1, 2]
    stairs = replace(SETTINGS, schedule_every=4)
    assert [stairs.moment(step) for step in (1, 4, 5, 8, 9)] == [0, 0, 4, 4, 8]
    with pytest.raises(ValueError, match="schedule_every must be at least 1, got 0"):
        replace(SETTINGS, schedule_every=0)


def test_a_shorter_training_lets_fades_stand_still_for_less() -> None:
    stairs = replace(SETTINGS, images=9600, schedule_every=100)
    assert stairs.scaled(0.1) == replace(SETTINGS, images=960, schedule_every=10)
    assert stairs.scaled(1e-3) == replace(SETTINGS, images=10, schedule_every=1)


def test_the_loop_tells_methods_where_fades_stand(feed: ImageFeed, tmp_path: Path) -> None:
    toy, settings = ToyGan(), replace(SETTINGS, schedule_every=5)
    run = RunFolder.create(tmp_path / "run", settings, seed=0)
    train_adversarial(toy, feed, settings, run, 0)
    assert sorted({seen for _, seen in toy.seen}) == [0, 40, 80]

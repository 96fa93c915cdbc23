"""The adversarial loop: phases, exact resuming, several processes, what is written when."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from generator_checks import as_older_versions_wrote_it
from tiny_adversarial import SETTINGS, ToyConfig, ToyGan, toy_feed, train_toy
from vultus.core.run_folder import RunFolder
from vultus.engine.adversarial import tile_pictures, train_adversarial
from vultus.engine.adversarial_checkpoint import restore_average
from vultus.engine.network_trainer import NetworkTrainer, lazy_adam
from vultus.engine.training_means import Meter
from vultus.engine.world import World, join_world
from vultus.methods.adversarial import AdversarialSettings, Pass, Phase, PhaseResult
from vultus.optim.averaging import average_decay, update_average

TESTS = Path(__file__).parents[1]
# Of a run's log, what depends on the clock.
CLOCK = "images_per_second"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adversarial") / "images"
    toy_feed(folder)
    return folder


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("adversarial") / "whole"
    train_toy(images, run)
    return run


def saved(run: Path) -> dict[str, Tensor]:
    checkpoint = RunFolder(run).load_checkpoint()
    return {**checkpoint.weights, **{f"adam.{k}": v for k, v in checkpoint.optimizer.items()}}


def log(run: Path) -> list[dict]:
    rows = RunFolder(run).read_metrics()
    return [{name: value for name, value in row.items() if name != CLOCK} for row in rows]


def worker(images: Path, run: Path, *launcher: str) -> list[str]:
    return [sys.executable, *launcher, str(TESTS / "tiny_adversarial.py"), str(images), str(run)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}


def test_phases_run_in_order_at_their_intervals(images: Path, tmp_path: Path) -> None:
    toy, result = train_toy(images, tmp_path / "run")
    assert (result.first_step, result.last_step) == (0, 12)
    passes = [name for name, seen in toy.seen if seen == 0]
    assert passes == ["generator"] * 4 + ["discriminator"] * 4 + ["penalty"] * 4
    penalised = sorted({seen // 8 for name, seen in toy.seen if name == "penalty"})
    assert penalised == [0, 3, 6, 9]


def test_passes_of_a_step_share_random_numbers_and_know_all_its_images(
    images: Path, tmp_path: Path
) -> None:
    class Recording(ToyGan):
        def losses(self, phase: Phase, work: Pass) -> PhaseResult:
            key = phase.name, work.images_seen
            shared, own = (
                float(torch.rand(1, generator=r)) for r in (work.step_random, work.random)
            )
            assert torch.equal(work.own(work.step_conditions.labels), work.real.labels)
            notes.setdefault(key, []).append((work.first, shared, own))
            return super().losses(phase, work)

    notes: dict[tuple[str, int], list[tuple[int, float, float]]] = {}
    run = RunFolder.create(tmp_path / "run", ToyConfig(SETTINGS), seed=0)
    settings = replace(SETTINGS, images=16)
    train_adversarial(Recording(), toy_feed(images), settings, run, 0)
    assert len(notes) == 5
    for passes in notes.values():
        firsts, shared, own = zip(*passes, strict=True)
        assert firsts == (0, 2, 4, 6)
        assert len(set(shared)) == 1
        assert len(set(own)) == 4
    assert len({passes[0][1] for passes in notes.values()}) == 5


def test_logs_pictures_and_checkpoints_come_when_due(whole: Path) -> None:
    run = RunFolder(whole)
    assert [row["step"] for row in log(whole)] == [2, 4, 6, 8, 10, 12]
    assert run.checkpoint_steps() == [8, 12]
    pictures = sorted(path.name for path in run.media_path.iterdir())
    assert pictures == [f"fakes_{step:07d}.png" for step in (4, 8, 12)]
    first = run.read_metrics()[0]
    assert first["images_seen"] == 16
    assert first["gradient_faults.generator"] == 0.0
    assert {"loss.generator.adversarial", "loss.penalty.r1", "sign", "total"} < first.keys()
    assert "center" not in first


@pytest.mark.parametrize("first_part", [4, 8])
def test_a_resumed_run_equals_an_uninterrupted_one(
    images: Path, whole: Path, tmp_path: Path, first_part: int
) -> None:
    run = tmp_path / "run"
    train_toy(images, run, images=8 * first_part)
    _, result = train_toy(images, run)
    assert result.first_step == first_part
    expected = saved(whole)
    assert saved(run).keys() == expected.keys()
    for name, tensor in saved(run).items():
        assert torch.equal(tensor, expected[name]), name
    assert log(run) == log(whole)


def test_a_checkpoint_that_lost_moments_is_refused(images: Path, tmp_path: Path) -> None:
    train_toy(images, tmp_path / "run", images=32)
    run = RunFolder(tmp_path / "run")
    checkpoint = run.load_checkpoint()
    kept = {k: v for k, v in checkpoint.optimizer.items() if not k.startswith("generator.bias/")}
    folder = run.save_checkpoint(replace(checkpoint, optimizer=kept))
    with pytest.raises(ValueError, match=rf"^{folder}: generator: optimiser .* of 'bias', got"):
        train_toy(images, run.path)


class PartlyUsed(ToyGan):
    """Its generator has a weight that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.generator.register_parameter("unused", nn.Parameter(torch.ones(3)))
        self.average = copy.deepcopy(self.generator).requires_grad_(False)


def test_a_run_of_an_older_version_goes_on_with_the_same_bits(images: Path, tmp_path: Path) -> None:
    feed, ends = toy_feed(images), []
    for is_older in (False, True):
        run = RunFolder.create(tmp_path / str(is_older), ToyConfig(SETTINGS), seed=0)
        train_adversarial(PartlyUsed(), feed, replace(SETTINGS, images=32), run, 0)
        if is_older:
            assert as_older_versions_wrote_it(run.path) == {"generator.unused"}
        train_adversarial(PartlyUsed(), feed, SETTINGS, run, 0)
        ends.append(saved(run.path))
    assert ends[0].keys() == ends[1].keys()
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_state_of_a_method_that_does_not_fit_is_named_with_its_checkpoint(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("checkpoint lacks 'total'")

    train_toy(images, tmp_path / "run", images=32)
    folder = RunFolder(tmp_path / "run").latest_checkpoint()
    monkeypatch.setattr(ToyGan, "load_tensors", refuse)
    with pytest.raises(ValueError, match=rf"^{folder}: checkpoint lacks 'total'$"):
        train_toy(images, tmp_path / "run")


def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(worker(images, run), env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60.0
    while not RunFolder(run).checkpoint_steps() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(worker(images, run), env=environment(), stderr=subprocess.DEVNULL, check=True)
    assert log(run) == log(whole)
    for name, tensor in saved(run).items():
        assert torch.equal(tensor, saved(whole)[name]), name


def test_two_processes_compute_the_same_batches_as_one(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    found = subprocess.run(
        worker(images, run, *launcher), env=environment(), capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    expected = saved(whole)
    for name, tensor in saved(run).items():
        assert torch.allclose(tensor, expected[name], rtol=1e-4, atol=1e-6), name
    for mine, other in zip(log(run), log(whole), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_a_time_limit_ends_with_a_checkpoint(images: Path, whole: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", ToyConfig(SETTINGS), seed=0)
    feed = toy_feed(images)
    result = train_adversarial(ToyGan(), feed, SETTINGS, run, 0, seconds=0.0)
    assert result.last_step == 2
    assert run.checkpoint_steps() == [2]
    train_adversarial(ToyGan(), feed, SETTINGS, run, 0)
    assert log(run.path) == log(whole)


def test_a_loss_that_is_no_number_stops_before_a_checkpoint(images: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", ToyConfig(SETTINGS), seed=0)
    with pytest.raises(FloatingPointError, match=r"loss\.discriminator\.real is not finite"):
        train_adversarial(ToyGan(bad_step=7), toy_feed(images), SETTINGS, run, 0)
    assert run.checkpoint_steps() == [4]


def test_measurements_are_logged_between_first_and_last_step(images: Path, tmp_path: Path) -> None:
    settings = AdversarialSettings(
        images=48, batch=8, pass_size=8, log_every=1, checkpoint_every=6, evaluate_every=2
    )
    run = RunFolder.create(tmp_path / "run", ToyConfig(settings), seed=0)
    train_adversarial(
        ToyGan(), toy_feed(images), settings, run, 0, evaluate=lambda step: {"distance": step / 2}
    )
    found = [row["distance"] for row in run.read_metrics() if "distance" in row]
    assert found == [1.0, 2.0, 3.0]


def test_the_average_is_what_is_restored_for_use(whole: Path) -> None:
    network = ToyGan(seed=5).generator
    assert restore_average(RunFolder(whole), network) == 12
    expected = saved(whole)
    assert torch.equal(network.state_dict()["weight"], expected["average.weight"])
    assert not torch.equal(expected["average.weight"], expected["generator.weight"])
    assert torch.equal(expected["average.center"], expected["generator.center"])
    with pytest.raises(ValueError, match=r"average does not fit .*: weight must have the shape"):
        restore_average(RunFolder(whole), nn.Linear(3, 2))


def test_passes_that_processes_cannot_share_are_refused() -> None:
    assert list(World(1, 2).shares(4)) == [1, 3]
    with pytest.raises(ValueError, match="multiple of the processes, got 4 passes"):
        World(0, 3).shares(4)
    with join_world(torch.device("cpu")) as (world, device):
        assert (world, device.type) == (World(), "cpu")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 6, "pass_size": 4}, "pass_size must divide batch"),
        ({"checkpoint_every": 100, "log_every": 30}, "checkpoint_every must be a multiple of log_"),
        ({"picture_every": 130}, "picture_every must be a multiple of log_every, got 130 and 125"),
        ({"evaluate_every": -125}, "evaluate_every must be a multiple of log_every, got -125"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        ({"images": 4}, "at least one batch of 32"),
    ],
)
def test_contradictory_settings_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialSettings(**wrong)


def test_lazy_regularisation_corrects_rate_and_decays() -> None:
    assert lazy_adam(0.0025, (0.0, 0.99), [1]) == (0.0025, (0.0, 0.99))
    rate, betas = lazy_adam(0.002, (0.0, 0.99), [1, 16])
    # Published as 0.001882 and 0.99^(16/17).
    assert rate == pytest.approx(0.001882, abs=1e-6)
    assert betas == (0.0, pytest.approx(0.99 ** (16 / 17)))


def test_gradients_that_are_no_numbers_are_counted_and_long_ones_cut() -> None:
    network = nn.Linear(2, 1, bias=False)
    trainer = NetworkTrainer(network, 1.0, (0.0, 0.99), 1e-8, clip=0.5)
    start = network.weight.detach().clone()
    network.weight.grad = torch.tensor([[float("nan"), 3.0]])
    assert int(trainer.step(World())) == 1
    moved = start - network.weight.detach()
    # Adam's first step has the length of the rate, where there is a gradient.
    assert torch.allclose(moved, torch.tensor([[0.0, 1.0]]), atol=1e-5)
    assert float(trainer.moments()["weight/exp_avg_sq"][0, 1]) == pytest.approx(0.01 * 0.25)


def test_averages_have_their_half_life() -> None:
    assert average_decay(32, 10_000, 10**6) == pytest.approx(0.5 ** (32 / 10_000))
    assert average_decay(32, 10_000, 64_000, 0.05) == pytest.approx(0.5 ** (32 / 3200))
    assert average_decay(32, 10_000, 0, 0.05) == 0.0
    mine, other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        other.weight.fill_(3.0)
        other.running_mean = torch.tensor([5.0, 6.0])
    update_average(mine, other, 0.75)
    assert mine.weight.tolist() == [1.5, 1.5]
    assert mine.running_mean is not None
    assert mine.running_mean.tolist() == [5.0, 6.0]


def test_a_meter_averages_over_the_steps_in_which_a_number_came() -> None:
    meter = Meter()
    for value in (1.0, 3.0, 5.0):
        meter.add({"loss.a": torch.tensor(value), "w": torch.ones(3)})
    meter.add({"loss.b": torch.tensor(2.0)})
    assert meter.take(4) == {"loss.a": 3.0, "loss.b": 2.0}
    meter.add({"loss.a": torch.tensor(float("inf")), "b": torch.tensor(float("nan"))})
    with pytest.raises(FloatingPointError, match=r"loss\.a is not finite before step 5"):
        meter.take(5)


def test_pictures_are_laid_out_in_rows() -> None:
    pictures = torch.arange(7.0)[:, None, None, None].expand(7, 1, 2, 2)
    sheet = tile_pictures(pictures)
    assert sheet.shape == (1, 4, 8)
    assert sheet[0, ::2, ::2].tolist() == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 0.0]]

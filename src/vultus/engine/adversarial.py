"""The training loop of the generators, read top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Shaped
from torch import Tensor

from vultus.core.image_io import write_image
from vultus.core.progress import Progress
from vultus.core.run_folder import RunFolder
from vultus.core.seeding import torch_generator
from vultus.data.image_feed import Conditions, ImageFeed, RealBatch
from vultus.data.semantics import PARSING_CLASSES, class_shares, parsing_colors
from vultus.engine.adversarial_checkpoint import restore_training, take_training_checkpoint
from vultus.engine.adversarial_passes import Passes, make_passes
from vultus.engine.network_trainer import NetworkTrainer, lazy_adam
from vultus.engine.training_means import Meter, StepMeans
from vultus.engine.world import World
from vultus.methods.adversarial import AdversarialMethod, AdversarialSettings, Pass, Phase
from vultus.optim.averaging import average_decay, update_average

__all__ = [
    "TrainingResult",
    "tile_pictures",
    "train_adversarial",
    "write_pictures",
    "write_real_pictures",
]

_NUM_REAL_PICTURES = 32


@dataclass(frozen=True)
class TrainingResult:
    """How a training went."""

    first_step: int
    """Steps that a resumed run already had."""
    last_step: int
    seconds: float


@dataclass(frozen=True)
class _StepImages:
    """Real images of a step."""

    passes: Mapping[int, RealBatch]
    """Those of this process."""
    conditions: Conditions
    """How those of all processes are taken."""


def train_adversarial(
    method: AdversarialMethod,
    feed: ImageFeed,
    settings: AdversarialSettings,
    run: RunFolder,
    seed: int,
    *,
    world: World | None = None,
    evaluate: Callable[[int], Mapping[str, float | int]] | None = None,
    seconds: float | None = None,
    graph: bool = False,
) -> TrainingResult:
    """Train until all images are shown, starting from the run's last checkpoint if it has one.

    A step takes ``settings.num_passes`` passes, which the processes share. All random numbers of a
    pass come from the seed, the step, the phase and, unless passes share them, the number of the
    pass; so a resumed run gives the same weights as an uninterrupted one (with as many threads; on
    a GPU with deterministic algorithms), and other numbers of processes differ by rounding only.

    Args:
        method: What is trained, freshly initialised, the same in every process.
        feed: Real images.
        settings: Length, rates and intervals.
        run: Where checkpoints, pictures and the log go; all processes must see it.
        seed: Decides all random numbers.
        world: The processes; None for this one alone.
        evaluate: Called in the first process with the step every ``evaluate_every`` steps and at
            the end; what it returns is logged.
        seconds: Stop at the first line of the log after that time, with a checkpoint.
        graph: On a GPU, replay passes as CUDA graphs; the numbers stay the same.

    Raises:
        FloatingPointError: If a loss is no longer finite; names the terms.
        ValueError: If processes cannot share the passes, or do not see the same checkpoint.
    """
    world = world or World()
    own = world.shares(settings.num_passes)
    trainers = _trainers(method, settings)
    first = restore_training(run, method, trainers)
    if world.first_says(first, method.device) != first:
        raise ValueError(f"{run.path}: all processes must see the same checkpoints, as on one disk")
    if world.is_first:
        run.rewind_metrics(first)
    world.wait()
    _choose_algorithms(settings)
    batches, passes = feed.batches(_places(first, settings, own)), make_passes(method, graph=graph)
    started, step, meter = time.perf_counter(), first, Meter()
    with _progress(world, (settings.steps - first) * settings.batch) as advance:
        while step < settings.steps:
            step += 1
            real = _StepImages(
                dict(zip(own, islice(batches, len(own)), strict=True)),
                feed.conditions_at((step - 1) * settings.batch, settings.batch),
            )
            means = _train(method, trainers, passes, real, settings, step, seed, world)
            method.update(means, step)
            _update_average(method, settings, step)
            meter.add(means)
            advance(settings.batch)
            is_end = step == settings.steps
            if step % settings.log_every and not is_end:
                continue
            # A diverged state must not replace a sound one.
            values = meter.take(step)
            elapsed = time.perf_counter() - started
            is_over = seconds is not None and elapsed > seconds
            is_last = bool(world.first_says(is_end or is_over, method.device))
            if world.is_first:
                rate = (step - first) * settings.batch / elapsed
                facts = {"images_seen": step * settings.batch, "images_per_second": rate}
                run.log_metrics(step, {**facts, **values, **method.summary()})
                if evaluate is not None and (is_end or _is_due(step, settings.evaluate_every)):
                    run.log_metrics(step, evaluate(step))
                _save(run, method, trainers, settings, step, is_last=is_last)
            if is_last:
                break
    world.wait()
    return TrainingResult(first, step, time.perf_counter() - started)


def _save(
    run: RunFolder,
    method: AdversarialMethod,
    trainers: Mapping[str, NetworkTrainer],
    settings: AdversarialSettings,
    step: int,
    *,
    is_last: bool,
) -> None:
    """Write pictures and a checkpoint where they are due."""
    if is_last or _is_due(step, settings.picture_every):
        write_pictures(run, method, step)
    # Last, so that a kill at any moment leaves no gap in what was written before.
    if is_last or step % settings.checkpoint_every == 0:
        run.save_checkpoint(take_training_checkpoint(method, trainers, step))
        run.keep_checkpoints(settings.keep_checkpoints)


def write_pictures(run: RunFolder, method: AdversarialMethod, step: int) -> None:
    """Write sheets of the people that the method previews."""
    for name, pictures in method.preview().items():
        write_image(run.media_path / f"{name}_{step:07d}.png", tile_pictures(pictures))


def write_real_pictures(run: RunFolder, method: AdversarialMethod, feed: ImageFeed) -> None:
    """Write sheets of the first real images, masks and semantic maps, to compare with generated."""
    real = next(feed.batches([(0, _NUM_REAL_PICTURES)]))
    write_image(run.media_path / "reals.png", tile_pictures(method.show_real(real).cpu()))
    if real.masks is not None:
        write_image(run.media_path / "masks.png", tile_pictures(real.masks.cpu()))
    if real.parts is not None:
        colors = parsing_colors(class_shares(real.parts.cpu(), len(PARSING_CLASSES)))
        write_image(run.media_path / "parts.png", tile_pictures(colors))


def tile_pictures(pictures: Shaped[Tensor, "n c h w"]) -> Shaped[Tensor, "c H W"]:
    """Lay pictures out in rows, about twice as wide as high; missing ones are black."""
    count, _, height, width = pictures.shape
    columns = min(count, max(1, round((2 * count) ** 0.5)))
    rows = -(-count // columns)
    sheet = pictures.new_zeros(rows * columns, *pictures.shape[1:])
    sheet[:count] = pictures
    grid = sheet.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)
    return grid.reshape(-1, rows * height, columns * width)


def _trainers(
    method: AdversarialMethod, settings: AdversarialSettings
) -> dict[str, NetworkTrainer]:
    trainers = {}
    for name, network, rate, clip in (
        ("generator", method.generator, settings.generator_rate, settings.generator_clip),
        (
            "discriminator",
            method.discriminator,
            settings.discriminator_rate,
            settings.discriminator_clip,
        ),
    ):
        intervals = [phase.interval for phase in method.phases if phase.network == name]
        rate, betas = lazy_adam(rate, settings.betas, intervals)
        trainers[name] = NetworkTrainer(network, rate, betas, settings.epsilon, clip)
    return trainers


def _train(
    method: AdversarialMethod,
    trainers: Mapping[str, NetworkTrainer],
    passes: Passes,
    real: _StepImages,
    settings: AdversarialSettings,
    step: int,
    seed: int,
    world: World,
) -> dict[str, Tensor]:
    """Run the phases that are due and step their networks; means over the whole batch."""
    means = StepMeans(settings.num_passes)
    images_seen = settings.moment(step) * settings.batch

    def generator(phase: Phase, part: str) -> torch.Generator:
        return torch_generator(seed, f"adversarial/{step}/{phase.name}/{part}", method.device)

    for phase in method.phases:
        if (step - 1) % phase.interval:
            continue
        trainer = trainers[phase.network]
        with trainer.training():
            for index, images in real.passes.items():
                work = Pass(
                    real=images,
                    first=index * settings.pass_size,
                    step_conditions=real.conditions,
                    images_seen=images_seen,
                    random=generator(phase, str(index)),
                    step_random=generator(phase, "step"),
                )
                means.add(phase, passes.run(phase, work, phase.interval / settings.num_passes))
            means.faults(phase, trainer.step(world), world)
    return means.gather(world)


def _update_average(method: AdversarialMethod, settings: AdversarialSettings, step: int) -> None:
    images_seen = (step - 1) * settings.batch
    half_life, ramp = settings.average_half_life, settings.average_ramp
    decay = average_decay(settings.batch, half_life, images_seen, ramp)
    update_average(method.average, method.generator, decay)


def _places(
    first: int, settings: AdversarialSettings, own: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Where in the order of images each pass of this process begins, and its size."""
    for step in range(first, settings.steps):
        for index in own:
            yield step * settings.batch + index * settings.pass_size, settings.pass_size


def _choose_algorithms(settings: AdversarialSettings) -> None:
    """Set how a GPU multiplies and convolves; shapes stay the same, so that trying out pays."""
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    torch.backends.cuda.matmul.allow_tf32 = settings.use_tf32
    torch.backends.cudnn.allow_tf32 = settings.use_tf32


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


@contextmanager
def _progress(world: World, total: int) -> Iterator[Callable[[int], None]]:
    """Show the rate and the time left, in the first process."""
    if not world.is_first:
        yield lambda count: None
        return
    with Progress("training", total, "images") as progress:
        yield progress.advance

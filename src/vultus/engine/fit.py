"""The training loop of the reconstruction methods, read top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vultus.core.progress import Progress
from vultus.core.run_folder import RunFolder
from vultus.core.seeding import torch_generator
from vultus.data.frame_feed import FeedChoice
from vultus.data.frame_store import FrameStore
from vultus.engine.checkpoint import restore, take_checkpoint
from vultus.engine.steps import make_steps
from vultus.methods.base import ReconstructionMethod
from vultus.methods.schedule import FitSettings

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True)
class FitResult:
    """How a training went."""

    first_step: int
    """Steps that a resumed run already had."""
    last_step: int
    seconds: float


def fit(
    method: ReconstructionMethod,
    frames: FrameStore,
    settings: FitSettings,
    run: RunFolder,
    seed: int,
    evaluate: Callable[[int], None] | None = None,
    *,
    graph: bool = True,
    images: FeedChoice = "auto",
) -> FitResult:
    """Train until ``settings.steps``, starting from the run's last checkpoint if it has one.

    Each step sees one image; the order is one shuffle, repeated every epoch. The state of a step
    depends on nothing but the checkpoint, the seed and the step number, so a resumed run gives the
    same weights as an uninterrupted one (on a GPU: with deterministic algorithms; on a CPU: with as
    many threads).

    Args:
        method: What is trained, freshly initialised.
        frames: Training images, on the CPU.
        settings: Numbers of steps and intervals.
        run: Where checkpoints and the log go.
        seed: Decides the order of images.
        evaluate: Called with the step every ``evaluate_every`` steps.
        graph: On a GPU, replay steps as CUDA graphs.
        images: Where images are kept while a GPU trains.

    Raises:
        FloatingPointError: If the loss is no longer finite; names the terms.
        ValueError: If the images are to stay on the GPU and do not fit.
    """
    first = restore(run, method)
    order = torch.randperm(len(frames), generator=torch_generator(seed, "fit.order")).tolist()
    started = time.perf_counter()
    steps = make_steps(method, frames, order, graph=graph, images=images)
    note = ""
    with steps.context(), Progress("training", settings.steps - first, "steps") as progress:
        step = first
        while step < settings.steps:
            step += 1
            steps.run(step)
            progress.advance(1, note)
            due = _Due.at(step, settings, method)
            if not due.anything:
                continue
            done = steps.settle()
            if done < step:
                progress.advance(done - step)
                step = done
                continue
            # A diverged state must not be edited, nor replace a sound one.
            terms = _finite(steps.terms, step)
            if due.edit:
                method.edit(step)
                steps.forget()
            if due.log:
                loss = sum(terms.values())
                run.log_metrics(step, {"loss": loss, **terms, **method.summary()})
                note = f"loss {loss:.4f}"
            if due.save:
                run.save_checkpoint(take_checkpoint(method, step))
                run.keep_checkpoints(settings.keep_checkpoints)
            if due.evaluate and evaluate is not None:
                evaluate(step)
    return FitResult(first, settings.steps, time.perf_counter() - started)


@dataclass(frozen=True)
class _Due:
    """What follows a step."""

    edit: bool
    log: bool
    save: bool
    evaluate: bool

    @staticmethod
    def at(step: int, settings: FitSettings, method: ReconstructionMethod) -> _Due:
        is_last, every = step == settings.steps, settings.evaluate_every
        return _Due(
            edit=method.edits_at(step),
            log=is_last or step % settings.log_every == 0,
            save=is_last or step % settings.checkpoint_every == 0,
            evaluate=every > 0 and step % every == 0 and not is_last,
        )

    @property
    def anything(self) -> bool:
        return self.edit or self.log or self.save or self.evaluate


def _finite(terms: Mapping[str, Tensor], step: int) -> dict[str, float]:
    """The values of loss terms, which must be finite."""
    values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"loss term {', '.join(bad)} is not finite at step {step}")
    return values

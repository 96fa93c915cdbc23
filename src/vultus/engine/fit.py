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
from vultus.data.frame_store import Batch, FrameStore
from vultus.engine.checkpoint import restore, take_checkpoint
from vultus.kernels.capacity import repeat_while_growing
from vultus.methods.base import FitSettings, ReconstructionMethod
from vultus.render.output import RenderOutput

__all__ = ["FitResult", "fit"]

# The last one, and one to go back to.
_KEPT_CHECKPOINTS = 2


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
) -> FitResult:
    """Train until ``settings.steps``, starting from the run's last checkpoint if it has one.

    Each step sees one image; the order is one shuffle, repeated every epoch. The state of a step
    depends on nothing but the checkpoint, the seed and the step number, so a resumed run gives the
    same weights as an uninterrupted one.

    Args:
        method: What is trained, freshly initialised.
        frames: Training images.
        settings: Numbers of steps and intervals.
        run: Where checkpoints and the log go.
        seed: Decides the order of images.
        evaluate: Called with the step every ``evaluate_every`` steps.

    Raises:
        FloatingPointError: If the loss is no longer finite; names the terms.
    """
    first = restore(run, method)
    order = torch.randperm(len(frames), generator=torch_generator(seed, "fit.order")).tolist()
    started = time.perf_counter()
    note = ""
    with Progress("training", total=settings.steps - first, unit="steps") as progress:
        for step in range(first + 1, settings.steps + 1):
            batch = frames.batch([order[(step - 1) % len(order)]])
            loss, terms = _step(method, batch, step)
            is_last = step == settings.steps
            if step % settings.log_every == 0 or is_last:
                values = {name: float(term.detach()) for name, term in terms.items()}
                run.log_metrics(step, {"loss": float(loss), **values, **method.summary()})
                _check_finite(terms, step)
                note = f"loss {float(loss):.4f}"
            progress.advance(1, note)
            if step % settings.checkpoint_every == 0 or is_last:
                _check_finite(terms, step)  # A diverged state must not replace a sound one.
                run.save_checkpoint(take_checkpoint(method, step))
                run.keep_checkpoints(_KEPT_CHECKPOINTS)
            if evaluate is not None and _is_due(step, settings):
                evaluate(step)
    return FitResult(first, settings.steps, time.perf_counter() - started)


def _step(
    method: ReconstructionMethod, batch: Batch, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    def forward_and_backward() -> tuple[RenderOutput, dict[str, Tensor], Tensor]:
        method.optimizer.zero_grad(set_to_none=True)
        output, terms = method.training_step(batch, step)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        return output, terms, loss.detach()

    output, terms, loss = repeat_while_growing(forward_and_backward)
    method.after_backward(output, step)
    return loss, terms


def _is_due(step: int, settings: FitSettings) -> bool:
    every = settings.evaluate_every
    return every > 0 and step % every == 0 and step != settings.steps


def _check_finite(terms: Mapping[str, Tensor], step: int) -> None:
    bad = [name for name, term in terms.items() if not math.isfinite(float(term.detach()))]
    if bad:
        raise FloatingPointError(f"loss term {', '.join(bad)} is not finite at step {step}")

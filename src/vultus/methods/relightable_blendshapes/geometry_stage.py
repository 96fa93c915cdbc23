"""Stage 1: fit the subject's own mesh to a capture, before Gaussians [3.5, 5.2, 6.2].

Figures in brackets are sections of our specification.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch

from vultus.core.progress import Progress
from vultus.core.run_folder import RunFolder
from vultus.data.frame_store import FrameStore
from vultus.data.sequence import HeadSequence, Split
from vultus.methods.relightable_blendshapes.geometry_config import GeometryConfig
from vultus.methods.relightable_blendshapes.geometry_file import PersonalGeometry
from vultus.methods.relightable_blendshapes.geometry_judging import MeshScores, judged_frames
from vultus.methods.relightable_blendshapes.geometry_trainer import GeometryTrainer
from vultus.nets.vgg_distance import imported_vgg_distance

__all__ = ["GeometryFit", "fit_geometry"]

_LOG = logging.getLogger(__name__)
_LEAST_OVERLAP = 0.9
"""Below this the stage has probably failed: tracking, mattes or hair that is too thin [6.2]."""


@dataclass(frozen=True)
class GeometryFit:
    """What the stage has found."""

    geometry: PersonalGeometry
    trainer: GeometryTrainer
    split: Split
    """Frames that were judged."""
    before: MeshScores
    """Of the head model."""
    after: MeshScores


def fit_geometry(
    sequence: HeadSequence,
    frames: FrameStore,
    config: GeometryConfig,
    run: RunFolder,
    seed: int,
    device: torch.device,
) -> GeometryFit:
    """Train until ``config.steps``, starting from the run's last checkpoint if it has one.

    The state of a step depends on nothing but the checkpoint, the seed and the step number, so that
    a resumed run gives the same mesh as an uninterrupted one (on a GPU: with deterministic
    algorithms).

    Args:
        sequence: The capture.
        frames: Its training frames, on the CPU.
        config: All settings.
        run: Where checkpoints and the log go.
        seed: Of everything random.
        device: Where to compute.

    Raises:
        ValueError: If the head has no joints or the frames have no mattes.
        FloatingPointError: If the loss is no longer finite; names the terms.
    """
    perceptual = imported_vgg_distance() if config.losses.perceptual > 0 else None
    perceptual = None if perceptual is None else perceptual.to(device)
    trainer = GeometryTrainer(sequence, frames, config, seed, device, perceptual)
    split, judged = judged_frames(sequence)
    before = trainer.judge(judged)
    first = _resume(trainer, run)
    note, optim = "", config.optim
    with Progress("fitting the mesh", config.steps - first, "steps") as progress:
        for step in range(first + 1, config.steps + 1):
            terms = trainer.step(step)
            is_last = step == config.steps
            if config.refines and step == optim.refine_at:
                trainer.refine()
                trainer.observe(step)
            elif step % optim.observe_every == 0:
                trainer.observe(step)
            is_saved = is_last or step % config.checkpoint_every == 0
            if is_saved or step % config.log_every == 0:
                values = {name: float(term) for name, term in terms.items()}
                _check_finite(values, step)
                loss = sum(values.values())
                run.log_metrics(step, {"loss": loss, **values})
                note = f"loss {loss:.4f}"
            if is_saved:
                run.save_checkpoint(trainer.checkpoint(step))
                run.keep_checkpoints(config.keep_checkpoints)
            progress.advance(1, note)
    after = trainer.judge(judged)
    if after.overlap is not None and after.overlap < _LEAST_OVERLAP:
        _LOG.warning(
            "the mesh covers the mattes badly: intersection over union %.3f, below %.1f",
            after.overlap,
            _LEAST_OVERLAP,
        )
    return GeometryFit(PersonalGeometry.of(trainer), trainer, split, before, after)


def _resume(trainer: GeometryTrainer, run: RunFolder) -> int:
    """Restore the last checkpoint, or look at the frames for the first time."""
    if run.latest_checkpoint() is None:
        trainer.observe(0)
        return 0
    checkpoint = run.load_checkpoint()
    trainer.restore(checkpoint)
    run.rewind_metrics(checkpoint.step)
    return checkpoint.step


def _check_finite(values: dict[str, float], step: int) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"step {step}: not finite: {', '.join(bad)}")

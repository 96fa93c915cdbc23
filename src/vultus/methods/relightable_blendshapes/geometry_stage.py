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
from vultus.data.sequence import HeadSequence
from vultus.methods.relightable_blendshapes.geometry_config import GeometryConfig
from vultus.methods.relightable_blendshapes.geometry_file import PersonalGeometry
from vultus.methods.relightable_blendshapes.geometry_trainer import GeometryTrainer
from vultus.nets.vgg_distance import imported_vgg_distance

__all__ = ["GeometryFit", "fit_geometry", "mask_overlap"]

_LOG = logging.getLogger(__name__)
_LEAST_OVERLAP = 0.9
"""Below this the stage has probably failed: tracking, mattes or hair that is too thin [6.2]."""
_JUDGED_FRAMES = 64


@dataclass(frozen=True)
class GeometryFit:
    """What the stage has found."""

    geometry: PersonalGeometry
    trainer: GeometryTrainer
    overlap_before: float
    """Mean intersection over union of the head model and the mattes."""
    overlap: float
    """The same of the personal mesh."""


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
    before = mask_overlap(trainer)
    first = 0
    if run.latest_checkpoint() is not None:
        checkpoint = run.load_checkpoint()
        trainer.restore(checkpoint)
        first = checkpoint.step
        run.rewind_metrics(first)
    else:
        trainer.observe(0)
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
    overlap = mask_overlap(trainer)
    if overlap < _LEAST_OVERLAP:
        _LOG.warning(
            "the mesh covers the mattes badly: intersection over union %.3f, below %.1f",
            overlap,
            _LEAST_OVERLAP,
        )
    return GeometryFit(PersonalGeometry.of(trainer), trainer, before, overlap)


@torch.no_grad()
def mask_overlap(trainer: GeometryTrainer) -> float:
    """Mean intersection over union of mesh and matte in evenly chosen training frames."""
    count = min(_JUDGED_FRAMES, len(trainer.frames))
    ratios = []
    for row in torch.linspace(0, len(trainer.frames) - 1, count).round().long():
        batch = trainer.batch(row[None])
        assert batch.mask is not None
        inside = batch.mask > 0.5
        covered = trainer.draw(batch).fragments.is_covered
        ratios.append(float((inside & covered).sum() / (inside | covered).sum().clamp(min=1)))
    return sum(ratios) / count


def _check_finite(values: dict[str, float], step: int) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"step {step}: not finite: {', '.join(bad)}")

"""Put a method under training into a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from vultus.core.run_folder import Checkpoint, RunFolder
from vultus.methods.base import ReconstructionMethod
from vultus.optim.moments import load_moments, saved_moments

__all__ = ["naming_checkpoint", "restore", "restore_weights", "take_checkpoint"]


def take_checkpoint(method: ReconstructionMethod, step: int) -> Checkpoint:
    """Collect everything that an exact resume needs."""
    moments = saved_moments(method.optimizer, _trained(method.optimizer))
    return Checkpoint(step, method.tensors(), moments, method.summary())


def restore(run: RunFolder, method: ReconstructionMethod) -> int:
    """Load the run's last complete checkpoint into a fresh method.

    Returns:
        The step to continue after; 0 without a checkpoint.

    Raises:
        ValueError: If it is of another method or other settings; names the checkpoint.
    """
    if run.latest_checkpoint() is None:
        return 0
    checkpoint = run.load_checkpoint()
    first = {name: value.detach().clone() for name, value in _trained(method.optimizer).items()}
    with naming_checkpoint(run.checkpoint_path(checkpoint.step)):
        method.load_tensors(checkpoint.weights)
        # After the weights, whose number of rows may be another one.
        trained = _trained(method.optimizer)
        untouched = {name for name, value in trained.items() if torch.equal(value, first[name])}
        load_moments(method.optimizer, trained, checkpoint.optimizer, untouched)
    run.rewind_metrics(checkpoint.step)
    return checkpoint.step


def restore_weights(run: RunFolder, method: ReconstructionMethod, step: int | None = None) -> int:
    """Load weights only, for rendering; returns the step they were saved at.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another method or other settings; names the checkpoint.
    """
    checkpoint = run.load_checkpoint(step)
    with naming_checkpoint(run.checkpoint_path(checkpoint.step)):
        method.load_tensors(checkpoint.weights)
    return checkpoint.step


@contextmanager
def naming_checkpoint(where: Path | str) -> Iterator[None]:
    """Tell which checkpoint it is that does not fit, or which part of it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _trained(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The single parameter of every group by the group's name."""
    return {group["name"]: group["params"][0] for group in optimizer.param_groups}

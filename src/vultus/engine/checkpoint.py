"""Put a method under training into a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from vultus.core.run_folder import Checkpoint, RunFolder
from vultus.methods.base import ReconstructionMethod
from vultus.optim.moments import check_moments

__all__ = ["restore", "restore_weights", "take_checkpoint"]


def take_checkpoint(method: ReconstructionMethod, step: int) -> Checkpoint:
    """Collect everything that an exact resume needs."""
    return Checkpoint(step, method.tensors(), _moments(method.optimizer), method.summary())


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
    with _naming(run.checkpoint_path(checkpoint.step)):
        method.load_tensors(checkpoint.weights)
        _load_moments(method.optimizer, checkpoint.optimizer)
    run.rewind_metrics(checkpoint.step)
    return checkpoint.step


def restore_weights(run: RunFolder, method: ReconstructionMethod, step: int | None = None) -> int:
    """Load weights only, for rendering; returns the step they were saved at.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another method or other settings; names the checkpoint.
    """
    checkpoint = run.load_checkpoint(step)
    with _naming(run.checkpoint_path(checkpoint.step)):
        method.load_tensors(checkpoint.weights)
    return checkpoint.step


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Tell which checkpoint it is that does not fit."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _load_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Restore ``_moments``; parameters that had none begin anew."""
    for group in optimizer.param_groups:
        prefix, parameter = f"{group['name']}/", group["params"][0]
        state = {
            key.removeprefix(prefix): value.to(parameter.device)
            for key, value in moments.items()
            if key.startswith(prefix)
        }
        if state:
            check_moments(state, parameter, group["name"])
            optimizer.state[parameter] = state


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        state = optimizer.state.get(group["params"][0], {})
        flat |= {f"{group['name']}/{key}": torch.as_tensor(value) for key, value in state.items()}
    return flat

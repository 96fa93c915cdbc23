"""Put a method under training into a checkpoint, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from vultus.core.run_folder import Checkpoint, RunFolder
from vultus.methods.base import ReconstructionMethod

__all__ = ["restore", "restore_weights", "take_checkpoint"]


def take_checkpoint(method: ReconstructionMethod, step: int) -> Checkpoint:
    """Collect everything that an exact resume needs."""
    return Checkpoint(step, method.tensors(), _moments(method.optimizer), method.summary())


def restore(run: RunFolder, method: ReconstructionMethod) -> int:
    """Load the run's last complete checkpoint into a fresh method.

    Returns:
        The step to continue after; 0 without a checkpoint.
    """
    if run.latest_checkpoint() is None:
        return 0
    checkpoint = run.load_checkpoint()
    method.load_tensors(checkpoint.weights)
    for group in method.optimizer.param_groups:
        prefix = f"{group['name']}/"
        state = {
            key.removeprefix(prefix): value
            for key, value in checkpoint.optimizer.items()
            if key.startswith(prefix)
        }
        if state:
            parameter = group["params"][0]
            method.optimizer.state[parameter] = {
                key: value.to(parameter.device) for key, value in state.items()
            }
    run.rewind_metrics(checkpoint.step)
    return checkpoint.step


def restore_weights(run: RunFolder, method: ReconstructionMethod, step: int | None = None) -> int:
    """Load weights only, for rendering; returns the step they were saved at."""
    checkpoint = run.load_checkpoint(step)
    method.load_tensors(checkpoint.weights)
    return checkpoint.step


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        state = optimizer.state.get(group["params"][0], {})
        flat |= {f"{group['name']}/{key}": torch.as_tensor(value) for key, value in state.items()}
    return flat

"""Put a generator under training into a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vultus.core.run_folder import Checkpoint, RunFolder
from vultus.engine.checkpoint import naming_checkpoint
from vultus.engine.network_trainer import NetworkTrainer
from vultus.methods.adversarial import AdversarialMethod
from vultus.nets.weights import load_weights

__all__ = [
    "restore_average",
    "restore_training",
    "start_from",
    "take_training_checkpoint",
]

_NETWORKS = ("generator", "average", "discriminator")
_METHOD = "method"


def take_training_checkpoint(
    method: AdversarialMethod, trainers: Mapping[str, NetworkTrainer], step: int
) -> Checkpoint:
    """Collect everything that an exact resume needs."""
    parts: dict[str, Mapping[str, Tensor]] = {
        name: getattr(method, name).state_dict() for name in _NETWORKS
    }
    weights = _joined({**parts, _METHOD: method.tensors()}.items())
    moments = _joined((name, trainer.moments()) for name, trainer in trainers.items())
    return Checkpoint(step, weights, moments, method.summary())


def restore_training(
    run: RunFolder, method: AdversarialMethod, trainers: Mapping[str, NetworkTrainer]
) -> int:
    """Load the run's last complete checkpoint into a fresh method and fresh optimisers.

    Returns:
        The step to continue after; 0 without a checkpoint.

    Raises:
        ValueError: If the checkpoint is of another configuration; names it.
    """
    folder = run.latest_checkpoint()
    if folder is None:
        return 0
    checkpoint = run.load_checkpoint()
    _load_networks(method, checkpoint, folder)
    with naming_checkpoint(folder):
        method.load_tensors(_part(checkpoint.weights, _METHOD))
    untouched = {"generator": _untouched(method)}
    for name, trainer in trainers.items():
        with naming_checkpoint(f"{folder}: {name}"):
            trainer.load_moments(_part(checkpoint.optimizer, name), untouched.get(name, ()))
    return checkpoint.step


def start_from(run: RunFolder, method: AdversarialMethod) -> int:
    """Give a fresh method the networks of another run's last checkpoint; returns its step.

    Schedules and optimisers begin anew, as in the second stage of a training.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If its networks are others; names the first weight that does not fit.
    """
    checkpoint = run.load_checkpoint()
    _load_networks(method, checkpoint, run.checkpoint_path(checkpoint.step))
    return checkpoint.step


def restore_average(run: RunFolder, generator: nn.Module, step: int | None = None) -> int:
    """Load the averaged generator, which is the one to use; returns its step.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another method or configuration; names it.
    """
    checkpoint = run.load_checkpoint(step)
    where = f"{run.checkpoint_path(checkpoint.step)}: average"
    load_weights(generator, _part(checkpoint.weights, "average"), where)
    return checkpoint.step


def _load_networks(method: AdversarialMethod, checkpoint: Checkpoint, folder: Path) -> None:
    for name in _NETWORKS:
        load_weights(getattr(method, name), _part(checkpoint.weights, name), f"{folder}: {name}")


def _untouched(method: AdversarialMethod) -> set[str]:
    """Weights of the generator that never had a gradient: their average has the same bits.

    The average of any other weight lags behind from the first steps on.
    """
    averages = dict(method.average.named_parameters())
    return {
        name
        for name, weight in method.generator.named_parameters()
        if torch.equal(weight, averages[name])
    }


def _joined(parts: Iterable[tuple[str, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.detach().to("cpu", copy=True).contiguous()
        for part, tensors in parts
        for name, tensor in tensors.items()
    }


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, torch.Tensor]:
    prefix = f"{name}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

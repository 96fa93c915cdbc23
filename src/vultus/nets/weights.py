"""Put weights from files into networks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["count_weights", "load_published_weights", "load_weights"]


def count_weights(network: nn.Module) -> int:
    """How many numbers a network has learned or could learn."""
    return sum(parameter.numel() for parameter in network.parameters())


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load all parameters and buffers.

    Args:
        network: What they go into.
        weights: By name.
        where: Names their source in messages.

    Raises:
        ValueError: If names or shapes are those of another configuration; names the first one.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        name = next(n for n in {**wanted, **found} if wanted.get(n) != found.get(n))
        raise ValueError(
            f"{where} does not fit the configuration: {name} must have the shape "
            f"{wanted.get(name)}, got {found.get(name)}"
        )
    network.load_state_dict(weights)


def load_published_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load what the network has of a published state dict, which may hold more.

    Counts of batches, which only training reads, may be missing.

    Args:
        network: What they go into, as float32.
        weights: By the network's names.
        where: Names their source in messages.

    Raises:
        ValueError: If a tensor is missing or has another shape; names it.
    """
    chosen = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            chosen[name] = tensor
        elif name not in weights or weights[name].shape != tensor.shape:
            raise ValueError(f"{where} must have {name!r} of shape {tuple(tensor.shape)}")
        else:
            chosen[name] = weights[name].detach().float()
    network.load_state_dict(chosen)

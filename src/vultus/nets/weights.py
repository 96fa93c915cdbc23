"""Put weights from files into networks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["load_weights"]


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

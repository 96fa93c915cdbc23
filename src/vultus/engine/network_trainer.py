"""One network of a generator-discriminator pair with its optimiser."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vultus.engine.world import World
from vultus.optim.moments import load_moments, saved_moments

__all__ = ["NetworkTrainer", "lazy_adam"]

_LARGEST_GRADIENT = 1e5
"""What infinite gradients become, as published."""


def lazy_adam(
    rate: float, betas: tuple[float, float], intervals: Sequence[int]
) -> tuple[float, tuple[float, float]]:
    """Learning rate and decays of Adam for a network with a lazily applied regulariser.

    A regulariser that runs every k-th step makes k + 1 updates of k, so that all is scaled to k
    updates: the rate times k / (k + 1), the decays to that power.

    Args:
        rate: Without regulariser.
        betas: Without regulariser.
        intervals: Of all phases of the network.

    Reference: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, app. B.
    """
    share = 1.0
    for interval in intervals:
        if interval > 1:
            share *= interval / (interval + 1)
    return rate * share, (betas[0] ** share, betas[1] ** share)


class NetworkTrainer:
    """Gathers gradients over passes and processes, and steps Adam."""

    def __init__(
        self,
        network: nn.Module,
        rate: float,
        betas: tuple[float, float],
        epsilon: float,
        clip: float | None = None,
    ) -> None:
        """Make the optimiser; outside of ``training`` nothing of the network needs gradients."""
        self.network = network
        self._named = dict(network.named_parameters())
        self._clip = clip
        parameters = list(self._named.values())
        self.optimizer = torch.optim.Adam(parameters, rate, betas, epsilon, fused=True)
        network.requires_grad_(False)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Let gradients reach the network."""
        self.network.requires_grad_(True)
        try:
            yield
        finally:
            self.network.requires_grad_(False)

    def step(self, world: World) -> Tensor:
        """Sum gradients over processes, update, and forget them.

        Returns:
            How many numbers of the gradient were not finite; they are replaced (NaN by 0).
        """
        used = [p for p in self._named.values() if p.grad is not None]
        gradient = torch.cat([p.grad.reshape(-1) for p in used if p.grad is not None])
        world.sum(gradient)
        faults = (~gradient.isfinite()).sum()
        limit = _LARGEST_GRADIENT
        gradient.nan_to_num_(nan=0.0, posinf=limit, neginf=-limit)
        if self._clip is not None:
            gradient *= (self._clip / gradient.norm().clamp(min=self._clip)).detach()
        parts = gradient.split([p.numel() for p in used])
        for parameter, part in zip(used, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return faults

    def moments(self) -> dict[str, Tensor]:
        """State of the optimiser by parameter."""
        return saved_moments(self.optimizer, self._named)

    def load_moments(self, moments: Mapping[str, Tensor], untouched: Collection[str] = ()) -> None:
        """Restore ``moments()``; ``untouched`` as in ``optim.moments.load_moments``.

        Raises:
            ValueError: If some are missing, or they are those of another network.
        """
        load_moments(self.optimizer, self._named, moments, untouched)

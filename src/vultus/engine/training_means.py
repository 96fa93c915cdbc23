"""Means of losses and records: over the passes and processes of a step, and over many steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vultus.engine.world import World
from vultus.methods.adversarial import Phase, PhaseResult

__all__ = ["Meter", "StepMeans"]

_LOSS = "loss."


class StepMeans:
    """Adds up what the passes of one step give."""

    def __init__(self, num_passes: int) -> None:
        """Begin with nothing; ``num_passes`` counts those of all processes."""
        self._share = 1.0 / num_passes
        self._sums: dict[str, Tensor] = {}

    def add(self, phase: Phase, result: PhaseResult) -> None:
        """Add a pass; losses are called ``loss.<phase>.<term>``."""
        terms = {f"{_LOSS}{phase.name}.{name}": loss for name, loss in result.losses.items()}
        for name, value in {**terms, **result.records}.items():
            part = value.detach() * self._share
            self._sums[name] = self._sums[name] + part if name in self._sums else part

    def faults(self, phase: Phase, count: Tensor, world: World) -> None:
        """Note how many numbers of a gradient, already that of all processes, were not finite."""
        self._sums[f"gradient_faults.{phase.name}"] = count.float() / world.size

    def gather(self, world: World) -> dict[str, Tensor]:
        """Means over all processes."""
        values = list(self._sums.values())
        flat = world.sum(torch.cat([value.reshape(-1) for value in values]))
        parts = flat.split([value.numel() for value in values])
        pairs = zip(self._sums, parts, values, strict=True)
        return {name: part.view_as(value) for name, part, value in pairs}


class Meter:
    """Averages numbers over steps without waiting for a GPU."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, means: Mapping[str, Tensor]) -> None:
        """Add the numbers of a step; records of more than one number are left out."""
        for name, value in means.items():
            if value.numel() == 1:
                known = name in self._sums
                self._sums[name] = self._sums[name] + value if known else value
                self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, step: int) -> dict[str, float]:
        """Return the means and begin anew.

        Raises:
            FloatingPointError: If a loss is not finite.
        """
        numbers = torch.stack([total.reshape(()) for total in self._sums.values()]).tolist()
        values = {
            name: number / self._counts[name]
            for name, number in zip(self._sums, numbers, strict=True)
        }
        bad = [n for n, v in values.items() if n.startswith(_LOSS) and not math.isfinite(v)]
        if bad:
            raise FloatingPointError(f"{', '.join(bad)} is not finite before step {step}")
        self._sums, self._counts = {}, {}
        return values

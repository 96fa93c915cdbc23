"""One pass of adversarial training, forward and backward: launched op by op, or one CUDA graph."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Parameter

from vultus.data.image_feed import Conditions, RealBatch
from vultus.engine.captures import capturing
from vultus.kernels.capacity import CapacityExceededError, check_captured, repeat_while_growing
from vultus.methods.adversarial import AdversarialMethod, Pass, Phase, PhaseResult

__all__ = ["CapturedPasses", "LaunchedPasses", "Passes", "make_passes"]


@runtime_checkable
class Passes(Protocol):
    """Runs passes in order."""

    def run(self, phase: Phase, work: Pass, weight: float) -> PhaseResult:
        """Add the gradients of a pass, times a weight, to those of its network.

        Returns:
            Losses and records, detached; they hold until the next pass.
        """
        ...


def make_passes(method: AdversarialMethod, *, graph: bool) -> Passes:
    """Choose how passes run: on the CPU always op by op, on a GPU as ``graph`` says."""
    if method.device.type == "cpu" or not graph:
        return LaunchedPasses(method)
    return CapturedPasses(method)


class _Differentiated(NamedTuple):
    """What a pass computes."""

    result: PhaseResult
    parameters: list[Parameter]
    """Those that the loss depends on."""
    gradients: list[Tensor]


class LaunchedPasses:
    """Launches a pass op by op."""

    def __init__(self, method: AdversarialMethod) -> None:
        """Nothing is computed before ``run``."""
        self._method = method

    def run(self, phase: Phase, work: Pass, weight: float) -> PhaseResult:
        """Run a pass, and again while lists did not fit into their buffers."""

        def attempt() -> _Differentiated:
            _rewind(work)
            return _differentiate(self._method, phase, work, weight)

        found = repeat_while_growing(attempt)
        _accumulate(found.parameters, found.gradients)
        return found.result


class CapturedPasses:
    """Replays a CUDA graph for each phase, and for each pass of it if the method tells them apart.

    A graph keeps its own gradients beside the memory that all share. The first pass of a moment of
    the training runs op by op, which compiles kernels and lets cuDNN choose; the second one is
    captured. While schedules move, every moment is a new one, so let them stand still for some
    steps (``training.schedule_every``). Passes whose lists outgrow their buffers are run again:
    results are exact whatever happens.
    """

    def __init__(self, method: AdversarialMethod) -> None:
        """Nothing is computed before ``run``."""
        self._method = method
        self._launched = LaunchedPasses(method)
        self._warm: dict[Hashable, Hashable] = {}
        self._graphs: dict[Hashable, _Graph] = {}
        self._pool: Any = None

    def run(self, phase: Phase, work: Pass, weight: float) -> PhaseResult:
        """Replay a pass; capture it where that is due."""
        place = phase.name, work.first if self._method.knows_passes else None
        moment = self._method.moment(work.images_seen), len(work), weight
        if self._warm.get(place) != moment:
            self._warm[place] = moment
            return self._launched.run(phase, work, weight)
        graph = self._graphs.get(place)
        if graph is None or graph.moment != moment:
            graph = self._capture(phase, work, weight, moment)
            self._graphs[place] = graph
        graph.replay(work)
        try:
            check_captured()
        except CapacityExceededError:
            # Buffers have grown: all graphs know the old ones.
            self._graphs.clear()
            return self._launched.run(phase, work, weight)
        _accumulate(graph.found.parameters, graph.found.gradients)
        return graph.found.result

    def _capture(self, phase: Phase, work: Pass, weight: float, moment: Hashable) -> _Graph:
        # Passes never overlap, so graphs share memory. It goes with the last graph that has it, so
        # one that is out of date stays until the next one is there.
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        return _Graph(self._method, phase, work, weight, moment, self._pool)


class _Graph:
    """A captured pass with the tensors that it reads and writes."""

    def __init__(
        self,
        method: AdversarialMethod,
        phase: Phase,
        work: Pass,
        weight: float,
        moment: Hashable,
        pool: Any,
    ) -> None:
        self.moment = moment
        self._work = replace(
            work,
            real=_copied_batch(work.real),
            step_conditions=_copied_conditions(work.step_conditions),
            random=torch.Generator(method.device),
            step_random=torch.Generator(method.device),
        )
        self._graph = torch.cuda.CUDAGraph()
        for generator in (self._work.random, self._work.step_random):
            self._graph.register_generator_state(generator)
        with capturing(self._graph, pool=pool):
            self.found = _differentiate(method, phase, self._work, weight)

    def replay(self, work: Pass) -> None:
        """Compute the pass for other images and random numbers."""
        held, given = _tensors(self._work), _tensors(work)
        for mine, other in zip(held, given, strict=True):
            mine.copy_(other)
        self._work.random.manual_seed(work.random.initial_seed())
        self._work.step_random.manual_seed(work.step_random.initial_seed())
        self._graph.replay()


def _differentiate(
    method: AdversarialMethod, phase: Phase, work: Pass, weight: float
) -> _Differentiated:
    """Losses of a pass and their gradients; may be captured."""
    network = method.generator if phase.network == "generator" else method.discriminator
    losses, records = method.losses(phase, work)
    parameters = [p for p in network.parameters() if p.requires_grad]
    total = torch.stack(list(losses.values())).sum() * weight
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    used = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    detached = PhaseResult(
        {name: loss.detach() for name, loss in losses.items()},
        {name: value.detach() for name, value in records.items()},
    )
    return _Differentiated(detached, [p for p, _ in used], [g for _, g in used])


def _accumulate(parameters: Sequence[Parameter], gradients: Sequence[Tensor]) -> None:
    """Add to the gradients that are there, without keeping tensors that a replay overwrites."""
    known = [(p.grad, g) for p, g in zip(parameters, gradients, strict=True) if p.grad is not None]
    if known:
        sums, parts = zip(*known, strict=True)
        torch._foreach_add_(sums, parts)  # pyright: ignore[reportPrivateImportUsage]
    fresh = [(p, g) for p, g in zip(parameters, gradients, strict=True) if p.grad is None]
    if fresh:
        joined = torch.cat([g.reshape(-1) for _, g in fresh])
        parts = joined.split([g.numel() for _, g in fresh])
        for (parameter, _), part in zip(fresh, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def _rewind(work: Pass) -> None:
    """Let random numbers of a pass begin again."""
    for generator in (work.random, work.step_random):
        generator.manual_seed(generator.initial_seed())


def _tensors(work: Pass) -> list[Tensor]:
    """What a pass reads."""
    conditions = work.real.conditions, work.step_conditions
    rest = [tensor for c in conditions for tensor in (c.labels, c.lights) if tensor is not None]
    return [work.real.pixels, *rest]


def _copied_batch(real: RealBatch) -> RealBatch:
    return RealBatch(real.pixels.clone(), _copied_conditions(real.conditions))


def _copied_conditions(conditions: Conditions) -> Conditions:
    lights = conditions.lights
    return Conditions(conditions.labels.clone(), None if lights is None else lights.clone())

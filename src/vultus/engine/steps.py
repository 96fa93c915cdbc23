"""One optimisation step: launched op by op, or replayed as one CUDA graph."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vultus.core.seeding import exact_on_cpu
from vultus.data.frame_feed import FeedChoice, FrameFeed, check_order, make_feed
from vultus.data.frame_store import Batch, FrameStore
from vultus.engine.captures import capturing
from vultus.kernels.capacity import (
    CapacityExceededError,
    check_captured,
    overflow_flag,
    repeat_while_growing,
)
from vultus.methods.base import ReconstructionMethod
from vultus.optim.adam import GpuAdam
from vultus.optim.backward import backward_of_sum
from vultus.render.output import RenderOutput

__all__ = ["CapturedSteps", "EagerSteps", "Steps", "make_steps"]


@runtime_checkable
class Steps(Protocol):
    """Runs training steps in order."""

    terms: Mapping[str, Tensor]
    """Loss terms of the last step, detached."""

    def context(self) -> AbstractContextManager[object]:
        """What surrounds the whole training."""
        ...

    def run(self, step: int) -> None:
        """Start a step, counted from 1."""
        ...

    def settle(self) -> int:
        """Wait for the steps started so far; returns the last one that took place.

        Those after it must be run again: a buffer was too small, and has grown.
        """
        ...

    def forget(self) -> None:
        """Must be called after the parameters have been replaced."""
        ...


def make_steps(
    method: ReconstructionMethod,
    frames: FrameStore,
    order: Sequence[int],
    *,
    graph: bool = True,
    images: FeedChoice = "auto",
) -> Steps:
    """Choose how steps run: on the CPU always op by op, on a GPU as ``graph`` says.

    Args:
        method: What is trained; decides the device.
        frames: Images on the CPU.
        order: Rows of one epoch; step s sees row ``order[(s - 1) % len(order)]``.
        graph: Capture steps into CUDA graphs.
        images: Where images are kept while a GPU trains.

    Raises:
        ValueError: If ``order`` is empty or holds what is no row of the images, or if the images
            are to stay on the GPU and do not fit.
    """
    check_order(order, len(frames))
    if method.device.type == "cpu":
        return EagerSteps(method, _HostFeed(frames, order))
    with torch.cuda.device(method.device):
        feed = make_feed(frames, order, images)
        return CapturedSteps(method, feed) if graph else EagerSteps(method, feed)


class _HostFeed:
    """Images for training on the CPU."""

    def __init__(self, frames: FrameStore, order: Sequence[int]) -> None:
        self._frames, self._order = frames, list(order)
        self._row = 0

    def advance(self, step: int) -> None:
        self._row = self._order[(step - 1) % len(self._order)]

    def batch(self) -> Batch:
        return self._frames.batch([self._row])


class EagerSteps:
    """Launches a step op by op."""

    def __init__(self, method: ReconstructionMethod, feed: FrameFeed) -> None:
        """Nothing is computed before ``run``."""
        self._method, self._feed = method, feed
        self._last = 0
        self.terms: Mapping[str, Tensor] = {}

    def context(self) -> AbstractContextManager[object]:
        """Make the method's GPU the current one; on the CPU, make sums reproducible."""
        device = self._method.device
        return torch.cuda.device(device) if device.type == "cuda" else exact_on_cpu(device)

    def run(self, step: int) -> None:
        """Run a step, and again while its buffers were too small."""
        self._method.set_rates(step)
        self._feed.advance(step)
        output, self.terms = repeat_while_growing(
            lambda: _forward_and_backward(self._method, self._feed, step)
        )
        self._method.update(output, step)
        self._last = step

    def settle(self) -> int:
        """Every step has taken place when ``run`` returns."""
        return self._last

    def forget(self) -> None:
        """Nothing is kept."""


class CapturedSteps:
    """Replays a CUDA graph: pose, rig, render, losses, backward pass, optimiser in one launch.

    The first step of a phase runs op by op, which compiles its kernels and finds the size of their
    buffers; the second one is captured. If lists outgrow their buffers later on, all following
    steps leave everything as it is until ``settle`` notices. Steps are therefore exact whatever
    happens, and nothing waits for the GPU between two calls of ``settle``.
    """

    def __init__(self, method: ReconstructionMethod, feed: FrameFeed) -> None:
        """Nothing is computed before ``run``.

        Raises:
            TypeError: If the method's optimiser cannot be captured.
        """
        if not isinstance(method.optimizer, GpuAdam):
            raise TypeError(
                f"steps that are captured need GpuAdam, got {type(method.optimizer).__name__}"
            )
        self._method, self._feed = method, feed
        self._stream = torch.cuda.Stream(method.device)
        self._skip = overflow_flag(torch.device("cuda", torch.cuda.current_device()))
        self._taken = torch.zeros(1, dtype=torch.int64, device=method.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._phase: Hashable = None
        self._first: int | None = None
        self.terms: Mapping[str, Tensor] = {}

    def context(self) -> AbstractContextManager[object]:
        """Work on one stream: gradients of leaves remember where they were first computed."""
        self._stream.wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self._stream)

    def run(self, step: int) -> None:
        """Launch a step; does not wait for it."""
        phase = self._method.phase(step)
        if self._first is None:
            self._first = step
        self._method.set_rates(step)
        self._feed.advance(step)
        if phase != self._phase:
            self.forget()
            self._launch(step)
            self._phase = phase
            return
        self._optimizer.upload_rates()
        if self._graph is None:
            self._capture(step)
        assert self._graph is not None
        self._graph.replay()

    def settle(self) -> int:
        """Look whether lists fitted since the last call."""
        assert self._first is not None, "settle comes after run"
        taken = self._first - 1 + int(self._taken)
        try:
            check_captured()
        except CapacityExceededError:
            self.forget()
        return taken

    def forget(self) -> None:
        """Drop the graph; the next step runs op by op."""
        self._graph, self._phase = None, None
        self.terms = {}

    @property
    def _optimizer(self) -> GpuAdam:
        optimizer = self._method.optimizer
        assert isinstance(optimizer, GpuAdam)
        return optimizer

    def _launch(self, step: int) -> None:
        output, self.terms = repeat_while_growing(
            lambda: _forward_and_backward(self._method, self._feed, step)
        )
        self._finish(output, step)

    def _capture(self, step: int) -> None:
        graph = torch.cuda.CUDAGraph()
        with capturing(graph, stream=self._stream):
            output, self.terms = _forward_and_backward(self._method, self._feed, step)
            self._finish(output, step)
        self._graph = graph

    def _finish(self, output: RenderOutput, step: int) -> None:
        self._method.update(output, step, self._skip)
        self._taken += self._skip == 0


def _forward_and_backward(
    method: ReconstructionMethod, feed: FrameFeed, step: int
) -> tuple[RenderOutput, dict[str, Tensor]]:
    """Gradients of one step; may be captured."""
    method.optimizer.zero_grad(set_to_none=True)
    output, terms = method.training_step(feed.batch(), step)
    backward_of_sum(terms)
    return output, {name: term.detach() for name, term in terms.items()}

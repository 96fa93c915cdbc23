"""Room for lists whose length only the GPU knows: fixed buffers, looked after without waiting.

The rasterizers list primitives per bin in segments of fixed size. Kernels count what they list even
where it does not fit, and images of lists that did not fit are NaN. A call starts an asynchronous
copy of its counters to the host. Where nothing waits for the result (gradients are recorded, and
an earlier call has fitted) the counters are looked at in the backward pass, long after they have
arrived; if they tell of an overflow the buffers grow and ``CapacityExceededError`` asks the caller
to repeat the step, before any parameter has changed. Other calls repeat themselves. Buffers also
grow ahead of time, when a list comes close to its end, so that repeating is rare.

Calls that are captured into a CUDA graph cannot be looked after here: whoever replays the graph
calls ``check_captured`` now and then, and captures anew after it has raised. Until then
``overflow_flag`` tells later kernels of the graph that they work on NaN.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from vultus.kernels.parts import Part

__all__ = [
    "Capacity",
    "CapacityExceededError",
    "Reading",
    "check_captured",
    "overflow_flag",
    "raise_problem",
    "repeat_while_growing",
    "shared_capacity",
]

_INITIAL = 512
_HEADROOM = 1.25
"""Lists may grow by this factor before buffers must."""
_LARGE_STEP = 1024
"""Large buffers are multiples of this, small ones powers of two: few sizes, little waste."""
_MAX_REPEATS = 16

T = TypeVar("T")


class CapacityExceededError(RuntimeError):
    """A list did not fit into its buffer. The buffers have grown: repeat the step."""


@dataclass(frozen=True)
class _Landing:
    """Pinned memory for counters, and what tells of their arrival; both take long to make."""

    memory: Tensor
    event: torch.Event


_landings: dict[tuple[int, int], deque[_Landing]] = {}
"""Those that no reading holds, by GPU and length. They are never freed: some copies may still be on
their way, of which PyTorch does not know."""


class Reading:
    """Counters of one call on their way to the host."""

    def __init__(self, counters: Part, count: int, start_copy: Callable[[Part, Tensor], None]):
        """Start copying.

        Args:
            counters: Must not change before ``wait`` has returned.
            count: How many of them.
            start_copy: Copies the head of a part to pinned memory without waiting.
        """
        self._landing: _Landing | None = None
        device = counters.get_device()
        if device < 0:
            self._values = counters.head(count)
            return
        key = device, count
        self._unused = _landings.get(key) or _landings.setdefault(key, deque())
        self._landing = landing = self._take_landing(device, count)
        self._values = landing.memory
        start_copy(counters, landing.memory)
        landing.event.record()

    def _take_landing(self, device: int, count: int) -> _Landing:
        if self._unused:
            landing = self._unused.popleft()
            if landing.event.query():
                return landing
            self._unused.append(landing)
        # Whoever reads first must not decide where the memory can be written to.
        with torch.inference_mode(False):
            memory = torch.empty(count, dtype=torch.int32, pin_memory=True)
        return _Landing(memory, torch.Event(torch.device("cuda", device)))

    def __del__(self) -> None:
        """Leave the memory to later readings."""
        if self._landing is not None:
            self._unused.append(self._landing)

    def wait(self) -> list[int]:
        """The counters; waits for kernels that were launched before the copy, not for others."""
        if self._landing is not None:
            self._landing.event.synchronize()
        return self._values.tolist()


@dataclass
class Capacity:
    """Sizes of the buffers of all calls with the same shapes."""

    per_list: int = field(default_factory=lambda: _INITIAL)
    pairs: int = 0
    """Room for all (list, primitive) pairs together; deterministic gradients need it."""
    is_settled: bool = False
    """Whether a call has fitted since the last change."""
    peaks: Tensor | None = None
    """Longest list, most pairs and problem bits of captured calls since the last check, on the
    device."""
    problems: Sequence[str] = ()
    """What the problem bits of captured calls stand for."""

    def prepare_capture(self, device: torch.device) -> bool:
        """Allocate what captured calls write to; must happen outside of a capture.

        Returns:
            Whether that was still to be done.
        """
        if self.peaks is not None:
            return False
        with torch.inference_mode(False):
            self.peaks = torch.zeros(3, dtype=torch.int64, device=device)
        overflow_flag(device)
        return True

    def capture(
        self, note: Callable[[Tensor, Tensor, int], None], problems: Sequence[str] = ()
    ) -> None:
        """Let the graph that is being captured note what its calls need.

        Args:
            note: Raises ``peaks`` and ``overflow_flag`` where lists exceed the third argument.
            problems: What the problem bits stand for.

        Raises:
            RuntimeError: If no call of this kind has run before.
        """
        peaks = self._prepared_peaks()
        note(peaks, overflow_flag(peaks.device), self.per_list)
        self.problems = problems

    def capture_pairs(self, pairs: Tensor) -> None:
        """Let the graph note how many pairs it had; see ``capture``."""
        peaks, pairs = self._prepared_peaks(), pairs.view(1)
        torch.maximum(peaks[1:2], pairs, out=peaks[1:2])
        overflow_flag(peaks.device).logical_or_(pairs > self.pairs)

    def _prepared_peaks(self) -> Tensor:
        if self.peaks is None:
            raise RuntimeError("a call must run once before it is captured into a CUDA graph")
        return self.peaks

    def learn_from_captured(self) -> str | None:
        """Grow if captured calls since the last check came close to the limits; waits for the GPU.

        Returns:
            What one of them has found wrong with its inputs, if anything.
        """
        if self.peaks is None:
            return None
        longest, pairs, bits = self.peaks.tolist()
        self.peaks.zero_()
        if longest or pairs:
            self.update(longest, pairs)
        return _problem_of(bits, self.problems)

    def update(self, longest: int, pairs: int = 0) -> bool:
        """Learn what a call needed; grow if that is too close to the limits.

        Returns:
            Whether the call's lists fitted.
        """
        fits = longest <= self.per_list
        if longest * _HEADROOM > self.per_list:
            self.per_list = _round_up(int(longest * _HEADROOM))
        if pairs > self.pairs:
            self.pairs = int(pairs * _HEADROOM)
        self.is_settled = self.is_settled or fits
        return fits


def _round_up(length: int) -> int:
    """The next size of buffers above a length."""
    return min(1 << length.bit_length(), (length // _LARGE_STEP + 1) * _LARGE_STEP)


_shared: dict[tuple[object, ...], Capacity] = {}
_flags: dict[torch.device, Tensor] = {}


def shared_capacity(*key: object) -> Capacity:
    """The sizes that belong to a kind of call: same kernel, device, frames and image size.

    The number of primitives is no part of it, so that densification keeps what has been learnt.
    """
    if key not in _shared:
        _shared[key] = Capacity()
    return _shared[key]


def overflow_flag(device: torch.device) -> Int[Tensor, " 1"]:
    """Not zero from the first captured call on that did not fit, until ``check_captured``.

    Kernels of the same graph read it before they change what a repeated step needs.
    """
    if device not in _flags:
        with torch.inference_mode(False):
            _flags[device] = torch.zeros(1, dtype=torch.int32, device=device)
    return _flags[device]


def raise_problem(bits: int, problems: Sequence[str]) -> None:
    """Report what kernels have met with their inputs.

    Args:
        bits: One for each kind of problem.
        problems: What they stand for.

    Raises:
        ValueError: If a bit is set; says what the first one stands for.
    """
    if problem := _problem_of(bits, problems):
        raise ValueError(problem)


def _problem_of(bits: int, problems: Sequence[str]) -> str | None:
    return next((text for k, text in enumerate(problems) if bits >> k & 1), None) if bits else None


def check_captured() -> None:
    """Look at what captured calls have noted since the last check; waits for the GPU.

    Raises:
        CapacityExceededError: If a list did not fit. The images of that replay hold NaN.
        ValueError: If inputs were not what they must be, such as not finite.
    """
    # Only the flags know the buffers of the graph that ran: another one may have had smaller ones.
    have_overflowed = [bool(flag) for flag in _flags.values()]
    for flag in _flags.values():
        flag.zero_()
    # All learn before one reports, or what the others have noted would be lost with the flags.
    problems = [capacity.learn_from_captured() for capacity in _shared.values()]
    for problem in filter(None, problems):
        raise ValueError(problem)
    if any(have_overflowed):
        raise CapacityExceededError(
            "lists of a captured call did not fit; buffers have grown: capture the graph again"
        )


def repeat_while_growing(step: Callable[[], T]) -> T:
    """Run a training step, and again while buffers were too small for it.

    Args:
        step: Forward and backward pass; changes parameters only after the backward pass.

    Raises:
        CapacityExceededError: If buffers keep being too small.
    """
    for _ in range(_MAX_REPEATS):
        try:
            return step()
        except CapacityExceededError:
            continue
    return step()

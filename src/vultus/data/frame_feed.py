"""How images reach a GPU in training: all of them beforehand, or each shortly before its step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from vultus.data.frame_store import Batch, FrameStore

__all__ = [
    "FeedChoice",
    "FrameFeed",
    "ResidentFeed",
    "StreamedFeed",
    "check_order",
    "make_feed",
]

FeedChoice = Literal["auto", "resident", "streamed"]

_USABLE_SHARE = 0.5
"""Share of the free GPU memory that resident images may take."""
_NUM_SLOTS = 2
"""Streamed images on the GPU: one is in use while the next one arrives."""


@runtime_checkable
class FrameFeed(Protocol):
    """Gives every training step its image.

    ``batch`` may be captured into a CUDA graph: it reads the same addresses in every step.
    """

    def advance(self, step: int) -> None:
        """Prepare the image of a step, counted from 1; called on the host before the step."""
        ...

    def batch(self) -> Batch:
        """The image of the step, as work for the GPU."""
        ...


def make_feed(frames: FrameStore, order: Sequence[int], choice: FeedChoice) -> FrameFeed:
    """Keep images on the current GPU if there is room.

    Args:
        frames: Images on the CPU.
        order: Rows of one epoch.
        choice: ``auto`` asks how much memory is free.

    Raises:
        ValueError: If ``order`` is empty or holds what is no row of the images, or if ``resident``
            is asked for and there is no room.
    """
    check_order(order, len(frames))
    free, _ = torch.cuda.mem_get_info()
    fits = frames.num_bytes <= _USABLE_SHARE * free
    if choice == "resident" and not fits:
        gib = 2**30
        raise ValueError(
            f"images take {frames.num_bytes / gib:.2f} GiB, half of the free GPU memory is "
            f"{_USABLE_SHARE * free / gib:.2f} GiB; use streamed images"
        )
    if fits and choice != "streamed":
        return ResidentFeed(frames, order)
    return StreamedFeed(frames, order)


def check_order(order: Sequence[int], count: int) -> None:
    """Refuse an order that a GPU could not: it reads rows without looking at them.

    Args:
        order: Rows of one epoch.
        count: Number of images.

    Raises:
        ValueError: If there is no row, or one that is not in 0 ... ``count - 1``.
    """
    if len(order) == 0:
        raise ValueError("order must hold at least one row, got none")
    low, high = min(order), max(order)
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise ValueError(f"order must hold rows of the {count} images, got row {wrong}")


class ResidentFeed:
    """All images on the GPU, as bytes."""

    def __init__(self, frames: FrameStore, order: Sequence[int]) -> None:
        """Copy the images to the current GPU."""
        self._frames = frames.on_device("cuda")
        self._order = torch.tensor(order, device="cuda")
        self._row = torch.zeros(1, dtype=torch.int64, device="cuda")

    def advance(self, step: int) -> None:
        """Point to the image; the number travels with a kernel launch."""
        self._row.fill_((step - 1) % len(self._order))

    def batch(self) -> Batch:
        """Take the image out."""
        return self._frames.batch(self._order[self._row])


class StreamedFeed:
    """Images in pinned host memory; a thread copies the next one while a step runs."""

    def __init__(self, frames: FrameStore, order: Sequence[int]) -> None:
        """Allocate the slots; cameras and timesteps are small and move to the GPU as a whole."""
        self._source = frames
        self._order = list(order)
        self._small = frames.without_images().on_device("cuda")
        self._row = torch.zeros(1, dtype=torch.int64, device="cuda")
        shape = frames.pixels[:1].shape
        self._pinned = [_bytes(shape, pinned=True) for _ in range(_NUM_SLOTS)]
        self._slots = [_bytes(shape) for _ in range(_NUM_SLOTS)]
        self._current = _bytes(shape)
        self._has_left = [torch.cuda.Event() for _ in range(_NUM_SLOTS)]
        self._stream = torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vultus-frames")
        self._coming: tuple[int, Future[torch.cuda.Event]] | None = None

    def advance(self, step: int) -> None:
        """Make this step's image current and start copying the next one."""
        if self._coming is None or self._coming[0] != step:
            self._request(step)
        assert self._coming is not None
        event, slot = self._coming[1].result(), step % _NUM_SLOTS
        stream = torch.cuda.current_stream()
        stream.wait_event(event)
        self._current.copy_(self._slots[slot])
        self._has_left[slot].record(stream)
        self._row.fill_(self._row_of(step))
        self._request(step + 1)

    def batch(self) -> Batch:
        """Convert what is current."""
        return self._small.batch_with(self._row, self._current)

    def _row_of(self, step: int) -> int:
        return self._order[(step - 1) % len(self._order)]

    def _request(self, step: int) -> None:
        if self._coming is not None:
            self._coming[1].result()
        self._coming = step, self._thread.submit(self._copy, self._row_of(step), step % _NUM_SLOTS)

    def _copy(self, row: int, slot: int) -> torch.cuda.Event:
        # The pinned memory is free again once its last copy to the GPU is over.
        self._stream.synchronize()
        self._pinned[slot].copy_(self._source.pixels[row : row + 1])
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._has_left[slot])
            self._slots[slot].copy_(self._pinned[slot], non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        return event


def _bytes(shape: Sequence[int], *, pinned: bool = False) -> Tensor:
    device = "cpu" if pinned else "cuda"
    return torch.empty(tuple(shape), dtype=torch.uint8, device=device, pin_memory=pinned)

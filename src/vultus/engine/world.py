"""Processes that train together, as ``torchrun`` starts them; one process is a world of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["World", "join_world"]

_RANK, _LOCAL_RANK, _SIZE = "RANK", "LOCAL_RANK", "WORLD_SIZE"


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def shares(self, count: int) -> range:
        """This process's part of ``count`` pieces of work.

        Raises:
            ValueError: If they cannot be shared equally.
        """
        if count % self.size:
            raise ValueError(
                f"the passes of a step must be a multiple of the processes, got {count} passes "
                f"(batch / pass_size) and {self.size} processes"
            )
        return range(self.rank, count, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def first_says(self, value: int, device: torch.device) -> int:
        """What the first process has, in all."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, device=device)
        dist.broadcast(shared, 0)
        return int(shared)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that ``torchrun`` started, and leave them at the end.

    Args:
        device: ``cpu``, or a GPU; of several processes on a machine each takes its own GPU.

    Yields:
        The world, and this process's device.

    Raises:
        ValueError: If there are fewer GPUs than processes.
    """
    size = int(os.environ.get(_SIZE, "1"))
    if size == 1:
        # Kernels are launched, and graphs captured, on the current GPU.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield World(), device
        return
    if device.type == "cuda":
        local = int(os.environ[_LOCAL_RANK])
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"a machine must have a GPU per process, got {torch.cuda.device_count()} GPUs and "
                f"process {local} (counted from 0)"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(int(os.environ[_RANK]), size), device
        # Who leaves early cuts the connections that others are still closing.
        dist.barrier()
    finally:
        dist.destroy_process_group()

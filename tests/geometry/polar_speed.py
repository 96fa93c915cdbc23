"""Time the polar decomposition against the SVD: ``python tests/geometry/polar_speed.py``.

The least of 30 calls (others may use the machine) for 26 000 float32 matrices. With
``OMP_NUM_THREADS=1`` on a busy machine with two cores: 6.5 ms, with its backward pass 14.3 ms,
and 48.9 ms for the SVD.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from vultus.geometry.polar import polar_decomposition

NUM_FACES = 26_000


def milliseconds(function: Callable[[], object], repeats: int = 30) -> float:
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[2:])


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.eye(3) + 0.2 * torch.randn(NUM_FACES, 3, 3, generator=generator)
    leaf = matrices.clone().requires_grad_()
    upstream = torch.randn(NUM_FACES, 3, 3, generator=generator)

    def backward() -> None:
        torch.autograd.grad(polar_decomposition(leaf)[0], leaf, upstream)

    for name, function in (
        ("polar_decomposition", lambda: polar_decomposition(matrices)),
        ("polar_decomposition, forward and backward", backward),
        ("torch.linalg.svd", lambda: torch.linalg.svd(matrices)),
    ):
        sys.stdout.write(f"{name}: {milliseconds(function):.1f} ms\n")


if __name__ == "__main__":
    main()

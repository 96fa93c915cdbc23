"""What a ray query returns, and the order in which rays should be shot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["RayHits", "is_capturing", "morton_order"]


@dataclass(frozen=True)
class RayHits:
    """Nearest hits of rays."""

    distance: Float[Tensor, " r"]
    """In units of the direction's length; infinite on a miss."""
    face: Int[Tensor, " r"]
    """-1 on a miss."""
    barycentrics: Float[Tensor, "r 3"]
    """Weights of the face's three vertices; zero on a miss."""


def morton_order(points: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Sort points along a space-filling curve, so that neighbours in the list are near.

    The axes are scaled by one common factor. Equal cells keep their order.
    """
    num_points, num_axes = points.shape
    if num_points == 0:
        return torch.empty(0, dtype=torch.int64, device=points.device)
    num_bits = 30 // num_axes
    low = points.amin(dim=0)
    extent = float((points.amax(dim=0) - low).max())
    scale = (2**num_bits - 1) / extent if extent > 0 else 0.0
    cells = ((points - low) * scale).to(torch.int64)
    codes = torch.zeros(num_points, dtype=torch.int64, device=points.device)
    for bit in range(num_bits):
        for axis in range(num_axes):
            codes |= ((cells[:, axis] >> bit) & 1) << (num_axes * bit + axis)
    return torch.argsort(codes, stable=True)


def is_capturing(tensor: Tensor) -> bool:
    """Whether work on the tensor goes into a CUDA graph, so that its values cannot be seen."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()

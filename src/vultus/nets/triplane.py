"""Features of points from three axis-aligned planes.

Planes come in the order (x, y), (x, z), (y, z). The first axis of a pair runs along the last
dimension of its plane. A plane covers [-1, 1]²: the centres of its outer texels lie at -1 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["plane_shapes", "sample_planes", "sample_scales"]

_AXES = ((0, 1), (0, 2), (1, 2))


def plane_shapes(resolution: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    """Height and width of the three planes for a resolution of the x, y and z axis."""
    return tuple((resolution[second], resolution[first]) for first, second in _AXES)


def sample_planes(
    planes: Sequence[Float[Tensor, "g c _ _"]], points: Float[Tensor, "g p 3"]
) -> Float[Tensor, "g p c"]:
    """Multiply the bilinear samples of the three planes.

    Outside [-1, 1] the border continues, so gradients to such coordinates are zero.

    Args:
        planes: The three planes; g independent groups.
        points: Points of each group.

    Raises:
        ValueError: If there are not three planes.
    """
    if len(planes) != len(_AXES):
        raise ValueError(f"planes must be 3 (xy, xz, yz), got {len(planes)}")
    samples = []
    for plane, (first, second) in zip(planes, _AXES, strict=True):
        # All points in one row: the CPU's kernel vectorises along the last axis.
        grid = torch.stack([points[..., first], points[..., second]], dim=-1)[:, None]
        sampled = grid_sample(
            plane, grid, mode="bilinear", padding_mode="border", align_corners=True
        )
        samples.append(sampled[:, :, 0])
    return (samples[0] * samples[1] * samples[2]).transpose(1, 2)


def sample_scales(
    scales: Sequence[Sequence[Float[Tensor, "g c _ _"]]], points: Float[Tensor, "g p 3"]
) -> Float[Tensor, "g p c"]:
    """Add the features of several tri-planes, usually of growing resolution.

    Raises:
        ValueError: If there is none.
    """
    if not scales:
        raise ValueError("scales must hold at least one tri-plane")
    return torch.stack([sample_planes(planes, points) for planes in scales]).sum(dim=0)

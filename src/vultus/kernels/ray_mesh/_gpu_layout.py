"""Tensors of the GPU backend; importing them needs no Triton."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float32, Int32
from torch import Tensor

__all__ = ["GpuTopology", "GpuTree"]


@dataclass(frozen=True)
class GpuTopology:
    """What refits share. Ranges are places in the leaf order."""

    corners: Int32[Tensor, "f 3"]
    """Vertices of the faces in leaf order."""
    order: Int32[Tensor, " f"]
    ranges: Int32[Tensor, "nodes 2"]
    """First place of each node, and the place behind its last."""
    links: Int32[Tensor, "nodes 2"]
    """``skip`` and ``leaf`` of ``_tree``."""


@dataclass(frozen=True)
class GpuTree:
    """What the ray kernels read, in vectors of 16 bytes."""

    nodes: Float32[Tensor, "nodes 8"]
    """Low and high corner, then the bits of ``skip`` and ``leaf``."""
    triangles: Float32[Tensor, "f 12"]
    """Corner and the bits of the face's number, two edges with a word of padding each."""

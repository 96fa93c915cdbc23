"""The hierarchy on a GPU: topology uploaded once, boxes refitted by two Triton kernels.

The triangles of a node are a contiguous range of the leaf order, so its box is a minimum over that
range and needs neither the boxes of its children nor atomics. Boxes of whole chunks of the leaf
order are shared, so that even the root reads little.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from vultus.kernels.ray_mesh._gpu_layout import GpuTopology, GpuTree
from vultus.kernels.ray_mesh._tree import LEAF_STRIDE, PADDING
from vultus.kernels.triton_math import load4, store4
from vultus.kernels.triton_runtime import constexpr, jit, launch, tl

__all__ = ["refit_on_gpu", "upload_topology"]

_CHUNK = 64
_HUGE = tl.constexpr(1e30)


def upload_topology(
    faces: NDArray[np.int32],
    order: NDArray[np.int32],
    skip: NDArray[np.int32],
    leaf: NDArray[np.int32],
    device: torch.device,
) -> GpuTopology:
    """Copy the arrays of a hierarchy to a device."""
    counts = np.where(leaf >= 0, leaf % LEAF_STRIDE, 0)
    before = np.concatenate([[0], np.cumsum(counts)])
    ranges = np.stack([before[:-1], before[skip]], axis=1)
    arrays = (faces[order], order, ranges, np.stack([skip, leaf], axis=1))
    tensors = (torch.from_numpy(np.ascontiguousarray(x, np.int32)).to(device) for x in arrays)
    return GpuTopology(*tensors)


def refit_on_gpu(topology: GpuTopology, vertices: Float[Tensor, "v 3"]) -> GpuTree:
    """Boxes and triangles of a shape; never waits for the GPU."""
    points = vertices.detach().float().contiguous()
    num_faces, num_nodes = len(topology.order), len(topology.ranges)
    tree = GpuTree(points.new_empty(num_nodes, 8), points.new_empty(num_faces, 12))
    if num_faces == 0:
        return tree
    num_chunks = -(-num_faces // _CHUNK)
    chunks = points.new_empty(num_chunks, 8)
    launch(
        place_triangles, (num_chunks,), points, topology.corners, topology.order, tree.triangles,
        chunks, num_faces, CHUNK=_CHUNK, num_warps=1,
    )  # fmt: skip
    padding = float(PADDING) * (chunks[:, 4:7].amax() - chunks[:, :3].amin())
    launch(
        bound_nodes, (num_nodes,), tree.triangles, chunks, padding, topology.ranges,
        topology.links, tree.nodes, CHUNK=_CHUNK, num_warps=1,
    )  # fmt: skip
    return tree


@jit
def _load_corner(points, corners, mask):
    """Coordinates of one corner per triangle."""
    at = points + 3 * tl.load(corners, mask=mask, other=0)
    return (
        tl.load(at, mask=mask, other=0.0),
        tl.load(at + 1, mask=mask, other=0.0),
        tl.load(at + 2, mask=mask, other=0.0),
    )


@jit
def _low(a, first, second, mask):
    """Smallest coordinate of a triangle, from a corner and the edges that leave it."""
    return tl.where(mask, a + tl.minimum(tl.minimum(first, second), 0.0), _HUGE)


@jit
def _high(a, first, second, mask):
    return tl.where(mask, a + tl.maximum(tl.maximum(first, second), 0.0), -_HUGE)


@jit
def place_triangles(points, corners, order, triangles, chunks, num_faces, CHUNK: constexpr):
    """Write the triangles of a chunk of the leaf order, and the chunk's box.

    Args:
        points: Vertices.
        corners: Three vertices per place.
        order: Face of each place.
        triangles: See ``GpuTree``.
        chunks: Low corner, padding, high corner, padding.
        num_faces: Places.
        CHUNK: Places per program.
    """
    place = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    mask = place < num_faces
    a = _load_corner(points, corners + 3 * place, mask)
    b = _load_corner(points, corners + 3 * place + 1, mask)
    c = _load_corner(points, corners + 3 * place + 2, mask)
    face = tl.load(order + place, mask=mask, other=0).to(tl.float32, bitcast=True)
    e0 = b[0] - a[0]
    e1 = b[1] - a[1]
    e2 = b[2] - a[2]
    g0 = c[0] - a[0]
    g1 = c[1] - a[1]
    g2 = c[2] - a[2]
    zero = tl.zeros([CHUNK], tl.float32)
    store4(triangles + 12 * place, a[0], a[1], a[2], face, mask)
    store4(triangles + 12 * place + 4, e0, e1, e2, zero, mask)
    store4(triangles + 12 * place + 8, g0, g1, g2, zero, mask)
    out = chunks + 8 * tl.program_id(0)
    tl.store(out, tl.min(_low(a[0], e0, g0, mask), 0))
    tl.store(out + 1, tl.min(_low(a[1], e1, g1, mask), 0))
    tl.store(out + 2, tl.min(_low(a[2], e2, g2, mask), 0))
    tl.store(out + 4, tl.max(_high(a[0], e0, g0, mask), 0))
    tl.store(out + 5, tl.max(_high(a[1], e1, g1, mask), 0))
    tl.store(out + 6, tl.max(_high(a[2], e2, g2, mask), 0))


@jit
def _bounds_of_places(triangles, first, last, CHUNK: constexpr):
    """Lane by lane bounds of at most CHUNK triangles."""
    place = first + tl.arange(0, CHUNK)
    mask = place < last
    x, y, z, _ = load4(triangles + 12 * place, mask)
    e0, e1, e2, _ = load4(triangles + 12 * place + 4, mask)
    g0, g1, g2, _ = load4(triangles + 12 * place + 8, mask)
    return (
        _low(x, e0, g0, mask),
        _low(y, e1, g1, mask),
        _low(z, e2, g2, mask),
        _high(x, e0, g0, mask),
        _high(y, e1, g1, mask),
        _high(z, e2, g2, mask),
    )


@jit
def _union(a, b):
    """Lane by lane bounds of two sets."""
    return (
        tl.minimum(a[0], b[0]),
        tl.minimum(a[1], b[1]),
        tl.minimum(a[2], b[2]),
        tl.maximum(a[3], b[3]),
        tl.maximum(a[4], b[4]),
        tl.maximum(a[5], b[5]),
    )


@jit
def bound_nodes(triangles, chunks, padding, ranges, links, nodes, CHUNK: constexpr):
    """Write one node.

    Args:
        triangles: See ``GpuTree``.
        chunks: Boxes of chunks, from ``place_triangles``.
        padding: By how much boxes grow.
        ranges: See ``GpuTopology``.
        links: See ``GpuTopology``.
        nodes: See ``GpuTree``.
        CHUNK: Places per chunk.
    """
    node = tl.program_id(0)
    first = tl.load(ranges + 2 * node)
    last = tl.load(ranges + 2 * node + 1)
    # Whole chunks lie between the places before them and those behind them.
    chunk = (first + CHUNK - 1) // CHUNK
    end = last // CHUNK
    head = tl.minimum(chunk * CHUNK, last)
    bounds = _bounds_of_places(triangles, first, head, CHUNK)
    tail = _bounds_of_places(triangles, tl.maximum(end * CHUNK, head), last, CHUNK)
    bounds = _union(bounds, tail)
    while chunk < end:
        index = chunk + tl.arange(0, CHUNK)
        mask = index < end
        low_x, low_y, low_z, _ = load4(chunks + 8 * index, mask)
        high_x, high_y, high_z, _ = load4(chunks + 8 * index + 4, mask)
        zero = tl.zeros([CHUNK], tl.float32)
        shared = (
            _low(low_x, zero, zero, mask),
            _low(low_y, zero, zero, mask),
            _low(low_z, zero, zero, mask),
            _high(high_x, zero, zero, mask),
            _high(high_y, zero, zero, mask),
            _high(high_z, zero, zero, mask),
        )
        bounds = _union(bounds, shared)
        chunk += CHUNK
    margin = tl.load(padding)
    out = nodes + 8 * node
    for axis in tl.static_range(3):
        tl.store(out + axis, tl.min(bounds[axis], 0) - margin)
        tl.store(out + 3 + axis, tl.max(bounds[3 + axis], 0) + margin)
    skip = tl.load(links + 2 * node)
    leaf = tl.load(links + 2 * node + 1)
    tl.store(out + 6, skip.to(tl.float32, bitcast=True))
    tl.store(out + 7, leaf.to(tl.float32, bitcast=True))

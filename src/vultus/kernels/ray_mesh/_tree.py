"""Numba kernels that build and refit a bounding volume hierarchy.

The tree is a depth-first list of nodes: the left child of node n is n + 1, and ``skip[n]`` is the
first node behind the subtree of n. A traversal is one loop, and a refit reads the list backwards.
``leaf[n]`` is -1 for an inner node, else ``first * LEAF_STRIDE + count`` over the leaf order.
"""

from typing import no_type_check

import numpy as np

from vultus.core.simd import kernel

__all__ = ["LEAF_STRIDE", "PADDING", "build_tree", "refit_tree"]

LEAF_SIZE = 4
LEAF_STRIDE = 16
NUM_BINS = 12
# Just below the number of bins, so that the largest centroid falls into the last bin.
_BIN_SCALE = np.float32(NUM_BINS * 0.9999)
_HUGE = np.float32(1e30)
# Boxes grow by this share of the mesh's size. It covers the rounding of the slab test for origins
# within a few sizes of the mesh, so that rays along shared edges do not slip between two leaves.
PADDING = np.float32(2e-6)


@kernel()
@no_type_check
def _grow(boxes, row, others, other_row):
    """Extend one row of boxes (low corner, high corner) by a row of others.

    Rows are not passed as views: a view costs more than the work.
    """
    for axis in range(3):
        boxes[row, axis] = min(boxes[row, axis], others[other_row, axis])
        boxes[row, 3 + axis] = max(boxes[row, 3 + axis], others[other_row, 3 + axis])


@kernel()
@no_type_check
def _half_area(boxes, row):
    x = boxes[row, 3] - boxes[row, 0]
    y = boxes[row, 4] - boxes[row, 1]
    z = boxes[row, 5] - boxes[row, 2]
    return x * y + y * z + z * x


@kernel()
@no_type_check
def _sweep(bin_boxes, bin_counts, total, costs):
    """Find the cheapest cut between bins; returns (cost, last bin on the left) or bin -1.

    The row behind the last bin is scratch.
    """
    bin_boxes[NUM_BINS, :3] = _HUGE
    bin_boxes[NUM_BINS, 3:] = -_HUGE
    count = 0
    for index in range(NUM_BINS - 1, 0, -1):
        _grow(bin_boxes, NUM_BINS, bin_boxes, index)
        count += bin_counts[index]
        costs[index] = _half_area(bin_boxes, NUM_BINS) * count if count > 0 else _HUGE
    bin_boxes[NUM_BINS, :3] = _HUGE
    bin_boxes[NUM_BINS, 3:] = -_HUGE
    count = 0
    best_cost = _HUGE
    best_bin = -1
    for index in range(NUM_BINS - 1):
        _grow(bin_boxes, NUM_BINS, bin_boxes, index)
        count += bin_counts[index]
        if count == 0 or count == total:
            continue
        cost = _half_area(bin_boxes, NUM_BINS) * count + costs[index + 1]
        if cost < best_cost:
            best_cost = cost
            best_bin = index
    return best_cost, best_bin


@kernel()
@no_type_check
def _partition(centroids, order, start, stop, axis, low, scale, last_bin):
    """Move triangles of the left bins to the front; returns the first place on the right."""
    left = start
    right = stop - 1
    while left <= right:
        if int((centroids[order[left], axis] - low) * scale) <= last_bin:
            left += 1
        else:
            order[left], order[right] = order[right], order[left]
            right -= 1
    return left


@kernel()
@no_type_check
def _split(boxes, centroids, order, start, stop, bin_boxes, bin_counts, costs):
    """Divide order[start:stop] by the surface-area heuristic; returns the middle."""
    best_cost = _HUGE
    best_axis = -1
    best_bin = -1
    best_low = np.float32(0)
    best_scale = np.float32(0)
    for axis in range(3):
        low = _HUGE
        high = -_HUGE
        for place in range(start, stop):
            low = min(low, centroids[order[place], axis])
            high = max(high, centroids[order[place], axis])
        if high - low <= np.float32(1e-30):
            continue
        scale = _BIN_SCALE / (high - low)
        bin_counts[:] = 0
        bin_boxes[:, :3] = _HUGE
        bin_boxes[:, 3:] = -_HUGE
        for place in range(start, stop):
            triangle = order[place]
            index = int((centroids[triangle, axis] - low) * scale)
            bin_counts[index] += 1
            _grow(bin_boxes, index, boxes, triangle)
        cost, last_bin = _sweep(bin_boxes, bin_counts, stop - start, costs)
        if last_bin >= 0 and cost < best_cost:
            best_cost = cost
            best_axis = axis
            best_bin = last_bin
            best_low = low
            best_scale = scale
    if best_axis < 0:  # all centroids coincide
        return (start + stop) // 2
    return _partition(centroids, order, start, stop, best_axis, best_low, best_scale, best_bin)


@kernel()
@no_type_check
def build_tree(vertices, faces, order, skip, leaf):
    """Sort ``order`` into leaf order and write the nodes; returns how many there are.

    ``order`` starts as a permutation of the faces; ``skip`` and ``leaf`` hold 2 f entries.
    """
    num_faces = faces.shape[0]
    boxes = np.empty((num_faces, 6), np.float32)
    centroids = np.empty((num_faces, 3), np.float32)
    for face in range(num_faces):
        for axis in range(3):
            a = vertices[faces[face, 0], axis]
            b = vertices[faces[face, 1], axis]
            c = vertices[faces[face, 2], axis]
            boxes[face, axis] = min(a, min(b, c))
            boxes[face, 3 + axis] = max(a, max(b, c))
            centroids[face, axis] = np.float32(0.5) * (boxes[face, axis] + boxes[face, 3 + axis])
    bin_boxes = np.empty((NUM_BINS + 1, 6), np.float32)
    bin_counts = np.empty(NUM_BINS, np.int64)
    costs = np.empty(NUM_BINS, np.float32)
    # The ranges on the stack are disjoint and not empty, so that it never holds more than f.
    stack = np.empty((num_faces + 1, 2), np.int64)
    stack[0, 0] = 0
    stack[0, 1] = num_faces
    top = 1 if num_faces > 0 else 0
    node = 0
    while top > 0:
        top -= 1
        start = stack[top, 0]
        stop = stack[top, 1]
        if stop - start <= LEAF_SIZE:
            leaf[node] = start * LEAF_STRIDE + stop - start
        else:
            leaf[node] = -1
            middle = _split(boxes, centroids, order, start, stop, bin_boxes, bin_counts, costs)
            stack[top, 0] = middle
            stack[top, 1] = stop
            stack[top + 1, 0] = start
            stack[top + 1, 1] = middle
            top += 2
        node += 1
    for index in range(node - 1, -1, -1):
        skip[index] = index + 1 if leaf[index] >= 0 else skip[skip[index + 1]]
    return node


@kernel()
@no_type_check
def refit_tree(vertices, faces, order, skip, leaf, boxes, triangles):
    """Write triangles (corner, two edges) in leaf order, and all boxes from the bottom up."""
    low = _HUGE
    high = -_HUGE
    for place in range(order.shape[0]):
        a = faces[order[place], 0]
        b = faces[order[place], 1]
        c = faces[order[place], 2]
        for axis in range(3):
            corner = vertices[a, axis]
            triangles[place, axis] = corner
            triangles[place, 3 + axis] = vertices[b, axis] - corner
            triangles[place, 6 + axis] = vertices[c, axis] - corner
            low = min(low, corner)
            high = max(high, corner)
    padding = PADDING * (high - low)
    for node in range(skip.shape[0] - 1, -1, -1):
        if leaf[node] >= 0:
            first = leaf[node] // LEAF_STRIDE
            last = first + leaf[node] % LEAF_STRIDE
            for axis in range(3):
                low = _HUGE
                high = -_HUGE
                for place in range(first, last):
                    a = triangles[place, axis]
                    b = a + triangles[place, 3 + axis]
                    c = a + triangles[place, 6 + axis]
                    low = min(low, min(a, min(b, c)))
                    high = max(high, max(a, max(b, c)))
                boxes[node, axis] = low - padding
                boxes[node, 3 + axis] = high + padding
        else:
            left = node + 1
            right = skip[left]
            for axis in range(3):
                boxes[node, axis] = min(boxes[left, axis], boxes[right, axis])
                boxes[node, 3 + axis] = max(boxes[left, 3 + axis], boxes[right, 3 + axis])

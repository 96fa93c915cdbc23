"""The acceleration structure: built once per topology, refitted for every shape of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from vultus.kernels.ray_mesh._tree import build_tree, refit_tree

__all__ = ["Bvh", "PackedTree"]

# Packets carry triangle numbers as float32, which is exact below this.
_MAX_FACES = 2**24


@dataclass(frozen=True)
class PackedTree:
    """Arrays that the CPU kernels walk. Their layout is described in ``_tree.py``."""

    faces: NDArray[np.int32]
    order: NDArray[np.int32]
    """Face of each place in the leaf order."""
    skip: NDArray[np.int32]
    leaf: NDArray[np.int32]
    boxes: NDArray[np.float32]
    triangles: NDArray[np.float32]


@dataclass(frozen=True)
class Bvh:
    """A triangle mesh that rays can be shot at. Triangles are two-sided.

    The value is immutable: ``refit`` returns another one that shares the topology's arrays.
    """

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    tree: PackedTree

    @staticmethod
    def build(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Bvh:
        """Build the hierarchy with the binned surface-area heuristic.

        A mesh without faces is allowed; every ray misses it. Degenerate faces are never hit.

        Raises:
            ValueError: If a vertex is not finite, a face names a vertex that does not exist, or
                there are 2^24 faces or more.
        """
        _check_vertices(vertices)
        num_vertices, num_faces = vertices.shape[0], faces.shape[0]
        if num_faces >= _MAX_FACES:
            raise ValueError(f"faces must number less than 2^24, got {num_faces}")
        if num_faces and not (0 <= int(faces.min()) and int(faces.max()) < num_vertices):
            raise ValueError(
                f"faces must index the {num_vertices} vertices, got indices from "
                f"{int(faces.min())} to {int(faces.max())}"
            )
        packed_faces = faces.to("cpu", torch.int32).contiguous().numpy()
        order = np.arange(num_faces, dtype=np.int32)
        skip = np.empty(2 * num_faces, np.int32)
        leaf = np.empty(2 * num_faces, np.int32)
        count = build_tree(_as_float32(vertices), packed_faces, order, skip, leaf)
        tree = PackedTree(
            packed_faces,
            order,
            skip[:count].copy(),
            leaf[:count].copy(),
            np.empty((count, 6), np.float32),
            np.empty((num_faces, 9), np.float32),
        )
        return Bvh(vertices, faces, tree).refit(vertices)

    def refit(self, vertices: Float[Tensor, "v 3"]) -> Bvh:
        """The same topology in another shape.

        Raises:
            ValueError: If a vertex is not finite or the number of vertices changed.
        """
        if vertices.shape != self.vertices.shape:
            raise ValueError(
                f"vertices must keep the shape {tuple(self.vertices.shape)} of the topology, "
                f"got {tuple(vertices.shape)}"
            )
        _check_vertices(vertices)
        tree = replace(
            self.tree,
            boxes=np.empty_like(self.tree.boxes),
            triangles=np.empty_like(self.tree.triangles),
        )
        refit_tree(
            _as_float32(vertices),
            tree.faces,
            tree.order,
            tree.skip,
            tree.leaf,
            tree.boxes,
            tree.triangles,
        )
        return Bvh(vertices, self.faces, tree)


def _check_vertices(vertices: Float[Tensor, "v 3"]) -> None:
    if not bool(torch.isfinite(vertices).all()):
        broken = ~torch.isfinite(vertices).all(dim=1)
        first = int(broken.nonzero()[0])
        raise ValueError(
            f"vertices must be finite, got {int(broken.sum())} that are not; the first is row "
            f"{first}: {vertices[first].tolist()}"
        )


def _as_float32(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()

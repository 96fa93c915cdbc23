"""The acceleration structure: built once per topology, refitted for every shape of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from vultus.kernels.ray_mesh._gpu_layout import GpuTopology, GpuTree
from vultus.kernels.ray_mesh._tree import build_tree, refit_tree
from vultus.kernels.ray_mesh.rays import is_capturing

__all__ = ["Bvh", "PackedTree", "TreeTopology"]

# Packets carry triangle numbers as float32, which is exact below this.
_MAX_FACES = 2**24


@dataclass(frozen=True, eq=False)
class TreeTopology:
    """What stays the same when the mesh moves. The layout is described in ``_tree.py``."""

    faces: NDArray[np.int32]
    order: NDArray[np.int32]
    """Face of each place in the leaf order."""
    skip: NDArray[np.int32]
    leaf: NDArray[np.int32]
    _uploaded: dict[torch.device, GpuTopology] = field(default_factory=dict, repr=False)

    def on(self, device: torch.device) -> GpuTopology:
        """The copy of a device, made once."""
        if device not in self._uploaded:
            from vultus.kernels.ray_mesh._gpu_tree import upload_topology

            arrays = (self.faces, self.order, self.skip, self.leaf)
            self._uploaded[device] = upload_topology(*arrays, device)
        return self._uploaded[device]


@dataclass(frozen=True)
class PackedTree:
    """Arrays that the CPU kernels walk."""

    boxes: NDArray[np.float32]
    triangles: NDArray[np.float32]


@dataclass(frozen=True)
class Bvh:
    """A triangle mesh that rays can be shot at. Triangles are two-sided.

    The value is immutable: ``refit`` returns another one that shares the topology. Boxes are
    fitted on the device that asks first.
    """

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    topology: TreeTopology

    @cached_property
    def tree(self) -> PackedTree:
        """For the CPU backend."""
        topology = self.topology
        boxes = np.empty((len(topology.skip), 6), np.float32)
        triangles = np.empty((len(topology.faces), 9), np.float32)
        refit_tree(
            _as_float32(self.vertices), topology.faces, topology.order, topology.skip,
            topology.leaf, boxes, triangles,
        )  # fmt: skip
        return PackedTree(boxes, triangles)

    @cached_property
    def gpu_tree(self) -> GpuTree:
        """For the GPU backend, on the device of the vertices."""
        from vultus.kernels.ray_mesh._gpu_tree import refit_on_gpu

        return refit_on_gpu(self.topology.on(self.vertices.device), self.vertices)

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
        topology = TreeTopology(packed_faces, order, skip[:count].copy(), leaf[:count].copy())
        return Bvh(vertices, faces, topology)

    def refit(self, vertices: Float[Tensor, "v 3"], *, check_values: bool = True) -> Bvh:
        """The same topology in another shape; a CUDA graph may capture it, which checks no values.

        Args:
            vertices: Another shape.
            check_values: ``False`` where they are known to be finite: a look at them would wait
                for a GPU.

        Raises:
            ValueError: If a vertex is not finite or the number of vertices changed.
        """
        if vertices.shape != self.vertices.shape:
            raise ValueError(
                f"vertices must keep the shape {tuple(self.vertices.shape)} of the topology, "
                f"got {tuple(vertices.shape)}"
            )
        if check_values:
            _check_vertices(vertices)
        return Bvh(vertices, self.faces, self.topology)


def _check_vertices(vertices: Float[Tensor, "v 3"]) -> None:
    if is_capturing(vertices):
        return
    if not bool(torch.isfinite(vertices).all()):
        broken = ~torch.isfinite(vertices).all(dim=1)
        first = int(broken.nonzero()[0])
        raise ValueError(
            f"vertices must be finite, got {int(broken.sum())} that are not; the first is row "
            f"{first}: {vertices[first].tolist()}"
        )


def _as_float32(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()

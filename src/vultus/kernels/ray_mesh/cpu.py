"""CPU backend: packets of 16 rays in float32, on all threads."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vultus.core.simd import run_workers
from vultus.kernels.ray_mesh._packets import bake_visibility, trace_rays
from vultus.kernels.ray_mesh.bvh import Bvh
from vultus.kernels.ray_mesh.rays import RayHits

__all__ = ["any_hit", "first_hit", "vertex_visibility"]


def _run(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    order: Int[Tensor, " r"],
    t_min: float,
    t_max: float,
    stop_at_any: bool,
    num_threads: int,
) -> tuple[Float[Tensor, " d"], Int[Tensor, " r"], Float[Tensor, "d 3"]]:
    """Distance, face and barycentrics; with ``stop_at_any`` only the sign of the face is there."""
    num_rays = origins.shape[0]
    num_details = 0 if stop_at_any else num_rays
    distance = torch.empty(num_details, dtype=torch.float32)
    face = torch.empty(num_rays, dtype=torch.int64)
    barycentrics = torch.empty(num_details, 3, dtype=torch.float32)
    run_workers(
        num_threads,
        trace_rays,
        np.zeros(1, np.int64),
        *_tree_arrays(bvh),
        bvh.topology.order,
        _float_rows(origins),
        _float_rows(directions),
        order.numpy(),
        np.float32(t_min),
        np.float32(t_max),
        stop_at_any,
        distance.numpy(),
        face.numpy(),
        barycentrics.numpy(),
    )
    return distance, face, barycentrics


def first_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    order: Int[Tensor, " r"],
    t_min: float,
    t_max: float,
    num_threads: int,
) -> RayHits:
    """Nearest hits in float32; see ``vultus.kernels.ray_mesh.first_hit``."""
    return RayHits(*_run(bvh, origins, directions, order, t_min, t_max, False, num_threads))


def any_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    order: Int[Tensor, " r"],
    t_min: float,
    t_max: float,
    num_threads: int,
) -> Bool[Tensor, " r"]:
    """Whether rays hit; see ``vultus.kernels.ray_mesh.any_hit``."""
    return _run(bvh, origins, directions, order, t_min, t_max, True, num_threads)[1] >= 0


def vertex_visibility(
    bvh: Bvh,
    points: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"] | None,
    lights: Float[Tensor, "k 4"],
    order: Int[Tensor, " v"],
    bias: float,
    num_threads: int,
) -> UInt8[Tensor, "v k"]:
    """Bake visibility; see ``vultus.kernels.ray_mesh.vertex_visibility``."""
    visible = torch.empty(points.shape[0], lights.shape[0], dtype=torch.uint8)
    run_workers(
        num_threads,
        bake_visibility,
        np.zeros(1, np.int64),
        *_tree_arrays(bvh),
        _float_rows(points),
        _float_rows(torch.zeros_like(points) if normals is None else normals),
        order.numpy(),
        _float_rows(lights),
        np.float32(bias),
        normals is not None,
        visible.numpy(),
    )
    return visible


def _tree_arrays(bvh: Bvh) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return bvh.tree.boxes, bvh.topology.skip, bvh.topology.leaf, bvh.tree.triangles


def _float_rows(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float32).contiguous().numpy()

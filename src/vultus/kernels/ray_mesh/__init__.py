"""Rays against triangle meshes: nearest hits, occlusion, and visibility baked per vertex.

``"ref"`` tests all pairs in the dtype of the inputs, ``"cpu"`` and ``"gpu"`` walk a hierarchy in
float32. The GPU takes rays in the order given, which its threads need less than the CPU's packets.
Checking values waits for a GPU: ``check_values=False`` trusts them instead, and what a CUDA graph
captures is never checked.
"""

from __future__ import annotations

from types import ModuleType
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Int32, UInt8
from torch import Tensor

from vultus.core.threads import num_threads as available_threads
from vultus.kernels.ray_mesh import cpu, ref
from vultus.kernels.ray_mesh.bvh import Bvh
from vultus.kernels.ray_mesh.packing import pack_visibility, unpack_visibility
from vultus.kernels.ray_mesh.rays import RayHits, is_capturing, morton_order

__all__ = [
    "Backend",
    "Bvh",
    "RayHits",
    "any_hit",
    "first_hit",
    "morton_order",
    "pack_visibility",
    "unpack_visibility",
    "vertex_visibility",
    "visibility_words",
]

Backend = Literal["auto", "ref", "cpu", "gpu"]


def first_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t_min: float = 0.0,
    t_max: float = torch.inf,
    *,
    is_sorted: bool = False,
    check_values: bool = True,
    num_threads: int | None = None,
    backend: Backend = "auto",
) -> RayHits:
    """Find the nearest triangle along each ray.

    Hits have t_min <= t < t_max, where a hit lies at origin + t * direction; directions need not be
    unit, but their length should lie between 1e-9 and 1e9. Triangles are two-sided. The float32
    backends accept hits 1e-5 of an edge outside a triangle, so that no ray slips between two
    neighbours.

    Args:
        bvh: The mesh.
        origins: Starts of the rays.
        directions: Zero components are allowed.
        t_min: Start of the interval.
        t_max: End of the interval.
        is_sorted: Claims that rays close in the list are close in space (such as 4x4 pixel blocks)
            and saves the sorting that packets of 16 rays need on the CPU.
        check_values: ``False`` where rays are known to be finite, and directions not to be zero.
        num_threads: On the CPU; ``None`` takes all of ``vultus.core.threads.num_threads``.
        backend: ``"auto"`` follows the device of ``origins``.

    Raises:
        ValueError: If a ray is not finite, a direction is zero, or a tensor is on the wrong device.
        ModuleNotFoundError: For ``backend="gpu"`` without Triton.
    """
    if check_values:
        _check_rays(origins, directions)
    chosen = _resolve(backend, origins)
    if chosen != "cpu":
        return _load(chosen).first_hit(bvh, origins, directions, t_min, t_max)
    order = _ray_order(origins, directions, is_sorted)
    threads = num_threads or available_threads()
    return cpu.first_hit(bvh, origins, directions, order, t_min, t_max, threads)


def any_hit(
    bvh: Bvh,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    t_min: float = 0.0,
    t_max: float = torch.inf,
    *,
    is_sorted: bool = False,
    check_values: bool = True,
    num_threads: int | None = None,
    backend: Backend = "auto",
) -> Bool[Tensor, " r"]:
    """Tell which rays hit a triangle; arguments and errors as in ``first_hit``."""
    if check_values:
        _check_rays(origins, directions)
    chosen = _resolve(backend, origins)
    if chosen != "cpu":
        return _load(chosen).any_hit(bvh, origins, directions, t_min, t_max)
    order = _ray_order(origins, directions, is_sorted)
    threads = num_threads or available_threads()
    return cpu.any_hit(bvh, origins, directions, order, t_min, t_max, threads)


def vertex_visibility(
    bvh: Bvh,
    points: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"] | None,
    lights: Float[Tensor, "k 3"] | Float[Tensor, "k 4"],
    bias: float,
    *,
    is_wanted: Bool[Tensor, " v"] | None = None,
    is_sorted: bool = False,
    check_values: bool = True,
    num_threads: int | None = None,
    backend: Backend = "auto",
) -> UInt8[Tensor, "v k"]:
    """Bake which lights each point sees (1) and which are hidden by the mesh (0).

    Rays start at point + bias * normal. Lights below the horizon (negative product with the normal)
    are hidden without a ray. Without normals rays start at the points and there is no horizon.

    Args:
        bvh: The mesh that casts the shadows.
        points: Often its vertices.
        normals: Unit and pointing outwards, or ``None``.
        lights: Directions towards lights at infinity; or homogeneous (x, y, z, w), where w = 0 is a
            direction and w = 1 a position, which only what lies before it can hide.
        bias: Offset along the normal in world units, against hits of the point's own triangles.
        is_wanted: Points to look at; rows of the others are 0. By default all.
        is_sorted: Claims that points close in the list are close in space.
        check_values: ``False`` where points, normals and lights are known to be valid.
        num_threads: ``None`` takes all of ``vultus.core.threads.num_threads``.
        backend: ``"auto"`` follows the device of ``points``.

    Raises:
        ValueError: If an input is not finite, a direction is zero, a w is neither 0 nor 1, or a
            tensor is on the wrong device.
        ModuleNotFoundError: As in ``first_hit``.
    """
    if lights.shape[1] == 3:
        lights = torch.cat([lights, lights.new_zeros(lights.shape[0], 1)], dim=1)
    if check_values and not is_capturing(points):
        _check_lights(lights)
        _check_finite(points=points, lights=lights)
        if normals is not None:
            _check_finite(normals=normals)
    chosen = _resolve(backend, points)
    lights = lights.to(points)
    if chosen == "gpu":
        return _load(chosen).vertex_visibility(bvh, points, normals, lights, bias, is_wanted)
    if is_wanted is not None:
        rows = is_wanted.nonzero()[:, 0]
        visible = torch.zeros(len(points), len(lights), dtype=torch.uint8, device=points.device)
        visible[rows] = vertex_visibility(
            bvh, points[rows], None if normals is None else normals[rows], lights, bias,
            is_sorted=is_sorted, check_values=False, num_threads=num_threads, backend=chosen,
        )  # fmt: skip
        return visible
    if chosen == "ref":
        return ref.vertex_visibility(bvh, points, normals, lights, bias)
    order = torch.arange(points.shape[0]) if is_sorted else morton_order(points)
    threads = num_threads or available_threads()
    return cpu.vertex_visibility(bvh, points, normals, lights, order, bias, threads)


def visibility_words(
    bvh: Bvh,
    points: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"] | None,
    directions: Float[Tensor, "k 3"],
    bias: float,
    *,
    rows: Int[Tensor, " m"] | None = None,
    check_values: bool = True,
    backend: Backend = "auto",
) -> Int32[Tensor, "v words"]:
    """Bake which lights at infinity each point sees, as ``pack_visibility`` packs it.

    Other arguments and errors are those of ``vertex_visibility``.

    Args:
        bvh: The mesh that casts the shadows.
        points: Often its vertices.
        normals: Unit and pointing outwards, or ``None``.
        directions: Towards the lights.
        bias: Offset along the normal.
        rows: Points to look at, each once and best with neighbours close in space; by default all.
            Words of the others are 0.
        check_values: ``False`` where all is known to be valid: a row that does not exist would be
            read and written outside of the tensors of a GPU.
        backend: ``"auto"`` follows the device of ``points``.

    Raises:
        ValueError: Also if a row does not exist.
    """
    chosen = _resolve(backend, points)
    if check_values and not is_capturing(points):
        _check_lights(torch.nn.functional.pad(directions, (0, 1)))
        _check_finite(points=points, lights=directions)
        if normals is not None:
            _check_finite(normals=normals)
        if rows is not None:
            _check_rows(rows, len(points))
    if rows is not None:
        # Other types are refused by index_copy, and offsets overflow in them on a GPU.
        rows = rows.long()
    if chosen == "gpu":
        directions = directions.to(points)
        return _load(chosen).visibility_words(bvh, points, normals, directions, bias, rows)
    if rows is None:
        visible = vertex_visibility(
            bvh, points, normals, directions, bias, check_values=False, backend=chosen
        )
        return pack_visibility(visible)
    found = vertex_visibility(
        bvh, points[rows], None if normals is None else normals[rows], directions, bias,
        is_sorted=True, check_values=False, backend=chosen,
    )  # fmt: skip
    packed = pack_visibility(found)
    return packed.new_zeros(len(points), packed.shape[1]).index_copy(0, rows, packed)


def _resolve(backend: Backend, tensor: Tensor) -> Literal["ref", "cpu", "gpu"]:
    is_on_cpu = tensor.device.type == "cpu"
    if backend == "cpu" and not is_on_cpu:
        raise ValueError(f"backend='cpu' needs tensors on the CPU, got {tensor.device}")
    if backend == "auto":
        return "cpu" if is_on_cpu else "gpu"
    return backend


def _load(backend: Literal["ref", "gpu"]) -> ModuleType:
    """Import late: Triton must not be needed where there is no GPU."""
    if backend == "ref":
        return ref
    from vultus.kernels.ray_mesh import gpu

    return gpu


def _ray_order(
    origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], is_sorted: bool
) -> Int[Tensor, " r"]:
    """An order in which neighbours start close to each other and go the same way."""
    if is_sorted:
        return torch.arange(origins.shape[0])
    extent = (origins.amax(dim=0) - origins.amin(dim=0)).max() if len(origins) else 1.0
    unit = torch.nn.functional.normalize(directions, dim=1)
    # Origins span at most 1 and directions 2, so that directions weigh one bit more.
    scaled = origins / max(float(extent), 1e-30)
    return morton_order(torch.cat([scaled, unit], dim=1))


def _check_rays(origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"]) -> None:
    if is_capturing(origins):
        return
    # One flag, so that a GPU is waited for once. A sum is finite where all is.
    is_finite = torch.isfinite(origins.sum() + directions.sum())
    is_direction = (directions != 0).any(dim=1)
    if bool(is_finite & is_direction.all()):
        return
    _check_finite(origins=origins, directions=directions)
    if not bool(is_direction.all()):
        row = int(is_direction.int().argmin())
        raise ValueError(f"directions must not be zero, got row {row}")


def _check_lights(lights: Float[Tensor, "k 4"]) -> None:
    if not bool(((lights[:, 3] == 0) | (lights[:, 3] == 1)).all()):
        raise ValueError(f"lights must have w = 0 or w = 1, got {lights[:, 3].unique().tolist()}")
    if bool((lights == 0).all(dim=1).any()):
        raise ValueError("lights must not have the direction (0, 0, 0)")


def _check_rows(rows: Int[Tensor, " m"], count: int) -> None:
    if not bool(((rows >= 0) & (rows < count)).all()):
        least, largest = int(rows.min()), int(rows.max())
        raise ValueError(f"rows must lie in [0, {count}), got {least} to {largest}")


def _check_finite(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        # The sum is much faster to test.
        if not bool(torch.isfinite(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
            row = int((~torch.isfinite(tensor)).any(dim=1).nonzero()[0])
            raise ValueError(f"{name} must be finite, got row {row}: {tensor[row].tolist()}")

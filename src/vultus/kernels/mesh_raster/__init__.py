"""Differentiable rasterization of triangle meshes: visibility, interpolation, antialiasing.

Two decisions are discrete and left to a backend: which face a pixel centre sees, and which
silhouette edge passes between two neighbouring centres. What follows is differentiable algebra in
PyTorch, the same for all backends: barycentric coordinates and depth of the seen point, vertex
attributes there, and the blend of the two pixels at a silhouette, through which images tell
vertices where outlines should be. Gradients of any order reach vertices, cameras and attributes.

Reference: Laine et al., Modular Primitives for High-Performance Differentiable Rendering, 2020,
sections 3.3 to 3.6. There an edge is looked for in the triangle of the nearer pixel alone; here the
surface is followed from one centre to the other, so that triangles may be smaller than pixels.

Backends: ``"ref"`` tests all pairs of pixels and faces in the dtype of its inputs, ``"cpu"`` and
``"gpu"`` are float32. Visibility is the same whatever the number of threads or the order in which a
GPU works. There, sums of blends and gradients depend on that order in their last bits unless
``torch.use_deterministic_algorithms(True)`` is called.
"""

from __future__ import annotations

from types import ModuleType
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vultus.geometry.cameras import Camera, project_points
from vultus.kernels.mesh_raster import ref
from vultus.kernels.mesh_raster._types import Fragments
from vultus.kernels.mesh_raster.adjacency import adjacent_pairs, face_neighbors
from vultus.kernels.mesh_raster.ref import edge_areas

__all__ = [
    "Backend",
    "Fragments",
    "adjacent_pairs",
    "antialias",
    "face_neighbors",
    "interpolate",
    "rasterize_mesh",
]

Backend = Literal["auto", "ref", "cpu", "gpu"]

_NEAR = 0.01
"""Camera z in world units; faces with a corner before it are not drawn."""


def rasterize_mesh(
    vertices: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    camera: Camera,
    *,
    near: float = _NEAR,
    backend: Backend = "auto",
) -> Fragments:
    """Find what every pixel centre sees of a mesh, from outside or inside.

    Of faces at equal depth the first is seen. A face with a corner that is nearer than ``near`` is
    left out as a whole.

    Args:
        vertices: World, one set per camera.
        faces: Triangles; on a GPU their indices are trusted.
        camera: Of each frame; gradients reach it.
        near: Camera z, positive.
        backend: ``"auto"``: ``"cpu"`` or ``"gpu"`` for float32 vertices, ``"ref"`` for all others.

    Raises:
        ValueError: If batch sizes differ, ``near`` is not positive, a face names a vertex that is
            not there, or the backend does not exist.
        TypeError: If a backend gets what it does not compute with.
    """
    if len(vertices) != len(camera):
        raise ValueError(f"vertices must be one set per camera, {len(camera)}, got {len(vertices)}")
    if not near > 0:
        raise ValueError(f"near must be positive, got {near}")
    _check_faces(faces, vertices)
    pixels, depth = project_points(vertices, camera)
    screen = torch.cat([pixels, depth[..., None]], dim=-1)
    size = (camera.height, camera.width)
    face_index = _load(backend, screen).visible_faces(screen.detach(), faces, size, near)
    barycentrics, depth = _seen_points(screen, faces, face_index)
    return Fragments(face_index, barycentrics, depth, screen)


def interpolate(
    attributes: Float[Tensor, "b v d"], faces: Int[Tensor, "f 3"], fragments: Fragments
) -> Float[Tensor, "b d h w"]:
    """Interpolate what vertices have at the seen points; 0 where no face is seen.

    Args:
        attributes: Of the vertices that were rasterized.
        faces: As they were rasterized.
        fragments: Gradients reach the vertices through their barycentric coordinates.
    """
    corners = _seen_corners(attributes, faces, fragments.face_index)
    return (corners * fragments.barycentrics.movedim(1, -1)[..., None]).sum(dim=-2).movedim(-1, 1)


def antialias(
    image: Float[Tensor, "b d h w"],
    fragments: Fragments,
    faces: Int[Tensor, "f 3"],
    neighbors: Int32[Tensor, "f 3"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b d h w"]:
    """Blend pixels along silhouettes as far as the mesh covers them.

    Where a silhouette edge crosses the segment between two pixel centres at a share t from the
    nearer surface, that surface takes t - 1/2 of the other pixel, or the other pixel 1/2 - t of
    this one. An edge counts along the axis that it is steeper to, so that sums of coverage are
    areas: they and their gradients are exact for straight outlines. Of specks and slivers, whose
    pixel would give away more than all of itself to its neighbours, shares are scaled to add up to
    one: what comes out lies between the values that are blended.

    Waits for a GPU once, to learn how many pixels there are to blend.

    Args:
        image: What was drawn: colours, or coverage.
        fragments: Of the mesh.
        faces: As they were rasterized.
        neighbors: ``face_neighbors(faces)``.
        backend: As in ``rasterize_mesh``.

    Raises:
        ValueError: If the image has another size than the fragments.
    """
    batch, channels, height, width = image.shape
    if (batch, height, width) != fragments.face_index.shape:
        raise ValueError(
            f"image must have frames and size {tuple(fragments.face_index.shape)}, "
            f"got shape {tuple(image.shape)}"
        )
    screen, depth = fragments.screen, fragments.depth[:, 0].detach()
    edges = _load(backend, screen).silhouette_edges(
        fragments.face_index, depth, screen.detach(), faces, neighbors
    )
    frame, axis, row, column = (edges >= 0).nonzero(as_tuple=True)
    here = (frame * height + row) * width + column
    there = here + torch.where(axis == 0, 1, width)
    is_first = depth.flatten()[here] <= depth.flatten()[there]
    pairs = frame, axis, row, column
    crossing = _crossings(screen, faces, edges[pairs], pairs)
    center = torch.where(axis == 0, column, row).to(screen) + 0.5
    surplus = torch.where(is_first, crossing - center, center + 1.0 - crossing) - 0.5
    # The nearer surface grows into the other pixel, or the other one into its own.
    grows = surplus > 0
    target = torch.where(is_first == grows, there, here)
    source = torch.where(is_first == grows, here, there)
    colors = image.movedim(1, -1).reshape(-1, channels)
    # Not ``abs``, which has no gradient where an edge passes exactly between two pixels.
    weight = torch.where(grows, surplus, -surplus)
    given = weight.new_zeros(len(colors)).index_add(0, target, weight)
    weight = weight / given.clamp(min=1.0)[target]
    change = weight[:, None] * (colors[source] - colors[target])
    blended = colors.index_add(0, target, change.to(colors))
    return blended.reshape(batch, height, width, channels).movedim(-1, 1)


def _crossings(
    screen: Tensor, faces: Tensor, edges: Tensor, pairs: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Tensor:
    """Coordinate, along a pair's axis, at which its edge crosses the line through its centres."""
    frame, axis, row, column = pairs
    face, corner = (edges // 3).long(), (edges % 3).long()
    first = screen[frame, faces[face, corner], :2]
    second = screen[frame, faces[face, (corner + 1) % 3], :2]
    along, across = axis[:, None], 1 - axis[:, None]
    level = torch.where(axis == 0, row, column).to(screen) + 0.5
    start, reach = first.gather(1, across)[:, 0], (second - first).gather(1, across)[:, 0]
    share = (level - start) / reach
    return torch.lerp(first.gather(1, along)[:, 0], second.gather(1, along)[:, 0], share)


def _seen_corners(rows: Tensor, faces: Tensor, face_index: Tensor) -> Tensor:
    """Rows [b v d] of the corners of the seen faces, [b h w 3 d]; any where none is seen."""
    first = rows.shape[1] * torch.arange(len(rows), device=rows.device)[:, None, None, None]
    corners = faces[face_index.long().clamp(min=0)] + first
    # ``index_select`` has the fastest gradient of all ways to take rows out.
    return rows.flatten(0, 1).index_select(0, corners.flatten()).unflatten(0, corners.shape)


def _pixel_centers(face_index: Tensor, like: Tensor) -> Tensor:
    height, width = face_index.shape[1:]
    x = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
    y = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1)


def _seen_points(screen: Tensor, faces: Tensor, face_index: Tensor) -> tuple[Tensor, Tensor]:
    """Barycentric coordinates [b 3 h w] and depth [b 1 h w]; shares of areas are linear in 1 / z.

    Other values replace those of unseen pixels before they can divide by zero.
    """
    is_seen = (face_index >= 0)[..., None]
    corners = _seen_corners(screen, faces, face_index)
    centers = _pixel_centers(face_index, screen)[..., None, :]
    areas = torch.where(is_seen, edge_areas(corners[..., :2], centers), 1.0)
    over_depth = areas / torch.where(is_seen, corners[..., 2], 1.0)
    nearness = over_depth.sum(dim=-1, keepdim=True)
    barycentrics = torch.where(is_seen, over_depth / nearness, 0.0)
    depth = torch.where(is_seen, areas.sum(dim=-1, keepdim=True) / nearness, torch.inf)
    return barycentrics.movedim(-1, 1), depth.movedim(-1, 1)


def _load(backend: Backend, screen: Tensor) -> ModuleType:
    """The backend's module, imported late: Numba takes half a second, Triton needs Linux."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be of {', '.join(get_args(Backend))}, got {backend!r}")
    if backend == "auto":
        is_single = screen.dtype == torch.float32
        backend = ("cpu" if screen.device.type == "cpu" else "gpu") if is_single else "ref"
    if backend == "ref":
        return ref
    if backend == "cpu":
        if screen.dtype != torch.float32 or screen.device.type != "cpu":
            got = f"{screen.dtype} on {screen.device}"
            raise TypeError(f'vertices must be float32 on the CPU for backend="cpu", got {got}')
        from vultus.kernels.mesh_raster import cpu

        return cpu
    from vultus.kernels.mesh_raster import gpu

    return gpu


def _check_faces(faces: Tensor, vertices: Tensor) -> None:
    if not faces.numel():
        raise ValueError("faces must not be empty")
    if faces.device.type != "cpu":
        return
    low, high = (int(x) for x in faces.aminmax())
    if low < 0 or high >= vertices.shape[1]:
        raise ValueError(
            f"faces must name vertices, 0 to {vertices.shape[1] - 1}, got {low} to {high}"
        )

"""The two discrete decisions of the rasterizer in plain PyTorch, in the dtype of the inputs."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vultus.kernels.mesh_raster.constants import EDGE_TOLERANCE, MAX_WALK

__all__ = ["silhouette_edges", "visible_faces"]

_PRODUCTS_PER_CHUNK = 1 << 22


def visible_faces(
    screen: Float[Tensor, "b v 3"], faces: Int[Tensor, "f 3"], size: tuple[int, int], near: float
) -> Int32[Tensor, "b h w"]:
    """Find the nearest face at every pixel centre, the first of equals; -1 for none.

    Args:
        screen: Column, row and camera z of vertices.
        faces: Seen from both sides. Those with a corner before the near plane are left out.
        size: Height and width.
        near: Camera z of that plane.
    """
    height, width = size
    x = torch.arange(width, dtype=screen.dtype, device=screen.device) + 0.5
    y = torch.arange(height, dtype=screen.dtype, device=screen.device) + 0.5
    pixels = torch.cartesian_prod(y, x).flip(1)
    images = [_nearest(corners, pixels, near) for corners in screen[:, faces]]
    return torch.stack(images).reshape(len(screen), height, width)


def _nearest(corners: Tensor, pixels: Tensor, near: float) -> Tensor:
    """The nearest of f triangles [f 3 3] at each of n pixel centres."""
    best = pixels.new_zeros(len(pixels))
    winner = torch.full((len(pixels),), -1, dtype=torch.int32, device=pixels.device)
    is_ahead = (corners[..., 2] > near).all(dim=1)
    chunk = max(1, _PRODUCTS_PER_CHUNK // max(1, len(pixels)))
    for start in range(0, len(corners), chunk):
        part = corners[start : start + chunk]
        areas = edge_areas(part[:, None, :, :2], pixels[None, :, None])
        total = areas.sum(dim=-1)
        shares = areas / total[..., None]
        is_inside = (shares >= -EDGE_TOLERANCE).all(dim=-1) & (total != 0)
        nearness = (shares / part[:, None, :, 2]).sum(dim=-1)
        is_seen = is_inside & is_ahead[start : start + chunk, None]
        nearness, face = torch.where(is_seen, nearness, 0.0).max(dim=0)
        is_better = nearness > best
        best = torch.where(is_better, nearness, best)
        winner = torch.where(is_better, (face + start).int(), winner)
    return winner


def edge_areas(
    corners: Float[Tensor, "*#b 3 2"], point: Float[Tensor, "*#b 1 2"]
) -> Float[Tensor, "*#b 3"]:
    """Twice the signed areas of the triangles between a point and the edge opposite each corner."""
    to_corner = corners - point
    after, before = to_corner.roll(-1, dims=-2), to_corner.roll(-2, dims=-2)
    return after[..., 0] * before[..., 1] - after[..., 1] * before[..., 0]


def silhouette_edges(
    face_index: Int32[Tensor, "b h w"],
    depth: Float[Tensor, "b h w"],
    screen: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    neighbors: Int32[Tensor, "f 3"],
) -> Int32[Tensor, "b 2 h w"]:
    """Find the silhouette edge between each pixel and the next one, to the right and below.

    From the nearer of the two centres, the surface is followed towards the other one, triangle by
    triangle. Where it turns away from the viewer or ends, that edge is a silhouette. It belongs to
    the pair of pixels if the pair's axis is the one that the edge is steeper to.

    Returns:
        3 times the face plus the number k of its edge, which goes from corner k to corner k + 1;
        -1 where the surface continues.
    """
    edges = torch.full((len(depth), 2, *depth.shape[1:]), -1, dtype=torch.int32)
    edges = edges.to(depth.device)
    for axis in range(2):
        step = (0, 1) if axis == 0 else (1, 0)
        height, width = depth.shape[1] - step[0], depth.shape[2] - step[1]
        here = slice(None), slice(0, height), slice(0, width)
        there = slice(None), slice(step[0], None), slice(step[1], None)
        frame, row, column = (face_index[here] != face_index[there]).nonzero(as_tuple=True)
        is_first = depth[here][frame, row, column] <= depth[there][frame, row, column]
        near_row = torch.where(is_first, row, row + step[0])
        near_column = torch.where(is_first, column, column + step[1])
        far_row = torch.where(is_first, row + step[0], row)
        far_column = torch.where(is_first, column + step[1], column)
        found = _walk(
            screen, faces, neighbors, frame, axis,
            (near_column, near_row), (far_column, far_row),
            (face_index[frame, near_row, near_column], face_index[frame, far_row, far_column]),
        )  # fmt: skip
        edges[frame, axis, row, column] = found
    return edges


def _walk(
    screen: Tensor,
    faces: Tensor,
    neighbors: Tensor,
    frame: Tensor,
    axis: int,
    near_pixel: tuple[Tensor, Tensor],
    far_pixel: tuple[Tensor, Tensor],
    seen: tuple[Tensor, Tensor],
) -> Tensor:
    """Follow the surface from each near pixel centre until it ends, turns or is under the other."""
    start = torch.stack(near_pixel, dim=-1).to(screen) + 0.5
    end = torch.stack(far_pixel, dim=-1).to(screen) + 0.5
    face, target = (index.long() for index in seen)
    found = torch.full_like(face, -1)
    is_walking = torch.ones_like(face, dtype=torch.bool)
    for _ in range(MAX_WALK):
        edge, is_leaving = _exit_edge(_corners(screen, faces, frame, face), start, end)
        following = neighbors[face, edge].long()
        sign = _facing(screen, faces, frame, face)
        turns = _facing(screen, faces, frame, following.clamp(min=0)) * sign <= 0
        is_end = is_walking & is_leaving & ((following < 0) | turns)
        found = torch.where(is_end & _is_steep(screen, faces, frame, face, edge, axis),
                            3 * face + edge, found)  # fmt: skip
        is_walking = is_walking & is_leaving & ~is_end & (following != target)
        face = torch.where(is_walking, following, face)
    return found.int()


def _corners(screen: Tensor, faces: Tensor, frame: Tensor, face: Tensor) -> Tensor:
    return screen[frame[:, None], faces[face]][..., :2]


def _facing(screen: Tensor, faces: Tensor, frame: Tensor, face: Tensor) -> Tensor:
    """Twice the signed area on the screen."""
    corners = _corners(screen, faces, frame, face)
    return edge_areas(corners, corners[:, :1]).sum(dim=-1)


def _exit_edge(corners: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Through which edge of a triangle a segment leaves it first, and whether it does."""
    # The areas of opposite edges, reordered so that entry k belongs to the edge from corner k.
    before = edge_areas(corners, start[:, None]).roll(-2, dims=-1)
    after = edge_areas(corners, end[:, None]).roll(-2, dims=-1)
    sign = before.sum(dim=-1, keepdim=True).sign()
    before, after = sign * before, sign * after
    is_exit = (after < 0) & (before > after)
    share = torch.where(is_exit, before / (before - after), torch.inf)
    return share.argmin(dim=-1), is_exit.any(dim=-1)


def _is_steep(
    screen: Tensor, faces: Tensor, frame: Tensor, face: Tensor, edge: Tensor, axis: int
) -> Tensor:
    """Whether an edge runs across an axis rather than along it; diagonals run across columns."""
    first = screen[frame, faces[face, edge], :2]
    second = screen[frame, faces[face, (edge + 1) % 3], :2]
    across, down = (second - first).abs().unbind(dim=-1)
    return down >= across if axis == 0 else across > down

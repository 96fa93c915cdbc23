"""Fewer faces on the same vertices, so that a coarse mesh moves as the fine one does.

Vertices are removed by pulling each onto a neighbour (half-edge collapse), the cheapest first, by
the quadric error of Garland and Heckbert: sums of squared distances, weighted by area, to the
planes of the faces that a vertex stands for. Collapses of one round are at least three edges apart,
so that a round is a handful of array operations.

Reference: Garland and Heckbert, Surface Simplification Using Quadric Error Metrics, 1997.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.geometry.meshes import (
    TriangleMesh,
    boundary_edges,
    compact_mesh,
    face_areas,
    face_normals,
)

__all__ = ["Decimation", "decimate", "decimated_mesh"]

_LEAST_TURN = 0.2
"""Cosine of the angle by which a collapse may turn a face."""
_ONE_OF = 2
"""Of a round's candidates the cheaper half is taken: costs rise as the mesh gets coarser."""
_SHORT_FIRST = 1e-6
"""Squared length of an edge beside its quadric error, which is 0 in flat parts."""


@dataclass(frozen=True)
class Decimation:
    """A coarse mesh on some of the vertices of a fine one."""

    faces: Int[Tensor, "g 3"]
    """Rows of the fine mesh's vertices."""
    stand_ins: Int[Tensor, " v"]
    """For every vertex the one that it was pulled onto, itself if it is still there."""


@torch.no_grad()
def decimate(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], max_faces: int
) -> Decimation:
    """Remove vertices until few enough faces are left, or none can go.

    Borders of open meshes stay as they are, and so does the topology. Deterministic; computed on
    the CPU.

    Args:
        vertices: Positions.
        faces: Counter-clockwise seen from outside; an edge belongs to one or two of them.
        max_faces: At most so many are left, if borders and topology allow it.

    Raises:
        ValueError: If ``max_faces`` is not positive.
    """
    if max_faces < 1:
        raise ValueError(f"max_faces must be positive, got {max_faces}")
    state = _Mesh.of(vertices.cpu().double(), faces.cpu())
    stand_ins = torch.arange(len(vertices))
    while len(state.faces) > max_faces:
        edges = state.directed_edges()
        candidates = state.cheapest(edges)
        if not len(candidates):
            break
        is_fine = state.may_collapse(edges, candidates)
        state.refuse(candidates[~is_fine])
        # A collapse takes two faces with it.
        taken = candidates[is_fine][: -(-(len(state.faces) - max_faces) // 2)]
        stand_ins = state.collapse(taken)[stand_ins]
    return Decimation(state.faces.to(faces.device), stand_ins.to(faces.device))


def decimated_mesh(mesh: TriangleMesh, max_faces: int) -> TriangleMesh:
    """The same surface in fewer faces; vertices that stay keep their colours and normals.

    Raises:
        ValueError: If ``max_faces`` is not positive, or the mesh has texture coordinates.
    """
    if mesh.uv is not None:
        raise ValueError("mesh must have no texture coordinates to be decimated")
    faces = decimate(mesh.vertices, mesh.faces, max_faces).faces
    return compact_mesh(replace(mesh, faces=faces), torch.ones(len(faces), dtype=torch.bool))


@dataclass
class _Mesh:
    """What is left of a mesh; edges are rows of start and end, and start is pulled onto end."""

    points: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    quadrics: Float[Tensor, "v 4 4"]
    """Squared distances to planes, as forms of homogeneous points."""
    is_border: Bool[Tensor, " v"]
    refused: Int[Tensor, " n"]
    """Keys of edges that would damage the mesh; never asked again."""

    @staticmethod
    def of(points: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> _Mesh:
        normals, areas = face_normals(points, faces), face_areas(points, faces)
        offsets = -(normals * points[faces[:, 0]]).sum(dim=1, keepdim=True)
        planes = torch.cat([normals, offsets], dim=1)
        forms = areas[:, None, None] * planes[:, :, None] * planes[:, None, :]
        quadrics = points.new_zeros(len(points), 4, 4)
        quadrics.index_add_(0, faces.flatten(), forms.repeat_interleave(3, dim=0))
        is_border = torch.zeros(len(points), dtype=torch.bool)
        is_border[boundary_edges(faces)] = True
        return _Mesh(points, faces, quadrics, is_border, faces.new_empty(0))

    def keys(self, edges: Int[Tensor, "e 2"]) -> Int[Tensor, " e"]:
        return edges[:, 0] * len(self.points) + edges[:, 1]

    def directed_edges(self) -> Int[Tensor, "e 2"]:
        """Both directions of every edge, in the order of their keys."""
        ahead = torch.cat([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        keys = torch.unique(self.keys(torch.cat([ahead, ahead.flip(1)])))
        return torch.stack([keys // len(self.points), keys % len(self.points)], dim=1)

    def cheapest(self, edges: Int[Tensor, "e 2"]) -> Int[Tensor, "n 2"]:
        """Cheap collapses that are three edges apart, the cheapest first."""
        count = len(self.points)
        is_open = ~self.is_border[edges[:, 0]] & ~torch.isin(self.keys(edges), self.refused)
        start, end = edges[is_open].unbind(dim=1)
        homogeneous = torch.cat([self.points, torch.ones_like(self.points[:, :1])], dim=1)
        ends = homogeneous[end]
        errors = (ends[:, None] @ self.quadrics[start] @ ends[:, :, None]).flatten()
        lengths = (self.points[end] - self.points[start]).square().sum(dim=1)
        order = (errors + _SHORT_FIRST * lengths).argsort(stable=True)
        # Ranks are unique, so that of two neighbours only one can be the least.
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order))
        none = len(order)
        best = torch.full((count,), none).scatter_reduce(0, start, ranks, "amin")
        nearby = best
        for _ in range(2):
            nearby = nearby.scatter_reduce(0, edges[:, 1], nearby[edges[:, 0]], "amin")
        found = best[(best == nearby) & (best < none)].sort().values
        rows = order[found[: -(-len(found) // _ONE_OF)]]
        return torch.stack([start[rows], end[rows]], dim=1)

    def may_collapse(
        self, edges: Int[Tensor, "e 2"], candidates: Int[Tensor, "n 2"]
    ) -> Bool[Tensor, " n"]:
        """Whether collapses keep topology and the way that faces look."""
        degrees = torch.bincount(edges[:, 0], minlength=len(self.points))
        is_tetrahedron = (degrees[candidates] == 3).all(dim=1)
        return (
            self._keeps_faces(candidates)
            & self._keeps_topology(edges, candidates)
            & (~is_tetrahedron)
        )

    def _keeps_faces(self, candidates: Int[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
        # A vertex, and the two that follow it in a face.
        corners = torch.cat([self.faces.roll(-turn, dims=1) for turn in range(3)])
        corners = corners[corners[:, 0].argsort(stable=True)]
        row, corner = _join(candidates[:, 0], corners[:, 0], len(self.points))
        old, second, third = (self.points[column] for column in corners[corner].unbind(dim=1))
        new = self.points[candidates[row, 1]]
        before = torch.linalg.cross(second - old, third - old)
        after = torch.linalg.cross(second - new, third - new)
        lengths = before.norm(dim=1) * after.norm(dim=1)
        is_gone = (corners[corner, 1:] == candidates[row, 1:]).any(dim=1)
        is_fine = is_gone | ((before * after).sum(dim=1) > _LEAST_TURN * lengths)
        return _is_all(is_fine, row, len(candidates))

    def _keeps_topology(
        self, edges: Int[Tensor, "e 2"], candidates: Int[Tensor, "n 2"]
    ) -> Bool[Tensor, " n"]:
        """The ends of the edge have two neighbours in common, those across its two faces."""
        keys = self.keys(edges)
        row, other = _join(candidates[:, 0], edges[:, 0], len(self.points))
        wanted = edges[other, 1] * len(self.points) + candidates[row, 1]
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        common = torch.zeros(len(candidates), dtype=torch.int64)
        return common.index_add_(0, row, (keys[place] == wanted).long()) == 2

    def refuse(self, edges: Int[Tensor, "n 2"]) -> None:
        self.refused = torch.cat([self.refused, self.keys(edges)])

    def collapse(self, edges: Int[Tensor, "n 2"]) -> Int[Tensor, " v"]:
        """Pull starts onto ends; tells where every vertex is now."""
        start, end = edges.unbind(dim=1)
        target = torch.arange(len(self.points))
        target[start] = end
        self.quadrics.index_add_(0, end, self.quadrics[start])
        moved = target[self.faces]
        is_left = (moved != moved.roll(1, dims=1)).all(dim=1)
        self.faces = moved[is_left]
        return target


def _join(
    keys: Int[Tensor, " a"], sorted_keys: Int[Tensor, " b"], count: int
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """All pairs of rows with the same key, which lies below ``count``."""
    sizes = torch.bincount(sorted_keys, minlength=count)
    starts = sizes.cumsum(0) - sizes
    repeats = sizes[keys]
    first = torch.arange(len(keys)).repeat_interleave(repeats)
    ends = repeats.cumsum(0)
    within = torch.arange(len(first)) - (ends - repeats).repeat_interleave(repeats)
    return first, starts[keys].repeat_interleave(repeats) + within


def _is_all(
    values: Bool[Tensor, " n"], rows: Int[Tensor, " n"], count: int
) -> Bool[Tensor, " count"]:
    """Whether all values of a row hold; rows without values hold."""
    ones = torch.ones(count, dtype=torch.int64)
    return ones.scatter_reduce(0, rows, values.long(), "amin").bool()

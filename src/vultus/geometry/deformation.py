"""Frames, deformation gradients and neighbours of the triangles of a mesh.

Reference for the rules: SurFhead (arXiv 2410.11682) and GaussianAvatars (arXiv 2312.02069); for the
third edge ``sqrt_area``: Sumner and Popovic, Deformation Transfer for Triangle Meshes, 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.geometry.polar import polar_decomposition

__all__ = [
    "ThirdEdge",
    "TriangleFrames",
    "deformation_gradients",
    "edge_matrices",
    "face_adjacency",
    "inverse_edge_matrices",
    "polar_decomposition",
    "triangle_frames",
]

ThirdEdge = Literal["sqrt_area", "unit"]
"""Length of the edge along the normal: ``sqrt_area`` makes the normal stretch the square root of
the area ratio, ``unit`` makes it 1."""

_SAFE_SQUARED_NORM = 1e-20
_MAX_NEIGHBOURS = 3


@dataclass(frozen=True)
class TriangleFrames:
    """Similarity frames of triangles."""

    rotations: Float[Tensor, "*b f 3 3"]
    """Columns: first edge, second axis in the plane, normal."""
    scales: Float[Tensor, "*b f"]
    """Mean of the first edge's length and the height over it."""
    centers: Float[Tensor, "*b f 3"]


def triangle_frames(vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]) -> TriangleFrames:
    """Attach a frame to every triangle.

    A triangle without area gets finite, but not orthonormal, axes.

    Reference: GaussianAvatars, section 3.2, with the columns in SurFhead's order (normal last).
    """
    corners = vertices[..., faces, :]
    edge, other = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    first = _safe_normalize(edge)
    normal = _safe_normalize(torch.linalg.cross(first, other))
    second = _safe_normalize(torch.linalg.cross(normal, first))
    length = edge.square().sum(-1).clamp(min=_SAFE_SQUARED_NORM).sqrt()
    height = (second * other).sum(-1).abs()
    return TriangleFrames(
        torch.stack([first, second, normal], dim=-1), 0.5 * (length + height), corners.mean(-2)
    )


def edge_matrices(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], third_edge: ThirdEdge
) -> Float[Tensor, "*b f 3 3"]:
    """Build matrices with two edges of each triangle and a normal as columns."""
    return torch.stack(_edges(vertices, faces, third_edge), dim=-1)


def inverse_edge_matrices(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], third_edge: ThirdEdge
) -> Float[Tensor, "f 3 3"]:
    """Invert the edge matrices of a mesh at rest, once per subject.

    Raises:
        ValueError: If a triangle has no area; the message names the first one.
    """
    first, second, normal = _edges(vertices, faces, third_edge)
    cross = torch.linalg.cross(first, second)
    det = (cross * normal).sum(-1, keepdim=True)
    if bool((det <= 0).any()):
        face = int((det[:, 0] <= 0).nonzero()[0])
        raise ValueError(f"faces of the mesh at rest must have an area, face {face} has none")
    rows = [torch.linalg.cross(second, normal), torch.linalg.cross(normal, first), cross]
    return torch.stack(rows, dim=-2) / det[..., None]


def deformation_gradients(
    vertices: Float[Tensor, "*b v 3"],
    faces: Int[Tensor, "f 3"],
    inverse_edges: Float[Tensor, "f 3 3"],
    third_edge: ThirdEdge,
) -> Float[Tensor, "*b f 3 3"]:
    """Measure how each triangle is deformed: J maps its edges at rest to its posed edges.

    Args:
        vertices: Posed vertices.
        faces: Triangles.
        inverse_edges: ``inverse_edge_matrices`` of the mesh at rest, with the same rule.
        third_edge: Length of the third edge.
    """
    # A sum of outer products: on CPU several times faster than a batched product of 3x3 matrices.
    edges = _edges(vertices, faces, third_edge)
    outer = [edge[..., :, None] * inverse_edges[:, None, i] for i, edge in enumerate(edges)]
    return outer[0] + outer[1] + outer[2]


def face_adjacency(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "f 4"]:
    """List each face and up to three neighbours across an edge.

    Column 0 is the face itself; the others follow the order in which the shared edges first occur
    when all faces are walked, each with its edges (0, 1), (1, 2), (2, 0). Missing neighbours repeat
    the face. At edges of more than two faces, all of them count until three are found.

    Reference: the order of the published SurFhead code, which blend weights of checkpoints follow.
    """
    num_faces = faces.shape[0]
    half_edges = torch.stack([faces, faces.roll(-1, dims=1)], dim=-1).reshape(-1, 2)
    owner = torch.arange(num_faces, device=faces.device).repeat_interleave(3)
    _, edge_of = torch.unique(half_edges.sort(dim=-1).values, dim=0, return_inverse=True)
    counts = torch.bincount(edge_of)
    # Walk order of an edge: its first half edge.
    position = torch.arange(len(owner), device=faces.device)
    first = torch.full_like(counts, len(owner)).scatter_reduce(0, edge_of, position, "amin")

    # All ordered pairs of half edges of one edge: group them, then pair each with its whole group.
    grouped = edge_of.argsort(stable=True)
    group_sizes = counts[edge_of[grouped]]
    group_starts = (counts.cumsum(0) - counts)[edge_of[grouped]]
    source = grouped.repeat_interleave(group_sizes)
    offsets = torch.arange(len(source), device=faces.device)
    offsets = offsets - (group_sizes.cumsum(0) - group_sizes).repeat_interleave(group_sizes)
    target = grouped[group_starts.repeat_interleave(group_sizes) + offsets]
    is_other = owner[source] != owner[target]
    source, target = source[is_other], target[is_other]

    # Sort the pairs by face, then by the walk order of the edge, then of the neighbour.
    order = target.argsort(stable=True)
    order = order[first[edge_of[source[order]]].argsort(stable=True)]
    order = order[owner[source[order]].argsort(stable=True)]
    face, neighbour = owner[source[order]], owner[target[order]]
    per_face = torch.bincount(face, minlength=num_faces)
    column = torch.arange(len(face), device=faces.device) - (per_face.cumsum(0) - per_face)[face]
    is_kept = column < _MAX_NEIGHBOURS
    adjacency = torch.arange(num_faces, device=faces.device)[:, None].repeat(1, 4)
    adjacency[face[is_kept], column[is_kept] + 1] = neighbour[is_kept]
    return adjacency


def _edges(vertices: Tensor, faces: Tensor, third_edge: ThirdEdge) -> tuple[Tensor, Tensor, Tensor]:
    v0, v1, v2 = (vertices[..., faces[:, corner], :] for corner in range(3))
    first, second = v1 - v0, v2 - v0
    normal = torch.linalg.cross(first, second)
    length = normal.square().sum(-1, keepdim=True).clamp(min=_SAFE_SQUARED_NORM**2).sqrt()
    return first, second, normal / (length.sqrt() if third_edge == "sqrt_area" else length)


def _safe_normalize(vectors: Tensor) -> Tensor:
    return vectors / vectors.square().sum(-1, keepdim=True).clamp(min=_SAFE_SQUARED_NORM).sqrt()

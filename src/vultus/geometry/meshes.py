"""Triangle meshes: normals, areas, edges, Laplacians, parts and subdivision.

Faces are counter-clockwise seen from outside. Functions of ``vertices`` are differentiable in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

__all__ = [
    "TriangleMesh",
    "boundary_edges",
    "compact_mesh",
    "cotangent_laplacian",
    "edges_to_laplacian",
    "face_areas",
    "face_components",
    "face_normals",
    "largest_component",
    "largest_components",
    "subdivide",
    "uniform_laplacian",
    "unique_edges",
    "vertex_components",
    "vertex_normals",
]

_SAFE_NORM = 1e-20


@dataclass(frozen=True)
class TriangleMesh:
    """Vertices and faces, with optional colors, normals and texture coordinates."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    colors: Float[Tensor, "v 3"] | None = None
    """Display-encoded, in [0, 1]."""
    normals: Float[Tensor, "v 3"] | None = None
    uv: Float[Tensor, "t 2"] | None = None
    """Texture coordinates in [0, 1], v up."""
    uv_faces: Int[Tensor, "f 3"] | None = None

    def __post_init__(self) -> None:
        """Reject texture coordinates without faces and faces that name no vertex."""
        if (self.uv is None) != (self.uv_faces is None):
            raise ValueError("uv and uv_faces must be given together")
        _check_indices("faces", self.faces, self.vertices.shape[0])
        if self.uv is not None and self.uv_faces is not None:
            _check_indices("uv_faces", self.uv_faces, self.uv.shape[0])


def _check_indices(name: str, indices: Tensor, count: int) -> None:
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < count:
        found = f"{int(indices.min())} to {int(indices.max())}"
        raise ValueError(f"{name} must lie in [0, {count}), got {found}")


def _area_vectors(vertices: Tensor, faces: Tensor) -> Tensor:
    v0, v1, v2 = (vertices[..., faces[:, corner], :] for corner in range(3))
    return torch.linalg.cross(v1 - v0, v2 - v0)


def face_normals(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "*b f 3"]:
    """Unit normals of faces; zero for a face without area."""
    return torch.nn.functional.normalize(_area_vectors(vertices, faces), dim=-1, eps=_SAFE_NORM)


def face_areas(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "*b f"]:
    """Areas of faces."""
    return 0.5 * _area_vectors(vertices, faces).norm(dim=-1)


def vertex_normals(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "*b v 3"]:
    """Unit normals of vertices, weighted by the areas of their faces; zero where unreferenced."""
    area_vectors = _area_vectors(vertices, faces)
    sums = torch.zeros_like(vertices)
    for corner in range(3):
        sums = sums.index_add(-2, faces[:, corner], area_vectors)
    return torch.nn.functional.normalize(sums, dim=-1, eps=_SAFE_NORM)


def unique_edges(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "n 2"]:
    """Undirected edges (i < j), each once, in lexicographic order."""
    return torch.unique(_sorted_half_edges(faces), dim=0)


def boundary_edges(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "n 2"]:
    """Undirected edges (i < j) of exactly one face."""
    edges, counts = torch.unique(_sorted_half_edges(faces), dim=0, return_counts=True)
    return edges[counts == 1]


def _sorted_half_edges(faces: Tensor) -> Tensor:
    half_edges = torch.stack([faces, faces.roll(-1, dims=1)], dim=-1).reshape(-1, 2)
    return half_edges.sort(dim=-1).values


def edges_to_laplacian(
    edges: Int[Tensor, "n 2"], weights: Float[Tensor, " n"], num_vertices: int
) -> Float[Tensor, "v v"]:
    """Assemble D - W as a sparse COO matrix from undirected edges; repeated edges add up."""
    i, j = edges.unbind(-1)
    indices = torch.stack([torch.cat([i, j, i, j]), torch.cat([j, i, i, j])])
    values = torch.cat([-weights, -weights, weights, weights])
    size = (num_vertices, num_vertices)
    return torch.sparse_coo_tensor(indices, values, size, check_invariants=True).coalesce()


def uniform_laplacian(faces: Int[Tensor, "f 3"], num_vertices: int) -> Float[Tensor, "v v"]:
    """The graph Laplacian (degree minus adjacency), sparse COO, float32."""
    edges = unique_edges(faces)
    weights = torch.ones(edges.shape[0], device=faces.device)
    return edges_to_laplacian(edges, weights, num_vertices)


def cotangent_laplacian(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "v v"]:
    """The stiffness matrix of linear elements, sparse COO: positive semidefinite, rows sum to 0.

    Faces without area add nothing.

    Reference: Pinkall and Polthier, Computing Discrete Minimal Surfaces, 1993.
    """
    corners = vertices[faces]
    twice_area = _area_vectors(vertices, faces).norm(dim=-1)
    edges, weights = [], []
    for corner in range(3):
        after, before = (corner + 1) % 3, (corner + 2) % 3
        to_after = corners[:, after] - corners[:, corner]
        to_before = corners[:, before] - corners[:, corner]
        dot = (to_after * to_before).sum(-1)
        cotangent = torch.where(twice_area > 0, dot / twice_area.clamp(min=_SAFE_NORM), 0.0)
        edges.append(faces[:, [after, before]])
        weights.append(0.5 * cotangent)
    return edges_to_laplacian(torch.cat(edges), torch.cat(weights), vertices.shape[0])


def vertex_components(faces: Int[Tensor, "f 3"], num_vertices: int) -> Int[Tensor, " v"]:
    """Number the connected parts of a mesh per vertex, by first occurrence."""
    i, j = unique_edges(faces).cpu().numpy().T
    graph = coo_matrix((torch.ones(len(i)).numpy(), (i, j)), shape=(num_vertices, num_vertices))
    _, labels = connected_components(graph, directed=False)
    return torch.from_numpy(labels).long().to(faces.device)


def face_components(faces: Int[Tensor, "f 3"], num_vertices: int) -> Int[Tensor, " f"]:
    """Number the connected parts of a mesh per face; parts that share a vertex are one."""
    return vertex_components(faces, num_vertices)[faces[:, 0]]


def compact_mesh(mesh: TriangleMesh, kept_faces: Bool[Tensor, " f"]) -> TriangleMesh:
    """Keep some faces and the vertices and texture coordinates that they use."""
    used, faces = torch.unique(mesh.faces[kept_faces], return_inverse=True)
    uv, uv_faces = mesh.uv, mesh.uv_faces
    if uv is not None and uv_faces is not None:
        used_uv, uv_faces = torch.unique(uv_faces[kept_faces], return_inverse=True)
        uv = uv[used_uv]
    return TriangleMesh(
        mesh.vertices[used],
        faces,
        None if mesh.colors is None else mesh.colors[used],
        None if mesh.normals is None else mesh.normals[used],
        uv,
        uv_faces,
    )


def largest_component(mesh: TriangleMesh) -> TriangleMesh:
    """Keep the connected part with most faces (the first of equals).

    Raises:
        ValueError: If the mesh has no faces.
    """
    return largest_components(mesh, 1)


def largest_components(mesh: TriangleMesh, count: int, min_faces: int = 1) -> TriangleMesh:
    """Keep the connected parts with most faces (the first of equals).

    Args:
        mesh: Of any number of parts.
        count: How many parts at most.
        min_faces: Smaller parts are dropped, however few there are.

    Raises:
        ValueError: If the count is not positive or no part has so many faces.
    """
    if count < 1:
        raise ValueError(f"count must be positive, got {count}")
    if mesh.faces.shape[0] == 0:
        raise ValueError("mesh must have faces to have a largest component")
    labels = face_components(mesh.faces, mesh.vertices.shape[0])
    sizes = torch.bincount(labels)
    kept = sizes.argsort(descending=True, stable=True)[:count]
    kept = kept[sizes[kept] >= max(min_faces, 1)]
    if kept.shape[0] == 0:
        raise ValueError(
            f"mesh must have a part of {min_faces} faces, its largest has {int(sizes.max())}"
        )
    return compact_mesh(mesh, torch.isin(labels, kept))


def subdivide(
    attributes: Float[Tensor, "*b v d"], faces: Int[Tensor, "f 3"]
) -> tuple[Float[Tensor, "*b v_new d"], Int[Tensor, "f_new 3"]]:
    """Split each face into four at its edge midpoints; the surface stays where it is.

    Args:
        attributes: Positions, or anything else per vertex.
        faces: Triangles.

    Returns:
        Attributes with the midpoint means appended, in the order of ``unique_edges``; and faces,
        four in a row per old one: the three corners in order, then the middle.
    """
    half_edges = _sorted_half_edges(faces)
    edges, edge_of = torch.unique(half_edges, dim=0, return_inverse=True)
    middles = 0.5 * (attributes[..., edges[:, 0], :] + attributes[..., edges[:, 1], :])
    m01, m12, m20 = (edge_of.reshape(-1, 3) + attributes.shape[-2]).unbind(-1)
    v0, v1, v2 = faces.unbind(-1)
    parts = [v0, m01, m20, m01, v1, m12, m20, m12, v2, m01, m12, m20]
    return torch.cat([attributes, middles], dim=-2), torch.stack(parts, dim=-1).reshape(-1, 3)

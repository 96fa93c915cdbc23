"""Terms that shape the personal mesh. All are unweighted means; the mean over nothing is 0.

Weights keep their published meaning if vertices and offsets are given in ``WEIGHT_UNIT``. Figures
in brackets are sections of our specification.

Reference: Bharadwaj et al., FLARE, 2023, for the photometric term, the silhouette, the Laplacian
and the normal consistency.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.core.srgb import linear_to_srgb
from vultus.geometry.meshes import face_normals, unique_edges

__all__ = [
    "WEIGHT_UNIT",
    "albedo_smoothness",
    "keep_head",
    "mean_laplacian",
    "neighbor_means",
    "normal_consistency",
    "silhouette",
    "tone_mapped",
    "tone_mapped_difference",
]

WEIGHT_UNIT = 4.0
"""Published meshes are four times as large as heads in metres [5.2]."""
_CHROMA_SHARPNESS = 20.0


def tone_mapped(linear: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Compress radiance for comparison: sRGB(log(1 + x))."""
    return linear_to_srgb(torch.log1p(linear))


def tone_mapped_difference(
    linear: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute difference of compressed radiance.

    Args:
        linear: Rendered, not negative.
        target: Linear as well.
        mask: Both are multiplied by it; the mean is over the whole picture.
    """
    difference = (tone_mapped(linear) - tone_mapped(target)).abs()
    return (difference if mask is None else difference * mask).mean()


def silhouette(
    coverage: Float[Tensor, "b 1 h w"], mask: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Mean squared difference of antialiased coverage and matte."""
    return (coverage - mask).square().mean()


def neighbor_means(faces: Int[Tensor, "f 3"], num_vertices: int) -> Float[Tensor, "v v"]:
    """The uniform Laplacian D^-1 A - I, sparse; the rows of unreferenced vertices are 0."""
    i, j = unique_edges(faces).unbind(-1)
    degree = torch.bincount(torch.cat([i, j]), minlength=num_vertices).float()
    share = 1.0 / degree.clamp(min=1.0)
    used = degree.nonzero()[:, 0]
    rows, columns = torch.cat([i, j, used]), torch.cat([j, i, used])
    values = torch.cat([share[i], share[j], -torch.ones_like(used, dtype=torch.float32)])
    return torch.sparse_coo_tensor(
        torch.stack([rows, columns]), values, (num_vertices, num_vertices), check_invariants=True
    ).coalesce()


def mean_laplacian(
    vertices: Float[Tensor, "v 3"], laplacian: Float[Tensor, "v v"]
) -> Float[Tensor, ""]:
    """Keep a surface flat: mean squared distance of vertices from the mean of their neighbours."""
    return (laplacian @ vertices).square().sum(dim=-1).mean()


def normal_consistency(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], adjacent_faces: Int[Tensor, "n 2"]
) -> Float[Tensor, ""]:
    """Keep a surface smooth: mean (1 - cosine)^2 between faces that share an edge."""
    normals = face_normals(vertices, faces)
    first, second = normals[..., adjacent_faces[:, 0], :], normals[..., adjacent_faces[:, 1], :]
    return (1.0 - (first * second).sum(dim=-1)).square().mean()


def keep_head(offsets: Float[Tensor, "v 3"], weights: Float[Tensor, " v"]) -> Float[Tensor, ""]:
    """Stay near the head model: weighted mean of squared offsets."""
    return (weights * offsets.square().sum(dim=-1)).mean()


def albedo_smoothness(
    albedo: Float[Tensor, "v 3"], edges: Int[Tensor, "e 2"], chroma: Float[Tensor, "v 3"]
) -> Float[Tensor, ""]:
    """Change albedo along edges only where images change their chroma.

    Args:
        albedo: Activated.
        edges: Of the mesh.
        chroma: What images show at the vertices, colours divided by their sums.
    """
    first, second = edges.unbind(dim=1)
    contrast = (chroma[first] - chroma[second]).abs().sum(dim=-1)
    difference = (albedo[first] - albedo[second]).abs().sum(dim=-1)
    return (difference * (-_CHROMA_SHARPNESS * contrast).exp()).mean()

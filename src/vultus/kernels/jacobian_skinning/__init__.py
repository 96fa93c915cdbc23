"""Posed triangles and the surfels that hang on them, one launch each, for training on a GPU.

Both functions do what their PyTorch forms do, which define them and serve every other device:
``geometry.deformation`` with ``geometry.polar`` for triangles, and ``methods.surfhead.transport``
with ``methods.surfhead.jacobian_blending`` for surfels. Those launch some thousand small kernels a
step, each of which takes a GPU longer to start than to run.

Reference: SurFhead (arXiv 2410.11682), Jacobian Blend Skinning; Sumner and Popovic, Deformation
Transfer for Triangle Meshes, 2004; Markley, Attitude determination, 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["FLAT_BELOW", "DeformedFaces", "SkinnedSurfels", "deform_faces", "skin_surfels"]

FLAT_BELOW = 1e-15
"""Jacobians of a smaller determinant have no normal; it is zero."""


@dataclass(frozen=True)
class DeformedFaces:
    """Triangles of b frames."""

    centers: Float[Tensor, "b f 3"]
    jacobians: Float[Tensor, "b f 3 3"]
    rotation_logs: Float[Tensor, "b f 3"] | None
    """Axis-angle of the polar rotation; constants."""
    stretches: Float[Tensor, "b f 3 3"] | None
    """Polar stretch; constants."""


@dataclass(frozen=True)
class SkinnedSurfels:
    """Surfels of b frames in the world."""

    means: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "n 4"]
    """Of the rest pose: the Jacobians come on top."""
    scales: Float[Tensor, "n 2"]
    jacobians: Float[Tensor, "b n 3 3"]
    normals: Float[Tensor, "b n 3"]
    """J^-T times the third axis, not unit length after a stretch; zero where J is flat."""


def deform_faces(
    vertices: Float[Tensor, "b v 3"],
    faces: Int[Tensor, "f 3"],
    inverse_edges: Float[Tensor, "f 3 3"],
    *,
    is_unit: bool,
    has_polar: bool,
) -> DeformedFaces:
    """Centres and deformation gradients of triangles, and their polar factors.

    Gradients reach the vertices through centres and Jacobians.

    Args:
        vertices: Posed, float32 on a GPU.
        faces: Triangles.
        inverse_edges: Of the mesh at rest, from ``geometry.deformation.inverse_edge_matrices``.
        is_unit: Length of the third edge: 1, or the root of the doubled area.
        has_polar: Whether to make the polar factors.
    """
    # Triton must not be needed where there is no GPU.
    from vultus.kernels.jacobian_skinning import gpu

    return gpu.deform_faces(vertices, faces, inverse_edges, is_unit, has_polar)


def skin_surfels(
    local_means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 2"],
    blend_weights: Float[Tensor, "n 4"] | None,
    face_index: Int[Tensor, " n"],
    is_rigid: Bool[Tensor, " n"] | None,
    rest: tuple[Float[Tensor, "f 3 3"], Float[Tensor, "f 4"], Float[Tensor, " f"]],
    adjacency: Int[Tensor, "f 4"],
    posed: DeformedFaces,
) -> SkinnedSurfels:
    """Carry surfels from their triangles at rest to posed ones.

    Gradients reach the first four arguments, and centres and Jacobians of the triangles.

    Args:
        local_means: In their faces' frames.
        quats: Rotations in the same frames, wxyz, of any norm but zero.
        scales: Activated, in triangle sizes.
        blend_weights: Of a surfel's face and its neighbours, rows sum to one; ``None``: a surfel
            follows its face's Jacobian.
        face_index: The face that each surfel is bound to.
        is_rigid: Surfels that follow their face's Jacobian whatever their weights.
        rest: Rotations, the same as unit quaternions, and scales of the triangles at rest.
        adjacency: From ``geometry.deformation.face_adjacency``.
        posed: With polar factors if there are blend weights.
    """
    from vultus.kernels.jacobian_skinning import gpu

    tensors = (local_means, quats, scales, blend_weights)
    return gpu.skin_surfels(tensors, face_index, is_rigid, rest, adjacency, posed)

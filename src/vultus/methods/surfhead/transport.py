"""Carry surfels from their triangles at rest to the posed mesh.

Symbols: ``f`` faces, ``n`` surfels, ``b`` frames. A surfel is bound to face ``face_index`` and has
local coordinates x in the face's frame (rotation R_f, scale s_f, centre c_f).
Reference: spec of SurFhead sections 4.1 to 4.4; paper arXiv 2410.11682.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.geometry.deformation import (
    deformation_gradients,
    face_adjacency,
    inverse_edge_matrices,
    triangle_frames,
)
from vultus.geometry.polar import polar_decomposition
from vultus.geometry.rotations import (
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_multiply,
    quaternion_to_matrix,
)
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.jacobian_skinning import (
    FLAT_BELOW,
    DeformedFaces,
    deform_faces,
    skin_surfels,
)
from vultus.methods.surfhead.jacobian_blending import blend_jacobians, distance_weights

__all__ = ["BoundSurfels", "PosedFaces", "PosedSurfels", "RestMesh", "pose_faces", "transport"]

Rig = Literal["similarity", "jacobian", "jbs"]


@dataclass(frozen=True)
class RestMesh:
    """What stays constant about a subject's triangles."""

    faces: Int[Tensor, "f 3"]
    rotations: Float[Tensor, "f 3 3"]
    quats: Float[Tensor, "f 4"]
    """The same rotations, unit length."""
    scales: Float[Tensor, " f"]
    centers: Float[Tensor, "f 3"]
    inverse_edges: Float[Tensor, "f 3 3"]
    adjacency: Int[Tensor, "f 4"]
    """The face itself, then its edge neighbours; missing ones repeat the face."""
    third_edge: Literal["sqrt_area", "unit"]

    @staticmethod
    def build(
        vertices: Float[Tensor, "v 3"],
        faces: Int[Tensor, "f 3"],
        third_edge: Literal["sqrt_area", "unit"],
    ) -> RestMesh:
        """Prepare the canonical mesh (zero pose, zero expression)."""
        frames = triangle_frames(vertices, faces)
        return RestMesh(
            faces,
            frames.rotations,
            matrix_to_quaternion(frames.rotations),
            frames.scales,
            frames.centers,
            inverse_edge_matrices(vertices, faces, third_edge),
            face_adjacency(faces),
            third_edge,
        )

    def blend_by_distance(
        self, face_index: Int[Tensor, " n"], local_means: Float[Tensor, "n 3"]
    ) -> Float[Tensor, "n 4"]:
        """Fixed blend weights; see ``jacobian_blending.distance_weights``."""
        local = self.scales[face_index][:, None] * _apply(self.rotations[face_index], local_means)
        centers = self.centers[self.adjacency[face_index]]
        return distance_weights(self.centers[face_index] + local, centers)


@dataclass(frozen=True)
class PosedFaces:
    """Triangles of b frames. Which fields are set depends on the rig."""

    centers: Float[Tensor, "b f 3"]
    rotations: Float[Tensor, "b f 3 3"] | None = None
    """Posed triangle frames (similarity)."""
    scales: Float[Tensor, "b f"] | None = None
    jacobians: Float[Tensor, "b f 3 3"] | None = None
    rotation_logs: Float[Tensor, "b f 3"] | None = None
    """Axis-angle of the polar rotation, detached (jbs)."""
    stretches: Float[Tensor, "b f 3 3"] | None = None
    """Polar stretch, detached (jbs)."""

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are set."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: tensor for name, tensor in named if tensor is not None}

    @property
    def num_bytes(self) -> int:
        """Memory that the triangles take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    def __getitem__(self, index: Int[Tensor, " k"]) -> PosedFaces:
        """Select frames."""
        return PosedFaces(**{n: t.index_select(0, index) for n, t in self.tensors().items()})

    @staticmethod
    def cat(parts: list[PosedFaces]) -> PosedFaces:
        """Concatenate frames of the same rig."""
        names = parts[0].tensors()
        return PosedFaces(**{n: torch.cat([getattr(part, n) for part in parts]) for n in names})


@dataclass(frozen=True)
class BoundSurfels:
    """Surfels in the frames of their faces; scales and weights are activated."""

    face_index: Int[Tensor, " n"]
    local_means: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    scales: Float[Tensor, "n 2"]
    blend_weights: Float[Tensor, "n 4"] | None = None


@dataclass(frozen=True)
class PosedSurfels:
    """Surfels in the world."""

    means: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"]
    scales: Float[Tensor, "b n 2"]
    jacobians: Float[Tensor, "b n 3 3"] | None
    gpu_normals: Float[Tensor, "b n 3"] | None = None
    """What ``normals`` returns, where a kernel has made it along the way."""

    def to(self, device: torch.device | str) -> PosedSurfels:
        """The same surfels on a device."""
        jacobians = None if self.jacobians is None else self.jacobians.to(device)
        return PosedSurfels(
            self.means.to(device), self.quats.to(device), self.scales.to(device), jacobians
        )

    def normals(self) -> Float[Tensor, "b n 3"]:
        """J^-T times the third axis; not unit length after a stretch, zero where J is flat."""
        if self.gpu_normals is not None:
            return self.gpu_normals
        axes = quaternion_to_matrix(torch.nn.functional.normalize(self.quats, dim=-1))[..., 2]
        if self.jacobians is None:
            return axes
        # J^-T by its cofactors; a batched inverse is several times slower on CPU.
        a, b, c = self.jacobians.unbind(dim=-1)
        across = torch.linalg.cross(b, c)
        x, y, z = axes[..., None].unbind(dim=-2)
        normals = x * across + y * torch.linalg.cross(c, a) + z * torch.linalg.cross(a, b)
        det = (a * across).sum(dim=-1, keepdim=True)
        return normals / torch.where(det.abs() > FLAT_BELOW, det, torch.inf)


def pose_faces(vertices: Float[Tensor, "b v 3"], rest: RestMesh, rig: Rig) -> PosedFaces:
    """Measure the posed triangles against the rest mesh."""
    if are_for_kernels(vertices) and rig != "similarity":
        deformed = deform_faces(
            vertices,
            rest.faces,
            rest.inverse_edges,
            is_unit=rest.third_edge == "unit",
            has_polar=rig == "jbs",
        )
        return PosedFaces(
            deformed.centers,
            jacobians=deformed.jacobians,
            rotation_logs=deformed.rotation_logs,
            stretches=deformed.stretches,
        )
    centers = vertices[:, rest.faces].mean(dim=2)
    if rig == "similarity":
        frames = triangle_frames(vertices, rest.faces)
        return PosedFaces(centers, rotations=frames.rotations, scales=frames.scales)
    jacobians = deformation_gradients(vertices, rest.faces, rest.inverse_edges, rest.third_edge)
    if rig == "jacobian":
        return PosedFaces(centers, jacobians=jacobians)
    # The polar factors carry no gradient to the rig, as published.
    with torch.no_grad():
        rotations, stretches = polar_decomposition(jacobians)
        logs = matrix_to_axis_angle(rotations)
    return PosedFaces(centers, jacobians=jacobians, rotation_logs=logs, stretches=stretches)


def transport(
    surfels: BoundSurfels,
    rest: RestMesh,
    posed: PosedFaces,
    rigid_surfels: Tensor | None = None,
) -> PosedSurfels:
    """Place surfels in the world.

    Args:
        surfels: Bound surfels.
        rest: The canonical mesh.
        posed: Triangles of b frames; its fields decide the rig.
        rigid_surfels: Mask [n] of surfels that follow their own face's Jacobian exactly, with
            gradient, whatever their blend weights (eyeballs).
    """
    index = surfels.face_index
    if posed.rotations is None and are_for_kernels(surfels.local_means):
        return _transport_by_kernel(surfels, rest, posed, rigid_surfels)
    centers = posed.centers[:, index]
    batch = centers.shape[0]
    if posed.rotations is not None and posed.scales is not None:
        frames, face_scales = posed.rotations[:, index], posed.scales[:, index]
        means = face_scales[..., None] * _apply(frames, surfels.local_means) + centers
        quats = quaternion_multiply(matrix_to_quaternion(frames), _unit(surfels.quats)[None])
        return PosedSurfels(means, quats, face_scales[..., None] * surfels.scales, None)
    frames, face_scales = rest.rotations[index], rest.scales[index]
    local = face_scales[:, None] * _apply(frames, surfels.local_means)
    jacobians = _surfel_jacobians(surfels, rest, posed, rigid_surfels)
    quats = quaternion_multiply(rest.quats[index], _unit(surfels.quats))
    return PosedSurfels(
        _apply(jacobians, local) + centers,
        quats.expand(batch, -1, -1),
        (face_scales[:, None] * surfels.scales).expand(batch, -1, -1),
        jacobians,
    )


def _transport_by_kernel(
    surfels: BoundSurfels, rest: RestMesh, posed: PosedFaces, rigid_surfels: Tensor | None
) -> PosedSurfels:
    if posed.jacobians is None:
        raise ValueError("posed faces must hold Jacobians for this rig")
    has_polar = posed.rotation_logs is not None
    if has_polar and surfels.blend_weights is None:
        raise ValueError("blend_weights must be given when polar factors are")
    placed = skin_surfels(
        surfels.local_means,
        surfels.quats,
        surfels.scales,
        surfels.blend_weights if has_polar else None,
        surfels.face_index,
        rigid_surfels,
        (rest.rotations, rest.quats, rest.scales),
        rest.adjacency,
        DeformedFaces(posed.centers, posed.jacobians, posed.rotation_logs, posed.stretches),
    )
    batch = placed.means.shape[0]
    return PosedSurfels(
        placed.means,
        placed.quats.expand(batch, -1, -1),
        placed.scales.expand(batch, -1, -1),
        placed.jacobians,
        placed.normals,
    )


def _surfel_jacobians(
    surfels: BoundSurfels, rest: RestMesh, posed: PosedFaces, rigid_surfels: Tensor | None
) -> Float[Tensor, "b n 3 3"]:
    index = surfels.face_index
    if posed.jacobians is None:
        raise ValueError("posed faces must hold Jacobians for this rig")
    if posed.rotation_logs is None or posed.stretches is None:
        return posed.jacobians[:, index]
    if surfels.blend_weights is None:
        raise ValueError("blend_weights must be given when polar factors are")
    neighbours = rest.adjacency[index]
    blended = blend_jacobians(
        posed.rotation_logs[:, neighbours], posed.stretches[:, neighbours], surfels.blend_weights
    )
    if rigid_surfels is None:
        return blended
    return torch.where(rigid_surfels[:, None, None], posed.jacobians[:, index], blended)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    # Faster on CPU than a batched matrix product of 3x3 with 3x1.
    return (matrices * vectors[..., None, :]).sum(dim=-1)


def _unit(quats: Tensor) -> Tensor:
    return torch.nn.functional.normalize(quats, dim=-1)

"""View directions and normals as the specular network and rotated colours need them.

A surfel's *canonical* directions are those of the world turned back by the rotation that carries
its triangle from rest to pose. Symbols: ``n`` surfels, ``m`` of them shaded, ``b`` frames.

Nothing here waits for the device or makes shapes depend on values, so that a training step can be
captured as a graph: which surfels are shaded is a tensor of indices, made when their number
changes.

Reference: spec of SurFhead sections 4.5 and 9.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.polar import polar_decomposition
from vultus.geometry.rotations import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    quaternion_multiply,
)
from vultus.geometry.spherical_harmonics import light_sh_basis, num_sh_terms
from vultus.methods.surfhead.transport import BoundSurfels, PosedFaces, PosedSurfels, RestMesh

__all__ = [
    "Shading",
    "canonical_rotations",
    "canonical_sh_colors",
    "place_rows",
    "rows_of",
    "shading_of",
]


@dataclass(frozen=True)
class Shading:
    """What decides the specular colour of m surfels, beside their features."""

    view_directions: Float[Tensor, "b m 3"]
    """Unit, from the camera to the surfel; canonical."""
    normals: Float[Tensor, "b m 3"]
    """Towards the camera, not unit length after a stretch; canonical, detached."""


def shading_of(
    surfels: BoundSurfels,
    rest: RestMesh,
    posed: PosedFaces,
    placed: PosedSurfels,
    camera_centers: Float[Tensor, "b 3"],
    chosen: Int[Tensor, " m"],
    rigid_surfels: Bool[Tensor, " n"] | None = None,
    *,
    official_quirks: bool = False,
) -> Shading:
    """Find view directions and normals of some surfels.

    Args:
        surfels: All bound surfels.
        rest: The canonical mesh.
        posed: Triangles of b frames.
        placed: ``transport`` of these surfels to these triangles.
        camera_centers: In the world.
        chosen: Which surfels.
        rigid_surfels: As in ``transport``.
        official_quirks: As in ``SpecularConfig``. Surfel i then has the local rotation of surfel
            number ``face_index[i]``, which is itself before the first densification only.
    """
    part = rows_of(surfels, chosen)
    rigid = None if rigid_surfels is None else rigid_surfels[chosen]
    directions = normalize(placed.means[:, chosen] - camera_centers[:, None], dim=-1)
    axes = _rows_of_placed(placed, chosen)
    if official_quirks:
        quats = _mistaken_quats(surfels, part, rest, posed)
        axes = replace(axes, quats=quats, gpu_normals=None)
    normals = axes.normals().detach()
    is_behind = (directions.detach() * normals).sum(dim=-1, keepdim=True) > 0
    normals = torch.where(is_behind, -normals, normals)
    if official_quirks and posed.rotations is not None:
        return Shading(directions, normals)
    rotations = canonical_rotations(part, rest, posed, rigid)
    canonical = _turn_back(rotations, directions)
    return Shading(canonical, normals if official_quirks else _turn_back(rotations, normals))


def canonical_rotations(
    surfels: BoundSurfels,
    rest: RestMesh,
    posed: PosedFaces,
    rigid_surfels: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, "b n 3 3"]:
    """Rotations that carry surfels from rest to pose, without their stretch.

    By the rig: of the triangle's frame (similarity), the polar rotation of its deformation gradient
    (jacobian), or the blended one (jbs; ``rigid_surfels`` take that of their own triangle). No
    gradient reaches the rig.
    """
    index = surfels.face_index
    if posed.rotations is not None:
        return (posed.rotations[:, index] @ rest.rotations[index].mT).detach()
    if posed.rotation_logs is None:
        if posed.jacobians is None:
            raise ValueError("posed faces must hold frames or Jacobians")
        return polar_decomposition(posed.jacobians[:, index].detach())[0]
    if surfels.blend_weights is None:
        raise ValueError("blend_weights must be given when polar factors are")
    logs = posed.rotation_logs[:, rest.adjacency[index]]
    blended = (surfels.blend_weights[..., None] * logs).sum(dim=-2)
    if rigid_surfels is not None:
        # Column 0 of the adjacency is the face itself.
        blended = torch.where(rigid_surfels[:, None], logs[..., 0, :], blended)
    return axis_angle_to_matrix(blended)


def canonical_sh_colors(
    sh_coeffs: Float[Tensor, "n k 3"],
    sh_degree: int,
    means: Float[Tensor, "b n 3"],
    camera_centers: Float[Tensor, "b 3"],
    rotations: Float[Tensor, "b n 3 3"],
) -> Float[Tensor, "b n 3"]:
    """Diffuse colour for canonical view directions: max(0, 0.5 + SH).

    The published code evaluates colours for directions in the world, so that a turned head shows
    colours that it never learned for that side; its option ``rotSH`` has no effect.
    """
    directions = _turn_back(rotations, normalize(means - camera_centers[:, None], dim=-1))
    x, y, z = directions.unbind(dim=-1)
    # A half turn about z changes the signs of odd orders, which is how the two bases differ; a
    # tensor of signs would be a copy to the GPU.
    basis = light_sh_basis(torch.stack([-x, -y, z], dim=-1), sh_degree)
    terms = sh_coeffs[:, : num_sh_terms(sh_degree)]
    return ((basis[..., None] * terms).sum(dim=-2) + 0.5).clamp(min=0.0)


def place_rows(
    values: Float[Tensor, "b m c"], chosen: Int[Tensor, " m"], num_rows: int
) -> Float[Tensor, "b n c"]:
    """Put rows where they belong among ``num_rows``; the others are zero."""
    empty = values.new_zeros(values.shape[0], num_rows, values.shape[2])
    return empty.index_copy(1, chosen, values)


def _mistaken_quats(
    surfels: BoundSurfels, part: BoundSurfels, rest: RestMesh, posed: PosedFaces
) -> Float[Tensor, "#b m 4"]:
    """Frames of the right triangles times local rotations of the wrong surfels."""
    local = normalize(surfels.quats[part.face_index], dim=-1)
    if posed.rotations is not None:
        frames = matrix_to_quaternion(posed.rotations[:, part.face_index])
    else:
        frames = rest.quats[part.face_index][None]
    return quaternion_multiply(frames, local.expand(frames.shape))


def rows_of(surfels: BoundSurfels, chosen: Int[Tensor, " m"]) -> BoundSurfels:
    """Some of the surfels."""
    weights = surfels.blend_weights
    return BoundSurfels(
        surfels.face_index[chosen],
        surfels.local_means[chosen],
        surfels.quats[chosen],
        surfels.scales[chosen],
        None if weights is None else weights[chosen],
    )


def _rows_of_placed(placed: PosedSurfels, chosen: Tensor) -> PosedSurfels:
    jacobians = placed.jacobians
    return PosedSurfels(
        placed.means[:, chosen],
        placed.quats[:, chosen],
        placed.scales[:, chosen],
        None if jacobians is None else jacobians[:, chosen],
        None if placed.gpu_normals is None else placed.gpu_normals[:, chosen],
    )


def _turn_back(rotations: Tensor, vectors: Tensor) -> Tensor:
    """Multiply by the transposed matrices."""
    return (rotations * vectors[..., :, None]).sum(dim=-2)

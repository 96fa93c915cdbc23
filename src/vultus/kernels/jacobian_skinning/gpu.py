"""Launches of the kernels for posed triangles and surfels, tied into autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vultus.kernels.jacobian_skinning import DeformedFaces, SkinnedSurfels
from vultus.kernels.jacobian_skinning._gpu_faces import deform, deform_backward
from vultus.kernels.jacobian_skinning._gpu_surfels import skin, skin_backward
from vultus.kernels.triton_calls import contiguous, or_other
from vultus.kernels.triton_runtime import launch

__all__ = ["deform_faces", "skin_surfels"]

_LANES = 32
"""A warp each: there are few triangles and surfels for a whole GPU."""


def deform_faces(
    vertices: Tensor, faces: Tensor, inverse_edges: Tensor, is_unit: bool, has_polar: bool
) -> DeformedFaces:
    """See ``vultus.kernels.jacobian_skinning.deform_faces``."""
    centers, jacobians, logs, stretches = _Deform.apply(
        vertices, faces, inverse_edges, is_unit, has_polar
    )
    return DeformedFaces(centers, jacobians, logs, stretches)


def skin_surfels(
    surfels: tuple[Tensor, Tensor, Tensor, Tensor | None],
    face_index: Tensor,
    is_rigid: Tensor | None,
    rest: tuple[Tensor, Tensor, Tensor],
    adjacency: Tensor,
    posed: DeformedFaces,
) -> SkinnedSurfels:
    """See ``vultus.kernels.jacobian_skinning.skin_surfels``."""
    has_blend = surfels[3] is not None
    if has_blend and (posed.rotation_logs is None or posed.stretches is None):
        raise ValueError("posed triangles must have polar factors where surfels have blend weights")
    factors = (posed.rotation_logs, posed.stretches) if has_blend else (None, None)
    constants = (face_index, is_rigid if has_blend else None, *rest, adjacency, *factors)
    means, quats, scales, jacobians, normals = _Skin.apply(
        constants, posed.centers, posed.jacobians, *surfels
    )
    return SkinnedSurfels(means, quats, scales, jacobians, normals)


class _Deform(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vertices: Tensor, faces: Tensor, inverse_edges: Tensor, is_unit: bool, polar: bool
    ) -> Any:
        vertices, faces, inverse_edges = (
            each.contiguous() for each in (vertices, faces, inverse_edges)
        )
        batch, num = vertices.shape[0], faces.shape[0]
        centers, jacobians = vertices.new_empty(batch, num, 3), vertices.new_empty(batch, num, 3, 3)
        logs, stretches = (torch.empty_like(centers), torch.empty_like(jacobians))
        launch(
            deform, (-(-num // _LANES), batch), vertices, faces, inverse_edges,
            centers, jacobians, logs, stretches, vertices.shape[1], num,
            IS_UNIT=is_unit, HAS_POLAR=polar, LANES=_LANES,
        )  # fmt: skip
        ctx.save_for_backward(vertices, faces, inverse_edges)
        ctx.is_unit = is_unit
        ctx.set_materialize_grads(False)
        if not polar:
            return centers, jacobians, None, None
        ctx.mark_non_differentiable(logs, stretches)
        return centers, jacobians, logs, stretches

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        vertices, faces, inverse_edges = ctx.saved_tensors
        centers, jacobians = contiguous(grads[:2])
        batch, num = vertices.shape[0], faces.shape[0]
        corners = vertices.new_empty(batch, num, 3, 3)
        launch(
            deform_backward, (-(-num // _LANES), batch), vertices, faces, inverse_edges,
            *or_other((centers, jacobians), corners), corners, vertices.shape[1], num,
            IS_UNIT=ctx.is_unit, HAS_CENTERS=centers is not None,
            HAS_JACOBIANS=jacobians is not None, LANES=_LANES,
        )  # fmt: skip
        grad = torch.zeros_like(vertices)
        grad.index_add_(1, faces.flatten(), corners.view(batch, 3 * num, 3))
        return grad, None, None, None, None


class _Skin(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, constants: tuple[Any, ...], centers: Tensor, jacobians: Tensor, *surfels: Any
    ) -> Any:
        constants = contiguous(constants)
        face_index, rigid, rotations, rest_quats, rest_scales, adjacency, logs, stretches = (
            constants
        )
        local_means, quats, scales, weights = contiguous(surfels)
        centers, jacobians = centers.contiguous(), jacobians.contiguous()
        batch, num = centers.shape[0], face_index.shape[0]
        new = local_means.new_empty
        placed = (
            new(batch, num, 3), new(num, 4), new(num, 2), new(batch, num, 3, 3), new(batch, num, 3),
        )  # fmt: skip
        launch(
            skin, (-(-num // _LANES), batch), local_means, quats, scales,
            *or_other((weights,), quats), face_index, *or_other((rigid,), face_index), rotations,
            rest_quats, rest_scales, adjacency, centers, jacobians,
            *or_other((logs, stretches), quats), *placed,
            num, centers.shape[1],
            HAS_BLEND=weights is not None, HAS_RIGID=rigid is not None, LANES=_LANES,
        )  # fmt: skip
        # An output must not be an attribute: it would keep its own graph alive.
        ctx.save_for_backward(placed[3], local_means, quats, weights)
        ctx.constants, ctx.num_faces = constants, centers.shape[1]
        ctx.set_materialize_grads(False)
        return placed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        jacobians, local_means, quats, weights = ctx.saved_tensors
        face_index, rigid, rotations, rest_quats, rest_scales, adjacency, logs, stretches = (
            ctx.constants
        )
        given = contiguous(grads)
        g_means, g_quats, g_scales, g_jacobians, g_normals = given
        batch, num = jacobians.shape[:2]
        new = local_means.new_empty
        needs_centers, needs_faces = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
        results = new(num, 3), new(num, 4), new(num, 2), None if weights is None else new(num, 4)
        own = new(batch, num, 3, 3) if needs_faces else None
        launch(
            skin_backward, (-(-num // _LANES),), local_means, quats,
            *or_other((weights,), quats), face_index, *or_other((rigid,), face_index), rotations,
            rest_quats, rest_scales, adjacency, *or_other((logs, stretches), quats), jacobians,
            *or_other((*given, *results, own), quats),
            num, ctx.num_faces, batch,
            HAS_BLEND=weights is not None, HAS_RIGID=rigid is not None,
            HAS_MEANS=g_means is not None, HAS_QUATS=g_quats is not None,
            HAS_SCALES=g_scales is not None, HAS_JACOBIANS=g_jacobians is not None,
            HAS_NORMALS=g_normals is not None, NEEDS_FACES=needs_faces, LANES=_LANES,
        )  # fmt: skip

        def per_face(values: Tensor) -> Tensor:
            total = new(batch, ctx.num_faces, *values.shape[2:]).zero_()
            return total.index_add_(1, face_index, values)

        grad_centers = per_face(g_means) if needs_centers and g_means is not None else None
        return None, grad_centers, None if own is None else per_face(own), *results

"""Attributes of Gaussians that follow expressions linearly (spec sections 3.2 and 4.1).

Symbols: ``n`` Gaussians, ``k`` expressions, ``b`` frames, ``f`` faces. An attribute of any shape
has a neutral value [n ...] and, where expressions change it, deltas [n ... k].

Reference: Ma et al., 3D Gaussian Blendshapes for Head Avatar Animation, SIGGRAPH 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from vultus.geometry.deformation import deformation_gradients, inverse_edge_matrices
from vultus.geometry.polar import polar_decomposition
from vultus.geometry.rotations import matrix_to_quaternion, quaternion_multiply
from vultus.kernels.dispatch import are_for_kernels
from vultus.kernels.masked_shapes import blend_shapes

__all__ = [
    "ExpressionMotions",
    "RotationRule",
    "blend_attributes",
    "expression_motions",
    "initial_mean_deltas",
    "initial_quat_deltas",
    "rotation_part",
]

RotationRule = Literal["polar", "three_steps"]
"""How the rotation of a face's motion is found: by polar decomposition, or as published by three
steps towards it, which fall short where faces are squashed to less than half."""

_PUBLISHED_STEPS = 3
_STILL = 1e-7
"""Faces that change by less do not turn."""


def blend_attributes(
    neutral: Mapping[str, Tensor],
    deltas: Mapping[str, Tensor],
    fixed: Mapping[str, Tensor],
    mask: Float[Tensor, "n k"],
    expression: Float[Tensor, "b k"],
) -> dict[str, Tensor]:
    """Sum neutral values and the share of every expression: a + Σ ψ_k (fixed_k + m_k delta_k).

    Gradients reach neutral values and deltas. Nothing is activated or normalised.

    Args:
        neutral: By name, [n ...].
        deltas: Trained deltas of some of these attributes, [n ... k].
        fixed: Constant deltas of some of these attributes, [n ... k], which the mask spares.
        mask: How far each Gaussian follows each expression.
        expression: ψ, not clamped.

    Returns:
        The attributes of every frame, [b n ...].

    Raises:
        ValueError: If deltas name an attribute that has no neutral value.
    """
    unknown = sorted((deltas.keys() | fixed.keys()) - neutral.keys())
    if unknown:
        raise ValueError(f"deltas of {unknown[0]!r} have no neutral value; got {list(neutral)}")
    if are_for_kernels(mask, expression, *neutral.values()):
        trained, constant = ([d.get(name) for name in neutral] for d in (deltas, fixed))
        blended = blend_shapes([*neutral.values()], trained, constant, mask, expression)
        return dict(zip(neutral, blended, strict=True))
    batch, num_expressions = expression.shape
    steered = expression[:, None] * mask
    blended = {}
    for name, value in neutral.items():
        total = value.expand(batch, *value.shape)
        if name in fixed:
            shares = fixed[name].reshape(-1, num_expressions) @ expression.T
            total = total + shares.T.reshape(total.shape)
        if name in deltas:
            table = deltas[name].reshape(value.shape[0], -1, num_expressions)
            total = total + _SteeredSum.apply(table, steered).reshape(total.shape)
        blended[name] = total
    return blended


class _SteeredSum(Function):
    """Sum deltas [n c k] with a weight for each Gaussian and expression [b n k]."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, steered: Tensor) -> Tensor:
        ctx.save_for_backward(steered)
        return (table @ steered.permute(1, 2, 0)).permute(2, 0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (steered,) = ctx.saved_tensors
        if len(grad) == 1:
            # Batches of outer products: PyTorch's matrix product is 10 times slower on a CPU.
            return grad[0, :, :, None] * steered[0, :, None, :], None
        return grad.permute(1, 2, 0) @ steered.transpose(0, 1), None


@dataclass(frozen=True)
class ExpressionMotions:
    """Affine maps x -> Q x + t of every face, from neutral to each expression at weight 1."""

    matrices: Float[Tensor, "k f 3 3"]
    offsets: Float[Tensor, "k f 3"]
    quats: Float[Tensor, "k f 4"]
    """Of the rotation part of Q, w > 0 for less than half a turn."""


def expression_motions(
    neutral: Float[Tensor, "v 3"],
    expressed: Float[Tensor, "k v 3"],
    faces: Int[Tensor, "f 3"],
    rule: RotationRule = "polar",
) -> ExpressionMotions:
    """Measure how each expression moves, turns and stretches each face.

    Args:
        neutral: The subject at rest.
        expressed: The same with one expression at weight 1 each, before joints turn.
        faces: Triangles. Two edges and the normal of length sqrt(2 area) make the affine frame;
            the published one starts its normal at the centroid, which changes nothing.
        rule: How the rotation is found.

    Raises:
        ValueError: If a face of the neutral mesh has no area; the message names the first one.
    """
    inverse = inverse_edge_matrices(neutral, faces, "sqrt_area")
    matrices = deformation_gradients(expressed, faces, inverse, "sqrt_area")
    origin = neutral[faces[:, 0]]
    offsets = expressed[:, faces[:, 0]] - (matrices @ origin[..., None])[..., 0]
    return ExpressionMotions(matrices, offsets, _rotation_quats(matrices, rule))


def initial_mean_deltas(
    motions: ExpressionMotions, face_index: Int[Tensor, " n"], means: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 3 k"]:
    """What expressions do to points that stick to their faces: (Q - I) x + t."""
    moved = (motions.matrices[:, face_index] @ means[..., None])[..., 0]
    return (moved + motions.offsets[:, face_index] - means).permute(1, 2, 0).contiguous()


def initial_quat_deltas(
    motions: ExpressionMotions, face_index: Int[Tensor, " n"], quats: Float[Tensor, "n 4"]
) -> Float[Tensor, "n 4 k"]:
    """What expressions add to quaternions that turn with their faces: (q - 1) times q0."""
    turned = quaternion_multiply(motions.quats[:, face_index], quats)
    return (turned - quats).permute(1, 2, 0).contiguous()


def rotation_part(
    matrices: Float[Tensor, "*b 3 3"], num_steps: int = _PUBLISHED_STEPS
) -> Float[Tensor, "*b 3 3"]:
    """Take steps R <- (R + R^-T) / 2 towards the nearest rotation.

    Three steps are exact to float32 for means of joint rotations within a quarter turn of each
    other. Nothing waits for the device. The result is not finite for singular matrices.

    Reference: Higham, Computing the Polar Decomposition, 1986.
    """
    for _ in range(num_steps):
        first, second, third = matrices.unbind(dim=-2)
        cofactors = torch.stack(
            [
                torch.linalg.cross(second, third),
                torch.linalg.cross(third, first),
                torch.linalg.cross(first, second),
            ],
            dim=-2,
        )
        determinants = (first * cofactors[..., 0, :]).sum(dim=-1)[..., None, None]
        matrices = 0.5 * (matrices + cofactors / determinants)
    return matrices


def _rotation_quats(matrices: Tensor, rule: RotationRule) -> Float[Tensor, "k f 4"]:
    if rule == "polar":
        # Most expressions leave most faces alone, and polar decomposition is slow.
        changes = (matrices - torch.eye(3, dtype=matrices.dtype, device=matrices.device)).abs()
        is_moved = changes.amax(dim=(-2, -1)) > _STILL
        quats = matrices.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(*is_moved.shape, 1)
        quats[is_moved] = matrix_to_quaternion(polar_decomposition(matrices[is_moved])[0])
        return quats
    rotations = rotation_part(matrices)
    unit = matrix_to_quaternion(rotations)
    # What is left of a stretch is published as the norm: w² = (1 + trace) / 4, the rest follows.
    real = 0.5 * (1.0 + rotations.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)).sqrt()
    is_largest = unit[..., :1] > unit[..., 1:].abs().amax(dim=-1, keepdim=True)
    return torch.where(is_largest, unit * real / unit[..., :1], unit)

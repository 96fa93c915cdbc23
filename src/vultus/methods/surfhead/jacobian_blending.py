"""Jacobian blend skinning: blend face Jacobians per surfel in the polar basis.

Reference: SurFhead (arXiv 2410.11682), Jacobian Blend Skinning.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.geometry.rotations import axis_angle_to_matrix

__all__ = ["blend_jacobians", "blend_weights", "distance_weights", "initial_blend_logits"]

# Per metre: on a head, whose triangles are millimetres wide, weights are almost equal.
_DISTANCE_FALLOFF = 4.0


def initial_blend_logits(num_surfels: int, self_probability: float = 0.9) -> Float[Tensor, "n 4"]:
    """Start with most weight on the surfel's own face (0.857 after normalisation by default)."""
    others = (1.0 - self_probability) / 2.0
    probabilities = torch.tensor([self_probability, others, others, others])
    return torch.logit(probabilities).repeat(num_surfels, 1)


def blend_weights(logits: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Sigmoid, then divide by the sum over the four faces."""
    return torch.nn.functional.normalize(logits.sigmoid(), p=1.0, dim=-1)


def distance_weights(
    means: Float[Tensor, "n 3"], face_centers: Float[Tensor, "n 4 3"]
) -> Float[Tensor, "n 4"]:
    """Fixed weights in place of learned ones: exp(-4 distance to each face), divided by their sum.

    An ablation of the 2024 release (--train_kinematic_dist).

    Args:
        means: Places of the surfels on the rest mesh, metres.
        face_centers: Of a surfel's face and of its neighbours, metres.
    """
    distances = (means[:, None] - face_centers).norm(dim=-1)
    return (-_DISTANCE_FALLOFF * distances).softmax(dim=-1)


def blend_jacobians(
    rotation_logs: Float[Tensor, "*b n 4 3"],
    stretches: Float[Tensor, "*b n 4 3 3"],
    weights: Float[Tensor, "n 4"],
) -> Float[Tensor, "*b n 3 3"]:
    """Blend the Jacobians of a surfel's face and its neighbours.

    Rotations are averaged as axis-angle vectors, stretches linearly: J = exp(sum w r) sum w U.
    Rotations near angle pi are discontinuous in this average; neighbouring faces rarely differ
    there.

    Args:
        rotation_logs: Axis-angle vectors of the polar rotations, radians.
        stretches: Symmetric polar stretches.
        weights: Rows sum to one.
    """
    log = (weights[..., None] * rotation_logs).sum(dim=-2)
    stretch = (weights[..., None, None] * stretches).sum(dim=-3)
    rotation = axis_angle_to_matrix(log)
    # A sum of outer products: on CPU faster than a batched product of 3x3 matrices.
    return sum_of_outer_products(rotation, stretch)


def sum_of_outer_products(
    left: Float[Tensor, "*b 3 3"], right: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b 3 3"]:
    """Multiply small matrices column by row."""
    columns, rows = left.unbind(dim=-1), right.unbind(dim=-2)
    first, *others = [
        column[..., :, None] * row[..., None, :] for column, row in zip(columns, rows, strict=True)
    ]
    for term in others:
        first = first + term
    return first

"""Polar decomposition of batches of 3x3 matrices, without a singular value decomposition.

Symbols: J = Q U with Q a rotation and U symmetric; s1 >= s2 >= |s3| the singular values of J, s3
with the sign of det J; lambda = s1 + s2 + s3; C the cofactor matrix of J.
Inside, matrices are stored entry-major, ``[3, 3, n]``, so that every operation is one pass over
contiguous numbers: a batched 3x3 product costs more in calls than in arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, addcmul

__all__ = ["polar_decomposition"]

# Newton's method starts above the largest root and converges to it from there. Towards a double
# root (s2 + s3 -> 0) it halves the distance in each step until it comes near, then converges
# quadratically: the usual matrices of a face need 5 steps, s2 + s3 = 1e-5 needs 15 + 5.
_NEWTON_STEPS = 20
# (s1 + s2)(s2 + s3)(s3 + s1) of a matrix of unit norm, about s2 + s3 when that is small.
_SMALLEST_ZETA = 1e-5


def polar_decomposition(
    matrices: Float[Tensor, "*b 3 3"],
) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 3 3"]]:
    """Split matrices into rotations and symmetric stretches, J = Q U.

    Computed in float64 whatever the input. Gradients (of any order) exist for repeated singular
    values, where those of an SVD do not. They grow as 1 / (s2 + s3).

    Args:
        matrices: Deformation gradients. With a negative determinant Q is still a rotation, and U
            has one negative eigenvalue.

    Returns:
        Rotations Q and stretches U. Where two singular values vanish (or s2 = -s3) the rotation is
        not unique; from s2 + s3 < 1e-5 |J| on, Q is the identity, and its gradient is bounded but
        means nothing.

    Reference: Markley, Attitude determination using vector observations: a fast optimal matrix
    algorithm, J. Astronautical Sciences 41(2), 1993, eqs. 14-20.
    """
    rotations, stretches = _Polar.apply(matrices)
    return rotations, stretches


class _Polar(torch.autograd.Function):
    """Forward by Markley's closed form; derivative by implicit differentiation of U = Uᵀ."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> tuple[Tensor, Tensor]:
        entries = matrices.reshape(-1, 3, 3).permute(1, 2, 0).to(torch.float64).contiguous()
        rotation = _nearest_rotation(entries)
        stretch = _product(rotation.transpose(0, 1), entries)
        stretch = 0.5 * (stretch + stretch.transpose(0, 1))
        rotations, stretches = (
            part.permute(2, 0, 1).to(matrices.dtype).reshape(matrices.shape)
            for part in (rotation, stretch)
        )
        ctx.save_for_backward(rotations, stretches)
        return rotations, stretches

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # With dQ = Q W, W the skew matrix of w: (tr(U) I - U) w = axial(Qᵀ dJ), dU = Qᵀ dJ - W U.
        # Below is the adjoint of these two lines. It is made of differentiable operations.
        rotations, stretches = ctx.saved_tensors
        grad_rotations, grad_stretches = gradients
        q, u, grad_q, grad_u = (
            part.reshape(-1, 3, 3).permute(1, 2, 0).to(torch.float64)
            for part in (rotations, stretches, grad_rotations, grad_stretches)
        )
        skew = _solve_rotation(u, _axial(_product(q.transpose(0, 1), grad_q) - _product(grad_u, u)))
        grad = _product(q, grad_u + skew)
        return grad.permute(2, 0, 1).to(rotations.dtype).reshape(rotations.shape)


def _nearest_rotation(entries: Tensor) -> Tensor:
    """Q of matrices of any scale, entry-major."""
    tiny = torch.finfo(entries.dtype).tiny
    norm = entries.square().sum((0, 1)).sqrt()
    j = entries / norm.clamp(min=tiny)
    cofactors = _cofactors(j)
    det = (j[0] * cofactors[0]).sum(0)
    # lambda is the largest root of l⁴ - 2 l² - 8 det l + 1 - 4 |C|² for |J| = 1, at most sqrt(3).
    constant = 1 - 4 * cofactors.square().sum((0, 1))
    linear = -8 * det
    root = torch.full_like(det, 3**0.5)
    for _ in range(_NEWTON_STEPS):
        squared = root.square()
        value = addcmul(constant, addcmul(linear, squared - 2, root), root)
        slope = addcmul(linear, squared - 1, root, value=4)
        root = root - (value / slope.clamp(min=tiny)).clamp(min=0)
    kappa = 0.5 * (root.square() - 1)
    zeta = kappa * root - det
    gram = _product(j.transpose(0, 1), j)
    rotation = ((kappa + 1) * j + root * cofactors - _product(j, gram)) / zeta
    identity = torch.eye(3, dtype=j.dtype, device=j.device)[..., None]
    # NaN passes through: only finite matrices without a unique rotation get the identity.
    has_none = (zeta < _SMALLEST_ZETA) | (norm <= tiny)
    return torch.where(has_none, identity, rotation)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product, entry-major."""
    return a[:, :1] * b[0] + a[:, 1:2] * b[1] + a[:, 2:] * b[2]


def _cofactors(a: Tensor) -> Tensor:
    """Cofactor matrices (det A · A⁻ᵀ), entry-major: crosses of consecutive rows."""
    wrapped = torch.cat([a, a[:2]])
    wrapped = torch.cat([wrapped, wrapped[:, :2]], dim=1)
    return wrapped[1:4, 1:4] * wrapped[2:5, 2:5] - wrapped[1:4, 2:5] * wrapped[2:5, 1:4]


def _axial(a: Tensor) -> Tensor:
    """The vector of A - Aᵀ, entry-major."""
    return torch.stack([a[2, 1] - a[1, 2], a[0, 2] - a[2, 0], a[1, 0] - a[0, 1]])


def _solve_rotation(stretch: Tensor, axial: Tensor) -> Tensor:
    """The skew matrix of y where (tr(U) I - U) y = axial, entry-major."""
    trace = stretch[0, 0] + stretch[1, 1] + stretch[2, 2]
    identity = torch.eye(3, dtype=stretch.dtype, device=stretch.device)[..., None]
    system = trace * identity - stretch
    cofactors = _cofactors(system)
    det = (system[0] * cofactors[0]).sum(0)
    scale = stretch.square().sum((0, 1)).sqrt().clamp(min=torch.finfo(stretch.dtype).tiny)
    det = det.clamp(min=_SMALLEST_ZETA * scale**3 + torch.finfo(stretch.dtype).tiny)
    x, y, z = (cofactors * axial).sum(1) / det
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).unflatten(0, (3, 3))

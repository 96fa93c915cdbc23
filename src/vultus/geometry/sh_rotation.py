"""Rotation of colors that spherical harmonics hold, many at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vultus.geometry.spherical_harmonics import color_sh_basis, sh_degree_of

__all__ = ["rotate_color_sh"]

_NUM_DIRECTIONS = 32
"""Twice the terms of degree 3: the linear system has a condition of about 2."""


def rotate_color_sh(
    coeffs: Float[Tensor, "*#b k 3"], rotations: Float[Tensor, "*#b 3 3"]
) -> Float[Tensor, "*#b k 3"]:
    """Turn colors: the result in direction R d is what was there in direction d.

    Differentiable in both. Up to degree 4.

    Args:
        coeffs: All terms up to some degree, signs as in 3D Gaussian splatting.
        rotations: Orthonormal.
    """
    degree = sh_degree_of(coeffs.shape[-2])
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(_NUM_DIRECTIONS, 3, generator=generator, dtype=torch.float64)
    directions = normalize(directions, dim=1)
    # Each degree is closed under rotation, so the system has an exact solution.
    solve = torch.linalg.pinv(color_sh_basis(directions, degree)).to(coeffs)
    turned_back = directions.to(rotations) @ rotations
    return solve @ (color_sh_basis(turned_back, degree) @ coeffs)

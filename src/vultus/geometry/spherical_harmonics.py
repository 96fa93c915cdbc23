"""Real spherical harmonics: one basis for light, the same with other signs for colors of Gaussians.

Order of the terms: l·l + l + m. The basis for light is orthonormal on the sphere, without the
Condon-Shortley phase: its linear terms are positive multiples of y, z, x. Colors have the signs of
3D Gaussian splatting, which multiply term (l, m) by (-1)^m.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "COSINE_LOBE",
    "MAX_SH_DEGREE",
    "color_sh_basis",
    "evaluate_color_sh",
    "light_sh_basis",
    "light_sh_rotation",
    "num_sh_terms",
    "sh_degree_of",
]

MAX_SH_DEGREE = 4
COSINE_LOBE = (math.pi, *[2.0 * math.pi / 3.0] * 3, *[math.pi / 4.0] * 5)
"""What a cosine lobe multiplies the terms of a light of degree 2 by.

Reference: Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps,
2001, eq. 8.
"""

# Directions of the linear system for a rotation: several times the terms of the largest degree.
_NUM_DIRECTIONS = 128


def num_sh_terms(degree: int) -> int:
    """Number of terms up to a degree."""
    return (degree + 1) ** 2


def sh_degree_of(num_terms: int) -> int:
    """Degree of a number of terms.

    Raises:
        ValueError: If the number is not a square.
    """
    degree = math.isqrt(num_terms) - 1
    if degree < 0 or num_sh_terms(degree) != num_terms:
        raise ValueError(f"the number of SH terms must be (degree + 1)^2, got {num_terms}")
    return degree


def light_sh_basis(directions: Float[Tensor, "*b 3"], degree: int) -> Float[Tensor, "*b k"]:
    """Evaluate the orthonormal basis without Condon-Shortley phase.

    Args:
        directions: Unit vectors.
        degree: 0 to ``MAX_SH_DEGREE``.

    Raises:
        ValueError: If the degree is out of range.

    Reference: Sloan, Stupid Spherical Harmonics Tricks, 2008, appendix A2 (with the phase removed).
    """
    if not 0 <= degree <= MAX_SH_DEGREE:
        raise ValueError(f"degree must lie in [0, {MAX_SH_DEGREE}], got {degree}")
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, 0.5 / math.sqrt(math.pi))]
    if degree >= 1:
        c = math.sqrt(3 / (4 * math.pi))
        terms += [c * y, c * z, c * x]
    if degree >= 2:
        terms += _degree_2(x, y, z)
    if degree >= 3:
        terms += _degree_3(x, y, z)
    if degree >= 4:
        terms += _degree_4(x, y, z)
    return torch.stack(terms, dim=-1)


def light_sh_rotation(rotation: Float[Tensor, "*b 3 3"], degree: int) -> Float[Tensor, "*b k k"]:
    """Find the matrix that turns light: what came from d then comes from ``rotation @ d``.

    Args:
        rotation: Orthonormal; one with determinant -1 mirrors.
        degree: 0 to ``MAX_SH_DEGREE``.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(_NUM_DIRECTIONS, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(directions, dim=1)
    # Turned light comes from a direction as the light before came from the direction turned back.
    # Each degree is closed under rotation, so the system has an exact solution.
    turned_back = directions @ rotation.detach().to("cpu", torch.float64)
    solve = torch.linalg.pinv(light_sh_basis(directions, degree))
    return (solve @ light_sh_basis(turned_back, degree)).to(rotation)


def color_sh_basis(directions: Float[Tensor, "*b 3"], degree: int) -> Float[Tensor, "*b k"]:
    """Evaluate the basis with the signs of 3D Gaussian splatting.

    Args:
        directions: Unit vectors from the camera to the Gaussian, world axes.
        degree: 0 to ``MAX_SH_DEGREE``.

    Raises:
        ValueError: If the degree is out of range.
    """
    orders = [m for band in range(degree + 1) for m in range(-band, band + 1)]
    signs = [-1.0 if m % 2 else 1.0 for m in orders]
    return light_sh_basis(directions, degree) * directions.new_tensor(signs)


def evaluate_color_sh(
    sh_coeffs: Float[Tensor, "*#b k 3"], directions: Float[Tensor, "*#b 3"], degree: int
) -> Float[Tensor, "*#b 3"]:
    """Sum color coefficients over the basis up to a degree; the caller adds 0.5 and clamps.

    Terms above the degree are ignored, so that the active degree can grow during training.

    Raises:
        ValueError: If there are fewer coefficients than the degree needs.
    """
    terms = num_sh_terms(degree)
    if sh_coeffs.shape[-2] < terms:
        raise ValueError(
            f"sh_coeffs must have at least {terms} terms for degree {degree}, "
            f"got {sh_coeffs.shape[-2]}"
        )
    basis = color_sh_basis(directions, degree)
    return (basis[..., None] * sh_coeffs[..., :terms, :]).sum(dim=-2)


def _degree_2(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    c = math.sqrt(15 / math.pi)
    return [
        c / 2 * x * y,
        c / 2 * y * z,
        math.sqrt(5 / math.pi) / 4 * (2 * z * z - x * x - y * y),
        c / 2 * x * z,
        c / 4 * (x * x - y * y),
    ]


def _degree_3(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    outer, middle = math.sqrt(35 / (2 * math.pi)) / 4, math.sqrt(105 / math.pi) / 4
    inner = math.sqrt(21 / (2 * math.pi)) / 4
    return [
        outer * y * (3 * xx - yy),
        2 * middle * x * y * z,
        inner * y * (4 * zz - xx - yy),
        math.sqrt(7 / math.pi) / 4 * z * (2 * zz - 3 * xx - 3 * yy),
        inner * x * (4 * zz - xx - yy),
        middle * z * (xx - yy),
        outer * x * (xx - 3 * yy),
    ]


def _degree_4(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    c4, c3 = 3 * math.sqrt(35 / math.pi) / 16, 3 * math.sqrt(35 / (2 * math.pi)) / 4
    c2, c1 = 3 * math.sqrt(5 / math.pi) / 8, 3 * math.sqrt(5 / (2 * math.pi)) / 4
    return [
        4 * c4 * x * y * (xx - yy),
        c3 * y * z * (3 * xx - yy),
        2 * c2 * x * y * (7 * zz - 1),
        c1 * y * z * (7 * zz - 3),
        3 / (16 * math.sqrt(math.pi)) * (35 * zz * zz - 30 * zz + 3),
        c1 * x * z * (7 * zz - 3),
        c2 * (xx - yy) * (7 * zz - 1),
        c3 * x * z * (xx - 3 * yy),
        c4 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
    ]

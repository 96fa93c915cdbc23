from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from tolerances import assert_close
from vultus.geometry import spherical_harmonics as S


def directions(count: int = 100) -> torch.Tensor:
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).double()
    return vectors / vectors.norm(dim=1, keepdim=True)


def from_scipy(vectors: torch.Tensor, degree: int) -> torch.Tensor:
    """Real harmonics with the Condon-Shortley phase removed."""
    x, y, z = vectors.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    terms = []
    for band in range(degree + 1):
        for m in range(-band, band + 1):
            value = sph_harm_y(band, abs(m), polar, azimuth) * (-1) ** abs(m)
            part = value.imag if m < 0 else value.real
            terms.append(part * (math.sqrt(2) if m else 1))
    return torch.from_numpy(np.stack(terms, axis=-1))


@pytest.mark.parametrize("degree", range(S.MAX_SH_DEGREE + 1))
def test_light_basis_equals_scipys_without_phase(degree: int) -> None:
    assert_close(S.light_sh_basis(directions(), degree), from_scipy(directions(), degree))


def test_light_basis_is_orthonormal() -> None:
    heights, weights = np.polynomial.legendre.leggauss(10)
    azimuths = 2 * np.pi * np.arange(20) / 20
    z, azimuth = np.meshgrid(heights, azimuths, indexing="ij")
    ring = np.sqrt(1 - z**2)
    points = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), z], -1).reshape(-1, 3)
    basis = S.light_sh_basis(torch.from_numpy(points), 4)
    measure = torch.from_numpy(np.repeat(weights, 20) * 2 * np.pi / 20)
    assert_close(basis.T @ (measure[:, None] * basis), torch.eye(25).double())


def test_color_basis_flips_the_odd_orders() -> None:
    light, color = S.light_sh_basis(directions(), 3), S.color_sh_basis(directions(), 3)
    flipped = [1, 3, 5, 7, 9, 11, 13, 15]
    assert torch.equal(color[:, flipped], -light[:, flipped])
    kept = [0, 2, 4, 6, 8, 10, 12, 14]
    assert torch.equal(color[:, kept], light[:, kept])


def test_terms_above_the_active_degree_are_ignored() -> None:
    generator = torch.Generator().manual_seed(1)
    coefficients = torch.randn(100, 16, 3, generator=generator).double()
    low = S.evaluate_color_sh(coefficients[:, :4], directions(), 1)
    assert torch.equal(S.evaluate_color_sh(coefficients, directions(), 1), low)
    basis = S.color_sh_basis(directions(), 3)
    expected = torch.einsum("nk,nkc->nc", basis, coefficients)
    assert_close(S.evaluate_color_sh(coefficients, directions(), 3), expected)


def test_degrees_and_counts_that_cannot_be_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"degree must lie in \[0, 4\], got 5"):
        S.light_sh_basis(directions(), 5)
    with pytest.raises(ValueError, match="at least 9 terms for degree 2, got 4"):
        S.evaluate_color_sh(torch.zeros(100, 4, 3).double(), directions(), 2)
    with pytest.raises(ValueError, match="got 5"):
        S.sh_degree_of(5)
    assert [S.sh_degree_of(S.num_sh_terms(degree)) for degree in range(5)] == list(range(5))

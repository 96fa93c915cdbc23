"""Polar decomposition against the singular value decomposition.

Its speed is measured by ``python tests/geometry/polar_speed.py``.
"""

from __future__ import annotations

import pytest
import torch

from tolerances import assert_close
from vultus.geometry.polar import polar_decomposition
from vultus.geometry.rotations import axis_angle_to_matrix


def random_rotations(count: int, generator: torch.Generator) -> torch.Tensor:
    return axis_angle_to_matrix(2 * torch.randn(count, 3, generator=generator).double())


def matrices_with(singular_values: list[float], count: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left, right = (random_rotations(count, generator) for _ in range(2))
    return left @ torch.diag(torch.tensor(singular_values).double()) @ right.mT


def by_svd(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest rotation (special orthogonal Procrustes) and stretch."""
    u, _, vh = torch.linalg.svd(matrices)
    signs = torch.ones_like(matrices[..., 0])
    signs[..., 2] = torch.linalg.det(u @ vh).sign()
    rotations = u @ torch.diag_embed(signs) @ vh
    return rotations, rotations.mT @ matrices


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("singular_values", "tolerance"),
    [
        ([1, 1, 1], 1e-13),
        ([2, 1, 1], 1e-13),
        ([2, 2, 1], 1e-13),
        ([3, 2, 1], 1e-13),
        ([1, 1, 1e-4], 1e-13),
        ([1, 1e-2, 1e-4], 1e-9),
        ([1, 1e-4, 1e-4], 1e-8),
        ([1, 0.5, 0], 1e-12),
        ([3, 2, -1], 1e-12),
    ],
)
def test_factors_agree_with_the_svd(
    singular_values: list[float], tolerance: float, scale: float
) -> None:
    matrices = scale * matrices_with(singular_values)
    rotations, stretches = polar_decomposition(matrices)
    expected_rotations, expected_stretches = by_svd(matrices)
    torch.testing.assert_close(rotations, expected_rotations, rtol=0, atol=tolerance)
    torch.testing.assert_close(stretches, expected_stretches, rtol=0, atol=tolerance * scale * 10)


def test_float32_results_are_correctly_rounded_for_condition_numbers_to_1e4() -> None:
    matrices = matrices_with([1, 1e-4, 1e-4]).float()
    rotations, _ = polar_decomposition(matrices)
    expected, _ = by_svd(matrices.double())
    assert float((rotations - expected).abs().max()) < 1e-7


def test_the_polar_factor_of_a_rotation_is_itself() -> None:
    rotations = random_rotations(100, torch.Generator().manual_seed(1))
    factor, stretches = polar_decomposition(rotations)
    assert_close(factor, rotations)
    assert_close(stretches, torch.eye(3).double().expand(100, 3, 3))


def test_factors_follow_rotations_from_both_sides() -> None:
    matrices = matrices_with([3, 2, 1])
    left, right = (random_rotations(1, torch.Generator().manual_seed(seed)) for seed in (2, 3))
    rotations, stretches = polar_decomposition(matrices)
    moved_rotations, moved_stretches = polar_decomposition(left @ matrices @ right)
    assert_close(moved_rotations, left @ rotations @ right)
    assert_close(moved_stretches, right.mT @ stretches @ right)


def test_leading_dimensions_are_kept() -> None:
    matrices = matrices_with([3, 2, 1], 24)
    flat, _ = polar_decomposition(matrices)
    shaped, _ = polar_decomposition(matrices.reshape(2, 3, 4, 3, 3))
    assert torch.equal(shaped.reshape(24, 3, 3), flat)
    assert polar_decomposition(matrices[:0])[0].shape == (0, 3, 3)


@pytest.mark.parametrize(
    "singular_values", [[3, 2, 1], [2, 2, 1], [2, 1, 1], [1, 1, 1], [1, 0.1, 0.1], [3, 2, -1]]
)
def test_gradients_are_right_also_for_repeated_singular_values(
    singular_values: list[float],
) -> None:
    matrices = matrices_with(singular_values, 3).requires_grad_()
    assert torch.autograd.gradcheck(polar_decomposition, matrices)
    assert torch.autograd.gradgradcheck(polar_decomposition, matrices[:1].detach().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("singular_values", [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, -1]])
def test_singular_matrices_give_finite_factors_and_gradients(
    singular_values: list[float], dtype: torch.dtype
) -> None:
    matrices = matrices_with(singular_values, 20).to(dtype).requires_grad_()
    rotations, stretches = polar_decomposition(matrices)
    (rotations.sum() + stretches.sum()).backward()
    assert matrices.grad is not None
    assert matrices.grad.isfinite().all()
    identity = torch.eye(3, dtype=dtype).expand_as(rotations)
    assert_close(rotations.mT @ rotations, identity, looser=100, reason="rounding over 1 / (s2+s3)")


def test_nan_is_not_hidden() -> None:
    matrices = matrices_with([3, 2, 1], 2)
    matrices[1, 0, 0] = torch.nan
    rotations, _ = polar_decomposition(matrices)
    assert rotations[0].isfinite().all()
    assert rotations[1].isnan().any()

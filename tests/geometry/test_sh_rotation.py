"""Colors turn with what they are colors of."""

from __future__ import annotations

import pytest
import torch

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.geometry.sh_rotation import rotate_color_sh
from vultus.geometry.spherical_harmonics import evaluate_color_sh, num_sh_terms


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_a_turned_color_in_a_turned_direction_is_the_color_before(degree: int) -> None:
    coeffs, rotations = normal(7, num_sh_terms(degree), 3), axis_angle_to_matrix(normal(7, 3))
    directions = torch.nn.functional.normalize(normal(7, 3, seed=1), dim=1)
    turned = (rotations @ directions[..., None])[..., 0]
    after = evaluate_color_sh(rotate_color_sh(coeffs, rotations), turned, degree)
    torch.testing.assert_close(after, evaluate_color_sh(coeffs, directions, degree))


def test_turning_there_and_back_changes_nothing_and_turns_compose() -> None:
    coeffs, (first, second) = normal(16, 3), axis_angle_to_matrix(normal(2, 3, seed=2))
    there = rotate_color_sh(coeffs, first)
    torch.testing.assert_close(rotate_color_sh(there, first.mT), coeffs)
    torch.testing.assert_close(
        rotate_color_sh(there, second), rotate_color_sh(coeffs, second @ first)
    )


def test_one_rotation_turns_the_colors_of_all() -> None:
    coeffs, rotation = normal(5, 9, 3), axis_angle_to_matrix(normal(3))
    alone = torch.stack([rotate_color_sh(each, rotation) for each in coeffs])
    torch.testing.assert_close(rotate_color_sh(coeffs, rotation), alone)


def test_gradients_agree_with_finite_differences() -> None:
    coeffs, axis_angles = normal(2, 9, 3).requires_grad_(), normal(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c, a: rotate_color_sh(c, axis_angle_to_matrix(a)), (coeffs, axis_angles)
    )

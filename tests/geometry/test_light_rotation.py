"""Rotations of light in spherical harmonics."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.geometry.spherical_harmonics import light_sh_basis, light_sh_rotation


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_turned_light_comes_from_turned_directions(degree: int) -> None:
    generator = torch.Generator().manual_seed(degree)
    first, second = axis_angle_to_matrix(torch.randn(2, 3, generator=generator).double())
    directions = normalize(torch.randn(20, 3, generator=generator).double(), dim=1)
    light = torch.randn((degree + 1) ** 2, generator=generator).double()
    turned = light_sh_rotation(first, degree) @ light
    before = light_sh_basis(directions, degree) @ light
    after = light_sh_basis(directions @ first.T, degree) @ turned
    assert torch.allclose(after, before, atol=1e-10)
    both = light_sh_rotation(second @ first, degree)
    steps = light_sh_rotation(second, degree) @ light_sh_rotation(first, degree)
    assert torch.allclose(both, steps, atol=1e-10)
    identity = torch.eye(len(light)).double()
    assert torch.allclose(both.T @ both, identity, atol=1e-10)


def test_mirrors_change_the_signs_of_odd_terms() -> None:
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    # Order 1 Y Z X XY YZ 3ZZ-1 XZ XX-YY: three terms are odd in X.
    signs = torch.tensor([1.0, 1, 1, -1, -1, 1, 1, -1, 1])
    assert torch.allclose(light_sh_rotation(mirror, 2), torch.diag(signs), atol=1e-5)
